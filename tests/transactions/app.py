"""The application under test: each server runs it, and the query string tells it what to do.

``/KIND?note=TEXT`` writes a row, and answers with a body of that kind (`KINDS`). Further words of the query:

- ``raise=before|middle|after``: raise `Surprise` before start_response, within the body, at its end or in its close();
- ``status=404``, ``veto=yes|raise``: what commit_veto goes by;
- ``swallow=1``: let a statement of the handler fail, and go on as if it had not;
- ``gate=PORT``: connect to that port in the middle, and go on when the other side closes; then the body is long;
- ``db=hasty``: of two Databases the one whose COMMIT has little time.

``/stats`` gives both Databases' numbers; ``/bare/KIND`` does the same without the middleware, and writes nothing.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qsl

import django
import flask
import pymysql
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, HttpResponse
from django.urls import path

from wsgidb import Database, DatabaseMiddleware

Environ = dict[str, Any]
Headers = list[tuple[str, str]]

CHUNKS = (b"one ", b"two ", b"three")
TEXT = b"".join(CHUNKS)
FLOOD = 16
"""How many chunks, at most,"""
BLOCK = bytes(16 * 1024)
"""of this are written to a client that has left, to let the server notice."""
READ_TIMEOUT = 20.0
SHORT = 0.3
"""Seconds for a reply that never comes. All that is answered has more, as on a busy machine that may take longer."""
FAILING = "SELECT 'fails'"
"""The statement that `swallow` runs: a proxy makes it fail."""


class Surprise(Exception):
    """What a handler raises here."""


class Order:
    """What the query string asks for."""

    def __init__(self, environ: Environ) -> None:
        self.environ = environ
        self.words = dict(parse_qsl(environ["QUERY_STRING"]))
        self.status = self.words.get("status", "200") + " Whatever"

    @property
    def gate(self) -> bool:
        return "gate" in self.words

    def begin(self, complete: bool = True) -> None:
        """What every handler does first. With *complete*, all that is to happen before the server gets anything."""
        conn = self.environ.get("db.conn")
        if conn is not None:
            with conn.cursor() as cursor:
                cursor.execute("INSERT INTO note VALUES (%s)", (self.words["note"],))
                if "swallow" in self.words:
                    with suppress(pymysql.err.OperationalError):
                        cursor.execute(FAILING)
            if "db" in self.words:
                assert conn.driver_connection._read_timeout == READ_TIMEOUT
                conn.driver_connection._read_timeout = SHORT
        self.reach("before")
        if complete:
            self.wait()

    def reach(self, place: str) -> None:
        if self.words.get("raise") == place:
            raise Surprise(place)

    def wait(self) -> None:
        """Until the test closes the gate."""
        if self.gate:
            with socket.create_connection(("127.0.0.1", int(self.words["gate"]))) as gate:
                gate.recv(1)

    def headers(self, length: bool, pauses: bool = False) -> Headers:
        """With *pauses* the body is one of `flood`."""
        veto = [("X-Veto", self.words["veto"])] if "veto" in self.words else []
        size = len(TEXT) + (FLOOD * len(BLOCK) if self.gate and pauses else 0)
        return [("Content-Type", "text/plain"), *veto, *([("Content-Length", str(size))] if length else [])]

    def flood(self) -> Iterator[bytes]:
        """In the middle of a stream: the gate, and then a body of which the client's socket cannot take all."""
        if self.gate:
            self.wait()
            for _ in range(FLOOD):
                yield BLOCK


def listed(order: Order, start_response: Any) -> list[bytes]:
    order.begin()
    start_response(order.status, order.headers(length=False))
    order.reach("middle")
    return list(CHUNKS)


def streamed(length: bool, *chunks: bytes) -> Callable[[Order, Any], Iterator[bytes]]:
    def stream(order: Order, start_response: Any) -> Iterator[bytes]:
        first, *rest = chunks
        pauses = bool(rest) or not length
        order.begin(complete=not pauses)
        start_response(order.status, order.headers(length, pauses))
        if not rest:
            order.reach("middle")
        yield first
        if rest:
            order.reach("middle")
        if pauses:
            yield from order.flood()
        yield from rest
        order.reach("after")

    return stream


