"""An application whose requests hold a connection for a fixed time. The WSGI server imports it as
``overloaded:application``.

It is configured by BENCH_POOL (one of `POOLS`) and BENCH_URL. A request that gets no connection is answered with 503.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, closing
from functools import partial
from typing import Any
from urllib.parse import urlsplit

SIZE = 8
"""Connections of each pool."""
HOLD = 0.2
"""Seconds that the statement of each request takes."""
WAIT = 5.0
"""Seconds that a request waits for a connection at the most."""

Start = Callable[..., Any]
Application = Callable[[dict[str, Any], Start], Iterable[bytes]]


def answer(start_response: Start, status: str) -> list[bytes]:
    text = status.encode()
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text]


def sleep(conn: Any, statement: str) -> None:
    with closing(conn.cursor()) as cursor:
        cursor.execute(f"SELECT {statement}({HOLD})")


def wsgidb(url: str, **options: Any) -> Application:
    from wsgidb import DatabaseMiddleware

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        sleep(environ["db.conn"], "SLEEP")
        return answer(start_response, "200 OK")

    return DatabaseMiddleware(
        app, url, ssl_mode="disabled", transaction="autocommit", pool_size=SIZE, acquire_timeout=WAIT, **options
    )


def other(connection: Callable[[], AbstractContextManager[Any]], exhausted: type[Exception], sql: str) -> Application:
    """With a pool that has no middleware."""

    def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        try:
            with connection() as conn:
                sleep(conn, sql)
        except exhausted:
            return answer(start_response, "503 Service Unavailable")
        return answer(start_response, "200 OK")

    return app


def sqlalchemy(url: str) -> Application:
    import pymysql
    from sqlalchemy.exc import TimeoutError as Exhausted
    from sqlalchemy.pool import QueuePool

    place: dict[str, Any] = {"host": "127.0.0.1", "port": urlsplit(url).port, "ssl_disabled": True}
    connect: Any = partial(pymysql.connect, user="guest", database="test", autocommit=True, **place)
    pool = QueuePool(connect, pool_size=SIZE, max_overflow=0, timeout=WAIT)
    return other(lambda: closing(pool.connect()), Exhausted, "SLEEP")


def psycopg_pool(url: str) -> Application:
    from psycopg_pool import ConnectionPool, PoolTimeout

    plain = url.replace("postgresql+psycopg", "postgresql")
    pool = ConnectionPool(
        plain, min_size=SIZE, max_size=SIZE, timeout=WAIT, kwargs={"autocommit": True}, open=True
    )
    return other(pool.connection, PoolTimeout, "pg_sleep")


POOLS: dict[str, Callable[[str], Application]] = {
    "wsgidb": wsgidb,
    "wsgidb, queue_target=none": lambda url: wsgidb(url, queue_target=None),
    "SQLAlchemy QueuePool": sqlalchemy,
    "psycopg_pool": psycopg_pool,
}
if "BENCH_POOL" in os.environ:
    application = POOLS[os.environ["BENCH_POOL"]](os.environ["BENCH_URL"])
