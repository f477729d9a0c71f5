"""The application that every server runs. It needs nothing but wsgidb and PyMySQL, as Apache's Python has no more.

- ``/echo?N`` answers with N, the session on the database and the process; and with the session and process that have
  loaded the application;
- ``/wait?N`` likewise, after waiting for a row that the test has locked;
- ``/rows`` streams the table as the database sends it, and ``/rows?PORT`` waits behind the third row until the test
  closes a connection to that port;
- ``/page`` has an ETag and knows If-None-Match, ``/stream`` has no length, and ``/none`` is a 204; ``/bare/page`` and
  so on are without the middleware.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

from pymysql.cursors import SSCursor

from wsgidb import Database, DatabaseMiddleware

Environ = dict[str, Any]
PLAIN = ("Content-Type", "text/plain")


def answer(conn: Any, number: str, lock: str = "") -> bytes:
    with conn.cursor() as cursor:
        cursor.execute(f"SELECT %s, CONNECTION_ID() FROM note WHERE id = 1 {lock}", (number,))
        echo, session = cursor.fetchone()
    return f"{echo} {session} {os.getpid()}".encode()


def whole(start_response: Any, text: bytes) -> list[bytes]:
    start_response("200 OK", [PLAIN, ("Content-Length", str(len(text)))])
    return [text]


def echo(environ: Environ, start_response: Any) -> list[bytes]:
    return whole(start_response, answer(environ["db.conn"], environ["QUERY_STRING"]) + b" " + LOADER)


def wait(environ: Environ, start_response: Any) -> list[bytes]:
    return whole(start_response, answer(environ["db.conn"], environ["QUERY_STRING"], "LOCK IN SHARE MODE"))


def rows(environ: Environ, start_response: Any) -> Iterator[bytes]:
    with environ["db.conn"].cursor(SSCursor) as cursor:
        cursor.execute("SELECT id, CONNECTION_ID(), text FROM note ORDER BY id")
        start_response("200 OK", [PLAIN])
        for row in cursor:
            yield "{} {} {}\n".format(*row).encode()
            if row[0] == 3 and environ["QUERY_STRING"]:
                with socket.create_connection(("127.0.0.1", int(environ["QUERY_STRING"]))) as gate:
                    gate.recv(1)


def page(environ: Environ, start_response: Any) -> Any:
    if "db.conn" in environ:
        answer(environ["db.conn"], "1")
    if environ.get("HTTP_IF_NONE_MATCH") == '"1"':
        start_response("304 Not Modified", [("ETag", '"1"')])
        return []
    start_response("200 OK", [PLAIN, ("ETag", '"1"'), ("Content-Length", "5")])
    return [] if environ["REQUEST_METHOD"] == "HEAD" else [b"hello"]


def none(environ: Environ, start_response: Any) -> list[bytes]:
    if "db.conn" in environ:
        answer(environ["db.conn"], "1")
    start_response("204 No Content", [])
    return []


def stream(environ: Environ, start_response: Any) -> Iterator[bytes]:
    if "db.conn" in environ:
        answer(environ["db.conn"], "1")
    start_response("200 OK", [PLAIN])
    if environ["REQUEST_METHOD"] != "HEAD":
        yield b"one "
        yield b"two"


HANDLERS: dict[str, Any] = {each.__name__: each for each in (echo, wait, rows, page, none, stream)}


def dispatch(environ: Environ, start_response: Any) -> Any:
    return HANDLERS[environ["PATH_INFO"].rpartition("/")[2]](environ, start_response)


strategy: Any = os.environ.get("TEST_STRATEGY", "pooled")
database = Database(
    os.environ["TEST_URL"],
    strategy=strategy,
    pool_size=int(os.environ["TEST_POOL_SIZE"]),
    acquire_timeout=20,
    exclude=("/bare",),
)
application = DatabaseMiddleware(dispatch, database)

# A server that loads the application before it forks has used a connection by then, which must stay the parent's.
with database.connection() as _conn:
    LOADER = answer(_conn, "").strip()