def written(length: bool) -> Callable[[Order, Any], list[bytes]]:
    def write(order: Order, start_response: Any) -> list[bytes]:
        order.begin(complete=False)
        put = start_response(order.status, order.headers(length, pauses=True))
        first, *rest = CHUNKS
        put(first)
        order.reach("middle")
        for chunk in order.flood():
            put(chunk)
        for chunk in rest:
            put(chunk)
        order.reach("after")
        return []

    return write


def replaced(order: Order, start_response: Any) -> list[bytes]:
    """An answer that becomes an error's, before anything of it was sent."""
    order.begin()
    start_response("200 OK", [("Content-Type", "text/html"), ("Content-Length", "3")])
    try:
        raise Surprise("in the handler")
    except Surprise:
        headers = [("Content-Type", "text/plain"), ("Content-Length", str(len(TEXT)))]
        start_response("503 Later", headers, sys.exc_info())
    return [TEXT]


def bodiless(status: str) -> Callable[[Order, Any], list[bytes]]:
    def answer(order: Order, start_response: Any) -> list[bytes]:
        order.begin()
        start_response(status, [("ETag", '"x"')])
        return []

    return answer


flasks = flask.Flask(__name__)


@flasks.route("/")
def flask_view() -> flask.Response:
    order = Order(flask.request.environ)
    order.begin()
    response = flask.Response(TEXT, order.status, order.headers(length=False))
    response.call_on_close(lambda: order.reach("after"))
    return response


class Closing(HttpResponse):  # type: ignore[misc]  # Django has no types
    order: Order

    def close(self) -> None:
        super().close()
        self.order.reach("after")


def django_view(request: HttpRequest) -> HttpResponse:
    order = Order(request.environ)
    order.begin()
    response = Closing(TEXT, status=int(order.status[:3]), headers=dict(order.headers(length=False)))
    response.order = order
    return response


urlpatterns = [path("", django_view)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[], SECRET_KEY="none", LOGGING_CONFIG=None)
django.setup()


def djangos(*middleware: str) -> WSGIHandler:
    settings.MIDDLEWARE = list(middleware)
    return WSGIHandler()


def ordered(handler: Callable[[Order, Any], Iterable[bytes]]) -> Any:
    return lambda environ, start_response: handler(Order(environ), start_response)


KINDS: dict[str, Any] = {
    "list": ordered(listed),
    "flask": flasks,
    "django": djangos("django.middleware.common.CommonMiddleware"),
    "django-bare": djangos(),
    "one-length": ordered(streamed(True, TEXT)),
    "many-length": ordered(streamed(True, *CHUNKS)),
    "one": ordered(streamed(False, TEXT)),
    "many": ordered(streamed(False, *CHUNKS)),
    "write-length": ordered(written(True)),
    "write": ordered(written(False)),
    "replaced": ordered(replaced),
    "204": ordered(bodiless("204 No Content")),
    "304": ordered(bodiless("304 Not Modified")),
}


def dispatch(environ: Environ, start_response: Any) -> Any:
    kind = environ["PATH_INFO"].rpartition("/")[2]
    return KINDS[kind]({**environ, "PATH_INFO": "/"}, start_response)


def veto(environ: Environ, status: str, headers: Headers) -> bool:
    wish = dict(headers).get("X-Veto")
    if wish == "raise":
        raise Surprise("the veto's own")
    return wish == "yes" or status >= "400"


def database(**options: Any) -> Database:
    return Database(os.environ["TEST_URL"], transaction="request", pool_size=2, max_idle=None, **options)


patient, hasty = database(), database(read_timeout=READ_TIMEOUT)
through = {each: DatabaseMiddleware(dispatch, each, commit_veto=veto) for each in (patient, hasty)}


def application(environ: Environ, start_response: Any) -> Any:
    if environ["PATH_INFO"] == "/stats":
        text = json.dumps([asdict(each.stats()) for each in (patient, hasty)]).encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
        return [text]
    if environ["PATH_INFO"].startswith("/bare/"):
        return dispatch(environ, start_response)
    return through[hasty if "db=hasty" in environ["QUERY_STRING"] else patient](environ, start_response)
