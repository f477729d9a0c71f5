"""The city application as plain WSGI. README.md describes its requests and how to load the cities.

    WSGIDB_URL=sqlite:///cities.sqlite3 gunicorn --pythonpath examples plain_wsgi:application
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import parse_qs
from wsgiref.util import FileWrapper

from cities import CSV, HINT, CityExists, add_cities, answer, list_cities, page_of
from wsgidb import DatabaseMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    def reply(text: str, status: int, *headers: tuple[str, str]) -> Iterable[bytes]:
        plain = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text.encode())))]
        start_response(f"{status} {HTTPStatus(status).phrase}", [*plain, *headers])
        return [text.encode()]

    match environ["REQUEST_METHOD"], environ["PATH_INFO"]:
        case "GET", "/":  # WSGI passes bytes as Latin-1 text (PEP 3333), and browsers send UTF-8
            found = parse_qs(environ.get("QUERY_STRING", "").encode("latin-1").decode("utf-8", "replace")).get("city")
            return reply(*answer(environ["db.conn"], found[0])) if found else reply(HINT, 400)
        case "POST", "/":
            form = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            names = parse_qs(form.decode(), keep_blank_values=True)["city"]
            try:
                add_cities(environ["db.conn"], names)
            except CityExists as error:
                return reply(str(error), 409)  # rolls back what was added before
            return reply("", 303, ("Location", page_of(names[-1])))
        case "GET", "/cities":
            start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8")])
            return list_cities(environ["db.conn"])
        case "GET", "/cities.csv":
            start_response("200 OK", [("Content-Type", "text/csv"), ("Content-Length", str(CSV.stat().st_size))])
            body: Iterable[bytes] = environ.get("wsgi.file_wrapper", FileWrapper)(CSV.open("rb"))
            return body
    return reply("Not found", 404)


application = DatabaseMiddleware(app, transaction="request")
