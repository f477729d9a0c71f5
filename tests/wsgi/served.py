"""What the servers in test_servers.py serve. The path's first segment says whether the application is wrapped."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from typing import Any

import flask
from werkzeug.wrappers import Response

from wsgidb import DatabaseMiddleware

BIG = 40_000_000  # more than fits into the buffers of a loopback socket and of Waitress
PLAIN = ("Content-Type", "text/plain")

Body = Any
CASES: dict[str, Callable[[dict[str, Any], Any], Body]] = {}


def case(function: Callable[[dict[str, Any], Any], Body]) -> Callable[[dict[str, Any], Any], Body]:
    CASES[function.__name__] = function
    return function


@case
def one_item_list(environ: dict[str, Any], start: Any) -> Body:
    start("200 OK", [PLAIN])
    return [b"one"]


@case
def long_list(environ: dict[str, Any], start: Any) -> Body:
    start("200 OK", [PLAIN, ("Content-Length", "6")])
    return [b"one", b"two"]


@case
def one_item_tuple(environ: dict[str, Any], start: Any) -> Body:
    start("200 OK", [PLAIN])
    return (b"one",)


@case
def big_list(environ: dict[str, Any], start: Any) -> Body:
    start("200 OK", [PLAIN, ("Content-Length", str(BIG))])
    return [b"x" * 1_000_000] * (BIG // 1_000_000)


@case
def generator(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
    start("200 OK", [PLAIN])
    yield b"one"
    yield b"two"


@case
def generator_with_length(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
    start("200 OK", [PLAIN, ("Content-Length", "3")])
    yield b"one"


@case
def sized(environ: dict[str, Any], start: Any) -> Body:
    class OneChunk:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"one"])

        def __len__(self) -> int:
            return 1

    start("200 OK", [PLAIN])
    return OneChunk()


@case
def file_wrapper(environ: dict[str, Any], start: Any) -> Body:
    start("200 OK", [PLAIN, ("Content-Length", "4")])
    return environ["wsgi.file_wrapper"](io.BytesIO(b"file")) if "wsgi.file_wrapper" in environ else [b"file"]


@case
def file_with_descriptor(environ: dict[str, Any], start: Any) -> Body:
    file = open(__file__, "rb")  # noqa: SIM115 - the server closes it
    start("200 OK", [PLAIN])
    return environ["wsgi.file_wrapper"](file) if "wsgi.file_wrapper" in environ else iter([file.read()])


class Report:
    """A file-like object that reads from the database, if it has a connection."""

    def __init__(self, conn: Any) -> None:
        self.conn, self.parts = conn, [b"", b"two", b"one"]

    def read(self, size: int = -1) -> bytes:
        if self.conn is not None:
            self.conn.cursor().execute("SELECT 1").fetchone()
        return self.parts.pop()

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")


@case
def report(environ: dict[str, Any], start: Any) -> Body:
    start("200 OK", [PLAIN, ("Content-Length", "6")])
    return Report(environ.get("db.conn"))


@case
def wrapped_report(environ: dict[str, Any], start: Any) -> Body:
    start("200 OK", [PLAIN, ("Content-Length", "6")])
    made = Report(environ.get("db.conn"))
    wrapper = environ.get("wsgi.file_wrapper")
    if wrapper is None or (made.conn is None and not isinstance(wrapper, type)):  # uWSGI's own reads only one part
        return made
    return wrapper(made)


@case
def empty_list(environ: dict[str, Any], start: Any) -> Body:
    start("200 OK", [PLAIN, ("Content-Length", "0")])
    return []


@case
def written(environ: dict[str, Any], start: Any) -> Body:
    write = start("200 OK", [PLAIN, ("Content-Length", "9")])
    write(b"one")
    write(b"two")
    return [b"end"]


@case
def replaced(environ: dict[str, Any], start: Any) -> Body:
    """Call start_response with exc_info before anything was sent, which replaces status and headers."""
    start("200 OK", [PLAIN, ("X-First", "1")])
    try:
        raise KeyError
    except KeyError:
        import sys

        start("500 Oops", [PLAIN, ("Content-Length", "4")], sys.exc_info())
    return [b"oops"]


@case
def no_content(environ: dict[str, Any], start: Any) -> Body:
    start("204 No Content", [])
    return []


@case
def not_modified(environ: dict[str, Any], start: Any) -> Body:
    start("304 Not Modified", [("ETag", '"1"')])
    return iter(())


@case
def flask_page(environ: dict[str, Any], start: Any) -> Body:
    app = flask.Flask(__name__)
    app.add_url_rule("/<kind>/<case>", "page", lambda kind, case: "hello")
    return app(environ, start)


@case
def werkzeug_page(environ: dict[str, Any], start: Any) -> Body:
    return Response("hello")(environ, start)


@case
def raises(environ: dict[str, Any], start: Any) -> Body:
    raise KeyError("before start_response")


@case
def raises_midway(environ: dict[str, Any], start: Any) -> Iterator[bytes]:
    start("200 OK", [PLAIN, ("Content-Length", "6")])
    yield b"one"
    raise KeyError("midway")


def bare(environ: dict[str, Any], start_response: Any) -> Body:
    """Serve the case that the path's second segment names."""
    name = environ["PATH_INFO"].rpartition("/")[2]
    return CASES[name](environ, start_response)


def with_statement(environ: dict[str, Any], start_response: Any) -> Body:
    """Serve the same case after using the connection."""
    conn = environ["db.conn"]
    conn.cursor().execute("SELECT 1").fetchone()
    return bare(environ, start_response)


URL = os.environ["SERVED_URL"]
eager = DatabaseMiddleware(with_statement, URL)
lazy = DatabaseMiddleware(with_statement, URL, acquire="first-use")


def leased(environ: dict[str, Any], start_response: Any) -> Body:
    """Answer with the number of connections that requests of this process hold now."""
    count = str(eager.database.stats().leased + lazy.database.stats().leased).encode()
    start_response("200 OK", [PLAIN, ("Content-Length", str(len(count)))])
    return [count]


KINDS: dict[str, Any] = {"bare": bare, "wrap": eager, "lazy": lazy, "leased": leased}


def application(environ: dict[str, Any], start_response: Any) -> Body:
    return KINDS[environ["PATH_INFO"].split("/")[1]](environ, start_response)
