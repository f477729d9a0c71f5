"""The city application as plain WSGI: GET /?city=London answers ``City "London" is #770``.

It takes its database from the environment, so any server can run it as it stands:

    WSGIDB_URL=sqlite:///cities.sqlite3 gunicorn --chdir examples plain_wsgi:application
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from cities import answer
from wsgidb import DatabaseMiddleware

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """Answer one request with the connection that the middleware put into environ."""
    # WSGI carries bytes as Latin-1 text (PEP 3333); a browser's address bar sends UTF-8, usually percent-encoded.
    query = environ.get("QUERY_STRING", "").encode("latin-1").decode("utf-8", "replace")
    names = parse_qs(query).get("city")  # an empty value counts as none
    if names:
        status, text = "200 OK", answer(environ["db.conn"], names[0])
    else:
        status, text = "400 Bad Request", "Name a city: /?city=London"
    body = text.encode()
    start_response(status, [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


application = DatabaseMiddleware(app)
