"""What the servers in test_leaks_served.py serve: handlers that hold their connections, each in a way of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

from wsgidb import DatabaseMiddleware

PLAIN = [("Content-Type", "text/plain")]
MEGABYTE = b"x" * 1_000_000
LEAK_AFTER = 1.0
"""Seconds within which a handler on a busy machine has reached the line that holds its connection."""
released = threading.Event()


def log_in(conn: Any) -> None:
    """What a framework does before each handler."""
    conn.cursor().execute("SELECT 'session'")


def handler(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    log_in(environ["db.conn"])
    released.wait(60)  # holds: /handler
    start_response("200 OK", PLAIN)
    return [b""]


def unused(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    released.wait(60)  # holds: /unused
    start_response("200 OK", PLAIN)
    return [b""]


def statement(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["db.conn"].cursor().execute("SELECT SLEEP(2)")  # holds: /statement
    start_response("200 OK", PLAIN)
    return [b""]


def body(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    log_in(environ["db.conn"])
    start_response("200 OK", PLAIN)
    yield b"a"
    released.wait(60)  # holds: /body
    yield b"b"


def unread(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", PLAIN)
    yield b"a"
    environ["db.conn"].cursor().execute("SELECT 1")  # holds: /unread
    while not released.is_set():
        yield MEGABYTE


def background(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    worker = threading.Thread(target=work, args=(environ["db.conn"],), daemon=True)
    log_in(environ["db.conn"])
    worker.start()
    worker.join()
    start_response("200 OK", PLAIN)
    yield b"a"
    while not released.is_set():
        yield MEGABYTE


def work(conn: Any) -> None:
    conn.cursor().execute("SELECT 'work'")  # holds: /background


def touch(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    log_in(environ["db.conn"])
    start_response("200 OK", PLAIN)
    return [b"touched"]


def release(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    released.set()
    start_response("200 OK", PLAIN)
    return [b""]


HANDLERS = {
    f"/{each.__name__}": each for each in (handler, unused, statement, body, unread, background, touch, release)
}


def dispatch(environ: dict[str, Any], start_response: Any) -> Any:
    return HANDLERS[environ["PATH_INFO"]](environ, start_response)


ACQUIRE: Any = os.environ["LEAKING_ACQUIRE"]
application = DatabaseMiddleware(
    dispatch, os.environ["LEAKING_URL"], leak_after=LEAK_AFTER, exclude=["/release"], acquire=ACQUIRE
)
