"""The figures of docs/why.md: what a connection per request costs, and what silent failover does to a write.

    python benchmarks/why.py [write] [trips] [connect] [connect-sqlite] [checkout] [lock]

It needs the packages of `make test` (.venv/bin/python has them) and starts its own MariaDB server. Absolute times
depend on the machine; look at the ratios.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymysql
from dbutils.persistent_db import PersistentDB
from dbutils.pooled_db import PooledDB

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.mariadb import MariaDB
from support.proxy import TCPProxy
from wsgidb import Database

ROUNDS, SECONDS = 7, 0.4

Use = Callable[[Callable[[Any], None]], None]
"""Runs a handler with a connection from some source, and returns the connection to it."""


def of_wsgidb(database: Database) -> Use:
    def use(handler: Callable[[Any], None]) -> None:
        with database.connection() as conn:
            handler(conn)

    return use


def of_dbutils(pool: Any) -> Use:
    def use(handler: Callable[[Any], None]) -> None:
        with closing(pool.connection()) as conn:
            handler(conn)

    return use


def of_driver(connect: Callable[[], Any]) -> Use:
    def use(handler: Callable[[Any], None]) -> None:
        with closing(connect()) as conn:
            handler(conn)

    return use


def login(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    return {"host": parts.hostname, "port": parts.port, "user": parts.username, "database": parts.path[1:]}


def execute(conn: Any, sql: str) -> None:
    with closing(conn.cursor()) as cursor:
        cursor.execute(sql)


def select(conn: Any) -> None:
    execute(conn, "SELECT 1")


def nothing(conn: Any) -> None:
    pass


# -- the fate of a write


def write(server: MariaDB) -> dict[str, tuple[str, list[int]]]:
    """UPDATE a, kill the connection, UPDATE b, commit. Returns what the handler was told and what is in the table."""
    plain = {**login(server.url()), "ssl_disabled": True}
    found = {}
    with Database(server.url(), ssl_mode="disabled") as database:
        sources = {
            "DBUtils PooledDB": of_dbutils(PooledDB(pymysql, **plain)),
            "DBUtils PersistentDB": of_dbutils(PersistentDB(pymysql, **plain)),
            "wsgidb pooled": of_wsgidb(database),
        }
        for name, use in sources.items():
            server.execute("CREATE OR REPLACE TABLE account (id INT PRIMARY KEY, balance INT)")
            server.execute("INSERT INTO account VALUES (1, 100), (2, 100)")

            def transfer(conn: Any) -> None:
                execute(conn, "UPDATE account SET balance = balance - 10 WHERE id = 1")
                server.kill_connections("guest")
                execute(conn, "UPDATE account SET balance = balance + 10 WHERE id = 2")
                conn.commit()

            try:
                use(transfer)
                told = "no error"
            except pymysql.Error as error:
                told = f"error {error.args[0]}"
            found[name] = told, [row[0] for row in server.query("SELECT balance FROM account ORDER BY id")]
    return found


# -- the commands that are sent


def trips(server: MariaDB) -> dict[str, list[str]]:
    """The commands that a request with one SELECT sends on a connection that was just used, with autocommit on."""
    found = {}
    with TCPProxy(server.port) as proxy:
        url = proxy.url_from(server.url())
        plain = {**login(url), "ssl_disabled": True, "autocommit": True}
        options: dict[str, Any] = {"transaction": "autocommit", "ssl_mode": "disabled"}
        with Database(url, **options) as pooled, Database(url, strategy="per-request", **options) as fresh:
            for name, use in {
                "DBUtils PooledDB": of_dbutils(PooledDB(pymysql, **plain)),
                "DBUtils PersistentDB": of_dbutils(PersistentDB(pymysql, **plain)),
                "a connection per request": of_wsgidb(fresh),
                "wsgidb pooled": of_wsgidb(pooled),
            }.items():
                use(select)
                with proxy.counting() as seen:
                    use(select)
                found[name] = list(seen)
    return found


# -- times


def rates(sources: dict[str, Use], handler: Callable[[Any], None], threads: int = 1) -> dict[str, float]:
    """The requests per second of each source: the median of several rounds, because other work on the machine disturbs
    single rounds."""
    rounds: dict[str, list[float]] = {name: [] for name in sources}
    for use in sources.values():
        use(handler)
    for _ in range(ROUNDS):
        for name, use in sources.items():
            rounds[name].append(one_round(use, handler, threads))
    return {name: statistics.median(measured) for name, measured in rounds.items()}


def one_round(use: Use, handler: Callable[[Any], None], threads: int) -> float:
    end = time.perf_counter() + SECONDS
    counts = [0] * threads

    def work(number: int) -> None:
        while time.perf_counter() < end:
            use(handler)
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    began = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / (time.perf_counter() - began)


def connect(server: MariaDB) -> dict[str, float]:
    """Requests/s on MariaDB with one SELECT each: with a new connection for each, and with a pool."""
    with Database(server.url(), strategy="per-request") as fresh, Database(server.url()) as pooled:
        sources = {
            "pymysql.connect(), its defaults": of_driver(lambda: pymysql.connect(**login(server.url()))),
            "wsgidb per-request": of_wsgidb(fresh),
            "wsgidb pooled": of_wsgidb(pooled),
        }
        return rates(sources, select)


def connect_sqlite(server: MariaDB) -> dict[str, float]:
    """Requests/s on SQLite with one SELECT each: with a new connection for each, and with a pool."""
    with tempfile.TemporaryDirectory() as directory:
        url = f"sqlite:///{directory}/file.db"
        with Database(url, strategy="per-request") as fresh, Database(url) as pooled:
            return rates({"wsgidb per-request": of_wsgidb(fresh), "wsgidb pooled": of_wsgidb(pooled)}, select)


def checkout(server: MariaDB) -> dict[str, float]:
    """Validated checkouts and returns per second in one thread that does nothing else."""
    plain = {**login(server.url()), "ssl_disabled": True, "autocommit": True}
    options: dict[str, Any] = {"transaction": "autocommit", "ssl_mode": "disabled"}
    with (
        Database(server.url(), **options) as pooled,
        Database(server.url(), strategy="thread-local", **options) as local,
    ):
        sources = {
            "DBUtils PooledDB": of_dbutils(PooledDB(pymysql, **plain)),
            "wsgidb pooled": of_wsgidb(pooled),
            "wsgidb thread-local": of_wsgidb(local),
        }
        return rates(sources, nothing)


def lock(server: MariaDB) -> dict[str, float]:
    """Requests/s of 16 threads with one SELECT each, over a network with a round trip time of 2 ms."""
    with TCPProxy(server.port) as proxy:
        proxy.delay = 0.001
        url = proxy.url_from(server.url())
        plain = {**login(url), "ssl_disabled": True, "autocommit": True}
        options: dict[str, Any] = {"transaction": "autocommit", "ssl_mode": "disabled", "pool_size": 16}
        with Database(url, **options) as pooled:
            sources = {"DBUtils PooledDB": of_dbutils(PooledDB(pymysql, **plain)), "wsgidb pooled": of_wsgidb(pooled)}
            return rates(sources, select, threads=16)


# -- printing

SECTIONS: dict[str, Callable[[MariaDB], dict[str, Any]]] = {
    "write": write,
    "trips": trips,
    "connect": connect,
    "connect-sqlite": connect_sqlite,
    "checkout": checkout,
    "lock": lock,
}


def lines(found: dict[str, Any]) -> Iterator[str]:
    """The cells of a row: a rate with its ratio to the first rate, anything else unchanged."""
    first = next(iter(found.values()))
    for label, value in found.items():
        if isinstance(value, float):
            yield f"{label:34}{value:10,.0f}/s {value / first:8.1f} ×"
        elif isinstance(value, list):
            yield f"{label:34}{len(value)}: {', '.join(value)}"
        else:
            yield f"{label:34}{value[0]}; balances {value[1]}"


def main() -> None:
    with MariaDB() as server:
        for name in sys.argv[1:] or SECTIONS:
            function = SECTIONS[name]
            print(f"## {name}: {function.__doc__}", *lines(function(server)), "", sep="\n")


if __name__ == "__main__":
    main()
