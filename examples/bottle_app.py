"""The city application in Bottle. README.md describes its requests and how to load the cities.

    WSGIDB_URL=sqlite:///cities.sqlite3 gunicorn --pythonpath examples bottle_app:application
"""

from __future__ import annotations

from collections.abc import Iterator

from bottle import Bottle, abort, redirect, request, response, static_file

from cities import CSV, HINT, CityExists, add_cities, answer, list_cities, page_of
from wsgidb import DatabaseMiddleware

app = Bottle()


@app.get("/")
def index() -> str:
    name = request.query.getunicode("city") or abort(400, HINT)
    text, response.status = answer(request.environ["db.conn"], name)
    response.content_type = "text/plain; charset=utf-8"
    return text


@app.post("/")
def add() -> None:
    names = request.forms.decode().getall("city")
    try:
        add_cities(request.environ["db.conn"], names)
    except CityExists as error:
        abort(409, str(error))  # rolls back what was added before
    redirect(page_of(names[-1]), 303)


@app.get("/cities")
def listing() -> Iterator[bytes]:
    response.content_type = "text/plain; charset=utf-8"
    return list_cities(request.environ["db.conn"])


@app.get("/cities.csv")
def download() -> object:
    return static_file(CSV.name, root=CSV.parent)


application = DatabaseMiddleware(app, transaction="request")
