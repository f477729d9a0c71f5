"""Code that a type checker refuses. The comment on each such line has the error code."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from wsgidb import Connection, Database, DatabaseMiddleware, get_connection
from wsgidb.testing import SandboxDatabase

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication, WSGIEnvironment


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


def options(app: WSGIApplication, database: Database) -> None:
    Database("sqlite:///file.db", pool_size="10")  # error: arg-type
    Database("sqlite:///file.db", pool_size=2.5)  # error: arg-type
    Database("sqlite:///file.db", pool_sise=10)  # error: call-arg
    Database("sqlite:///file.db", strategy="pool")  # error: arg-type
    Database("sqlite:///file.db", strategy=dict)  # error: arg-type
    Database("sqlite:///file.db", acquire_timeout=None)  # error: arg-type
    Database("sqlite:///file.db", init_sql=5)  # error: arg-type
    Database("sqlite:///file.db", connect_args=["timeout"])  # error: arg-type
    Database(creator="pymysql:connect")  # error: arg-type
    DatabaseMiddleware(app, "sqlite:///file.db", pool_size="10")  # error: arg-type
    DatabaseMiddleware(app, "sqlite:///file.db", exlude="/static")  # error: call-arg
    DatabaseMiddleware(app, database, on_unavailable="503")  # error: arg-type
    DatabaseMiddleware(app, database, commit_veto=handler)  # error: arg-type
    SandboxDatabase("sqlite:///file.db", transaction="requests")  # error: arg-type
    SandboxDatabase("sqlite:///file.db", pool_size=2)  # error: call-arg
