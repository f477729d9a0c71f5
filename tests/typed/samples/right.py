"""Code that a type checker accepts, with what the checker then knows."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine
from typing_extensions import assert_type

from wsgidb import Connection, Cursor, Database, DatabaseMiddleware, Stats, WsgiDBError, get_connection
from wsgidb.strategies import Store
from wsgidb.testing import SandboxDatabase

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Own(Store):
    """A strategy of the application's."""


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    conn = get_connection(environ)
    assert_type(conn, Connection)
    with closing(conn.cursor()) as cursor:
        assert_type(cursor, Cursor)
        cursor.execute("SELECT name FROM city WHERE id = %s", (1,))
        assert_type(cursor.rowcount, int)
        for row in cursor:
            start_response("200 OK", [("Content-Type", str(row[0]))])
    conn.commit()
    assert_type(conn.server_status, Any)  # an attribute of PyMySQL's
    with conn as same:
        assert_type(same, Connection)
    conn.row_factory = None  # an attribute of sqlite3's
    assert_type(conn.driver_connection, Any)
    return []


def query(conn: Connection) -> Any:
    with conn.cursor() as cursor:
        cursor.execute("SELECT name FROM city WHERE id = %(id)s", {"id": 1})
        return cursor.fetchone()


def with_the_drivers_class(environ: WSGIEnvironment) -> bool:
    conn: sqlite3.Connection = environ["db.conn"]
    return conn.in_transaction


def job(database: Database) -> None:
    with database.connection() as conn:
        assert_type(conn, Connection)
        query(conn)
    assert_type(database.check(), float)
    assert_type(database.stats(), Stats)
    assert_type(database.stats().dead_time, float)
    with database as same:
        assert_type(same, Database)


def wrapped(app: WSGIApplication, database: Database) -> WSGIApplication:
    middleware = DatabaseMiddleware(app, database, key="shop.conn")
    assert_type(middleware.database, Database)
    return DatabaseMiddleware(middleware, "sqlite:///file.db", pool_size=5)


def options(app: WSGIApplication, database: Database) -> None:
    Database("sqlite:///file.db", strategy="thread-local", max_idle=None, max_lifetime=60, ping_after=0.5, pool_size=4)
    Database("sqlite:///file.db", strategy=Own, init_sql=["PRAGMA synchronous = 1"], acquire="first-use")
    Database("sqlite:///file.db", init_sql="PRAGMA synchronous = 1", connect_args=lambda: {"timeout": 1.5})
    Database(creator=lambda: sqlite3.connect("file.db"), connect_args={}, transaction="request", reset="rollback")
    Database(creator=create_engine("sqlite://"), strategy="sqlalchemy")
    Database("mysql://db.example/shop", ssl_mode="verify_ca", ssl_ca="/ca.pem", discard_read_only=False)
    DatabaseMiddleware(app, url="sqlite:///file.db", key="shop.conn", exclude=("/static", "/health"))
    DatabaseMiddleware(app, database, exclude=lambda environ: environ["REQUEST_METHOD"] == "OPTIONS", retry_after=5)
    DatabaseMiddleware(app, database, commit_veto=lambda environ, status, headers: status.startswith("5"))
    DatabaseMiddleware(app, database, on_unavailable=app, exclude="/static /health")
    DatabaseMiddleware(app, database, on_unavailable="raise")
    SandboxDatabase("sqlite:///file.db", transaction="request", acquire_timeout=1, acquire="first-use")


def explanation(error: WsgiDBError) -> str:
    assert_type(error.text, str)
    return error.link


def from_a_file(settings: dict[str, Any]) -> Database:
    return Database(**settings)


def sandbox(app: WSGIApplication) -> WSGIApplication:
    with SandboxDatabase("sqlite:///file.db") as database, database.outage():
        assert_type(database, SandboxDatabase)
        return DatabaseMiddleware(app, database)
