"""The drivers under contract, each with its server. A new driver is a new entry in `CASES`.

What a driver cannot know or promise, it does not have in its `can`; tests of that are not run for it:

- "see": `inspect` tells clean from dirty. Of a creator's connection nothing is known, so it is always dirty.
- "hear": the free check hears the end of the connection. Plain PyMySQL has no fileno(), SQLite no line to listen on.
- "autocommit": it can be switched on. A creator's sqlite3 connection has no switch before Python 3.12.
- "mysql", "postgresql": it speaks to MariaDB, to PostgreSQL; "plaintext": what it says can be counted on the wire.
- "pymysql": it is PyMySQL itself, with its ways to go behind everybody's back.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import mysql.connector
import mysql.connector.cursor
import MySQLdb
import MySQLdb.cursors
import pymysql
import pymysql.cursors
import pytest

from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from wsgidb import Database
from wsgidb.config.settings import Settings
from wsgidb.drivers import make_driver
from wsgidb.drivers.base import Driver
from wsgidb.drivers.states import DIRTY

SETUP = (
    "CREATE TABLE contract (id INTEGER PRIMARY KEY, n INTEGER NOT NULL)",
    "INSERT INTO contract VALUES (1, 10)",
)
WRITE = "UPDATE contract SET n = 11 WHERE id = 1"
READ = "SELECT n FROM contract WHERE id = 1"
BROKEN = "SELECT no_such_column FROM contract"


ERRORS = (pymysql.Error, MySQLdb.MySQLError, mysql.connector.Error)
UNBUFFERED: dict[str, Any] = {
    "pymysql": pymysql.cursors.SSCursor,
    "MySQLdb": MySQLdb.cursors.SSCursor,
    "mysql": mysql.connector.cursor.MySQLCursor,
}


def soon(seconds: float = 10) -> float:
    return time.monotonic() + seconds


class WithDescriptor(pymysql.connections.Connection):
    """As C drivers are: it tells the descriptor of its socket."""

    def fileno(self) -> int:
        number: int = self._sock.fileno()  # type: ignore[attr-defined]
        return number


class Backend:
    """A driver's options, its server seen from outside, and what was opened, to be closed in the end."""

    def __init__(self, case: Case, options: dict[str, Any]) -> None:
        self.name, self.can, self.options = case.name, case.can, options
        self.opened: list[tuple[Driver, Any]] = []

    def driver(self, **options: Any) -> Driver:
        return make_driver(Settings.of({**self.options, **options}))

    def connect(self, driver: Driver) -> Any:
        conn = driver.connect(soon())
        self.opened.append((driver, conn))
        return conn

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a statement of somebody else's."""
        raise NotImplementedError

    def sessions(self) -> set[int]:
        """What the server knows to be open."""
        raise NotImplementedError

    @property
    def stored(self) -> int:
        """What is committed."""
        return int(self.query(READ)[0][0])


class OnServer(Backend):
    server: Any
    proxy: ClassVar[str]
    """The fixture of a network before the server."""
    ping_command: ClassVar[str]
    goodbye: ClassVar[str]

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = self.server.query(sql)
        return rows

    def sessions(self) -> set[int]:
        return set(self.server.processes("guest"))

    def kill(self, conn: Any) -> None:
        """End a connection from outside."""
        raise NotImplementedError

    def let_idle_timeout_pass(self, conn: Any) -> None:
        """Let the server end the connection soon, because it is idle."""
        raise NotImplementedError


class OnMariaDB(OnServer):
    server: MariaDB
    proxy = "proxy"
    ping_command, goodbye = "PING", "QUIT"

    def kill(self, conn: Any) -> None:
        self.query(f"KILL {session(conn)}")

    def let_idle_timeout_pass(self, conn: Any) -> None:
        run(conn, "SET wait_timeout = 1")


class ByMySQLClient(OnMariaDB):
    ping_command = "QUERY DO 0"  # its own ping has no deadline


