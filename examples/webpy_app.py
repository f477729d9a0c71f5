"""The city application in web.py. README.md describes its requests and how to load the cities.

    WSGIDB_URL=sqlite:///cities.sqlite3 gunicorn --pythonpath examples webpy_app:application
"""

from collections.abc import Iterator
from http.client import responses

import web

from cities import CSV, HINT, CityExists, add_cities, answer, list_cities, page_of
from wsgidb import DatabaseMiddleware

web.config.debug = False
PLAIN = {"Content-Type": "text/plain; charset=utf-8"}


class Index:
    def GET(self) -> str:
        name = web.input(city="").city
        text, status = answer(web.ctx.env["db.conn"], name) if name else (HINT, 400)
        web.ctx.status = f"{status} {responses[status]}"
        web.header("Content-Type", PLAIN["Content-Type"])
        return text

    def POST(self) -> None:
        names = web.input(city=[]).city
        try:
            add_cities(web.ctx.env["db.conn"], names)
        except CityExists as error:
            raise web.HTTPError("409 Conflict", PLAIN, str(error)) from error  # rolls back what was added before
        raise web.seeother(page_of(names[-1]))


class Listing:
    def GET(self) -> Iterator[bytes]:
        web.header("Content-Type", PLAIN["Content-Type"])
        return list_cities(web.ctx.env["db.conn"])


class Download:
    def GET(self) -> Iterator[bytes]:
        web.header("Content-Type", "text/csv")
        with CSV.open("rb") as file:
            yield from file


app = web.application(("/", Index, "/cities", Listing, "/cities.csv", Download))
application = app.wsgifunc(lambda inner: DatabaseMiddleware(inner, transaction="request"))
