"""The city application in Flask. README.md describes its requests and how to load the cities.

    WSGIDB_URL=sqlite:///cities.sqlite3 flask --app examples/flask_app run
"""

from __future__ import annotations

from flask import Flask, Response, abort, redirect, request, send_file
from werkzeug.wrappers import Response as AnyResponse

from cities import CSV, HINT, CityExists, add_cities, answer, list_cities, page_of
from wsgidb import Connection, DatabaseMiddleware, get_connection

app = Flask(__name__)
app.wsgi_app = DatabaseMiddleware(app.wsgi_app, transaction="request")  # type: ignore[method-assign]  # as Flask's documentation recommends


def get_db() -> Connection:
    """The request's connection, under the name that Flask's tutorial uses. It needs no teardown function."""
    return get_connection(request.environ)


@app.get("/")
def index() -> Response:
    if name := request.args.get("city"):
        return Response(*answer(get_db(), name), mimetype="text/plain")
    abort(400, HINT)


@app.post("/")
def add() -> AnyResponse:
    names = request.form.getlist("city")
    try:
        add_cities(get_db(), names)
    except CityExists as error:
        abort(409, str(error))  # rolls back what was added before
    return redirect(page_of(names[-1]), 303)


@app.get("/cities")
def listing() -> Response:
    return Response(list_cities(get_db()), mimetype="text/plain")


@app.get("/cities.csv")
def download() -> Response:
    return send_file(CSV)