class OnPostgreSQL(OnServer):
    server: PostgreSQL
    proxy = "postgresql_proxy"
    ping_command, goodbye = "QUERY", "TERMINATE"

    def kill(self, conn: Any) -> None:
        self.query(f"SELECT pg_terminate_backend({conn.info.backend_pid})")

    def let_idle_timeout_pass(self, conn: Any) -> None:
        run(conn, "SET idle_session_timeout = 100")
        conn.commit()


class OnFile(Backend):
    path: Path

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.path, timeout=0, isolation_level=None)) as other:
            return other.execute(sql).fetchall()

    def sessions(self) -> set[int]:
        def leads_to(descriptor: str) -> str:
            try:
                return os.readlink(f"/proc/self/fd/{descriptor}")
            except FileNotFoundError:  # the one that listdir itself used
                return ""

        return {int(number) for number in os.listdir("/proc/self/fd") if leads_to(number) == str(self.path)}


@dataclass(frozen=True)
class Case:
    name: str
    server: str
    """The fixture of its server; none for a file."""
    options: Callable[[Any], dict[str, Any]]
    """How to reach the server, or the file."""
    can: frozenset[str]


def _creator(connect: Any) -> Callable[[MariaDB], dict[str, Any]]:
    def options(server: MariaDB) -> dict[str, Any]:
        where = {"host": "127.0.0.1", "port": server.port, "user": "guest", "database": "test"}
        return {"creator": partial(connect, **where, ssl_disabled=True)}

    return options


def _file_creator(path: Path) -> dict[str, Any]:
    return {"creator": partial(sqlite3.connect, str(path), check_same_thread=False)}


SEE, HEAR, AUTOCOMMIT, PLAINTEXT = "see", "hear", "autocommit", "plaintext"
MYSQL, POSTGRESQL = "mysql", "postgresql"
PYMYSQL = "pymysql"
_SERVER = {AUTOCOMMIT, MYSQL}
_OURS = _SERVER | {SEE, HEAR}

QUERIES = {"mysql+mysqlconnector": "?buffered=true"}
"""By default the connector's cursors leave the rows on the server, as those of `unbuffered` do everywhere."""


def _url(scheme: str) -> Callable[[MariaDB], dict[str, Any]]:
    return lambda server: {"url": server.url().replace("mysql+pymysql", scheme) + QUERIES.get(scheme, "")}


def _tls_url(scheme: str) -> Callable[[MariaDB], dict[str, Any]]:
    return lambda server: {**_url(scheme)(server), "ssl_mode": "verify_ca", "ssl_ca": str(server.ca)}


CASES = (
    Case("pymysql", "mariadb", _url("mysql+pymysql"), frozenset(_OURS | {PLAINTEXT, PYMYSQL})),
    Case("pymysql-tls", "tls_mariadb", _tls_url("mysql+pymysql"), frozenset(_OURS | {PYMYSQL})),
    Case("mysqlclient", "mariadb", _url("mysql+mysqldb"), frozenset(_OURS | {PLAINTEXT})),
    Case("mysqlclient-tls", "tls_mariadb", _tls_url("mysql+mysqldb"), frozenset(_OURS)),
    Case("connector", "mariadb", _url("mysql+mysqlconnector"), frozenset(_OURS | {PLAINTEXT})),
    Case("connector-tls", "tls_mariadb", _tls_url("mysql+mysqlconnector"), frozenset(_OURS)),
    Case(
        "psycopg",
        "postgresql",
        lambda server: {"url": server.url()},
        frozenset({SEE, HEAR, AUTOCOMMIT, POSTGRESQL, PLAINTEXT}),
    ),
    Case(
        "psycopg-tls",
        "tls_postgresql",
        lambda server: {"url": server.url(), "ssl_mode": "verify_identity", "ssl_ca": str(server.ca)},
        frozenset({SEE, HEAR, AUTOCOMMIT, POSTGRESQL}),
    ),
    Case("sqlite", "", lambda path: {"url": f"sqlite:///{path}"}, frozenset({SEE, AUTOCOMMIT})),
    Case("creator-pymysql", "mariadb", _creator(pymysql.connect), frozenset(_SERVER | {PLAINTEXT})),
    Case("creator-fileno", "mariadb", _creator(WithDescriptor), frozenset(_SERVER | {HEAR, PLAINTEXT})),
    Case("creator-sqlite3", "", _file_creator, frozenset()),
)


