"""Code that a type checker refuses. The comment on each such line has the error code."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from wsgidb import Connection, Database, DatabaseMiddleware, get_connection

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment


def handler(environ: WSGIEnvironment) -> None:
    conn = get_connection(environ)
    conn.commit("now")  # error: call-arg
    conn.cursor().execute()  # error: call-arg
    conn.cursor().execute("SELECT %s", 5)  # error: arg-type
    conn.cursor().fetchmany("10")  # error: arg-type
    conn.cursor().rowcount = 5  # error: misc
    own: sqlite3.Connection = conn  # error: assignment
    own.commit()
    get_connection(environ, key=5)  # error: arg-type
    get_connection("environ")  # error: arg-type


def job(database: Database) -> None:
    with database.connection() as conn:
        text: str = conn  # error: assignment
        text.lower()
    conn = database.connection()  # error: assignment
    seconds: str = database.check()  # error: assignment
    seconds.lower()
    database.stats().open = 5  # error: misc


def wrap(connection: Connection) -> None:
    DatabaseMiddleware(5)  # error: arg-type
    DatabaseMiddleware(handler)  # error: arg-type
    DatabaseMiddleware(lambda environ, start_response: [b""], connection)  # error: arg-type
    Database(5)  # error: arg-type
    Database("sqlite:///file.db", clock="now")  # error: arg-type
    Database.from_env(5)  # error: arg-type