SLOW = {"mysqlclient-tls", "connector-tls"}
"""What TLS is to them is in test_others_tls.py; that all the rest is the same need not be seen in every environment."""


def over(*abilities: str) -> pytest.MarkDecorator:
    """Run a test for each driver that has all of these abilities."""
    chosen = [
        pytest.param(
            case,
            id=case.name,
            marks=[pytest.mark.server] * bool(case.server) + [pytest.mark.slow] * (case.name in SLOW),
        )
        for case in CASES
        if case.can.issuperset(abilities)
    ]
    return pytest.mark.parametrize("backend", chosen, indirect=True)


def prepared(case: Case, server: Any, path: Path) -> Iterator[Backend]:
    """The case's backend with its table; all is closed and dropped after."""
    backend: Backend
    if case.server:
        mariadb = ByMySQLClient if case.name.startswith("mysqlclient") else OnMariaDB
        kind = OnPostgreSQL if POSTGRESQL in case.can else mariadb
        backend = kind(case, case.options(server))
        backend.server = server
    else:
        backend = OnFile(case, case.options(path))
        backend.path = path
    for sql in SETUP:
        backend.query(sql)
    try:
        yield backend
    finally:
        for driver, conn in backend.opened:
            with suppress(Exception):  # most are closed by now
                driver.abandon(conn)
        if case.server:
            backend.query("DROP TABLE contract")


def database(backend: Backend, **options: Any) -> Database:
    """A Database of one connection on the backend."""
    return Database(**{"pool_size": 1, **backend.options, **options})


def run(conn: Any, sql: str) -> list[Any]:
    """The rows of one statement, on a cursor that is closed after."""
    cursor = conn.cursor()
    try:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        cursor.close()


def settle(driver: Driver, conn: Any) -> str | None:
    """What is done to a connection that comes back: None when it is fit for the next request, else why not."""
    state = driver.inspect(conn)
    if isinstance(state, str):
        return state
    if state is DIRTY:
        try:
            driver.rollback(conn, soon())
        except Exception as error:  # noqa: BLE001 - that is its contract: any exception
            return f"rollback failed: {error!r}"
    return None


# What each of MySQL's drivers calls differently


def package(conn: Any) -> str:
    """The driver's top package, by a connection of its or of a subclass of ours."""
    tops: list[str] = [cls.__module__.partition(".")[0] for cls in conn.__class__.__mro__]  # of a lease, too
    return next(top for top in tops if top in UNBUFFERED)


def unbuffered(conn: Any) -> Any:
    """A cursor whose rows stay on the server until they are fetched."""
    cls = UNBUFFERED[package(conn)]
    return conn.cursor(cursor_class=cls) if package(conn) == "mysql" else conn.cursor(cls)


def session(conn: Any) -> int:
    """The server's number of the connection, without asking."""
    return int(conn.connection_id if package(conn) == "mysql" else conn.thread_id())


def set_autocommit(conn: Any, on: bool) -> None:
    if package(conn) == "mysql":
        conn.autocommit = on
    else:
        conn.autocommit(on)


def query(conn: Any, sql: str) -> None:
    """A statement without a result, past every cursor."""
    (conn.cmd_query if package(conn) == "mysql" else conn.query)(sql)


class Lease:
    """As much of a lease as a driver may ask for; it is the connection's present one."""

    driver_connection: Any

    def __init__(self, driver: Driver, raw: Any) -> None:
        object.__setattr__(self, "driver_connection", raw)
        driver.activity(raw).lease = self

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver_connection, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.driver_connection, name, value)
