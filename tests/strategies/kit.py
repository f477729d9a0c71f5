"""What the strategy suite runs over: one list of strategies and one of drivers. A new one is only added here."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch
from wsgiref.validate import validator

import mysql.connector
import mysql.connector.cursor
import MySQLdb
import MySQLdb.cursors
import psycopg
import psycopg.rows
import pymysql
import pymysql.cursors
from pymysql.constants.CLIENT import MULTI_STATEMENTS
from werkzeug.test import Client, TestResponse

from support import mariadb, postgresql
from support.client import connect
from support.clock import Clock
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from support.waiting import until

STRATEGIES = ("per-request", "thread-local", "pooled", "dbutils-persistent", "dbutils-pooled", "sqlalchemy")
KEEPING = tuple(name for name in STRATEGIES if name != "per-request")
"""The strategies that keep a connection between requests."""
PER_THREAD = ("thread-local", "dbutils-persistent")
POOLS = tuple(name for name in KEEPING if name not in PER_THREAD)
DRIVERS = ("pymysql", "mysqlclient", "connector", "psycopg", "sqlite")
MYSQL = DRIVERS[:3]
WIRED = DRIVERS[:-1]
"""The drivers with a server behind a network."""

Row = tuple[Any, ...]
BEFORE, AFTER = (100, 100, 0), (90, 110, 1)
"""The state of a bank before and after the transfer: both balances, and the number of transfers noted."""


class Bank(ABC):
    """A database with two accounts of 100 each. Its own connection, beside the package under test, never waits for
    a lock: so whatever a request left locked is an error."""

    url: str
    errors: tuple[type[Exception], ...]
    """The errors of the driver, and of the bank's own."""
    attribute: ClassVar[tuple[str, Any]]
    """An attribute of a connection that its users set, and a value."""
    no_waiting: tuple[str, ...] = ()
    """init_sql with which a lock that is taken is an error at once."""

    @abstractmethod
    def rows(self, sql: str) -> list[Row]:
        """The rows of a statement that another connection runs, which commits at once."""

    def flip(self, conn: Any, on: bool) -> None:
        """Set autocommit as the driver's users do."""
        conn.autocommit = on

    def flip_otherwise(self, conn: Any, on: bool) -> None:
        """Set it in a way that wsgidb's proxy does not see."""
        self.flip(conn, on)

    def fill(self) -> None:
        for sql in (
            "DROP TABLE IF EXISTS account",
            "DROP TABLE IF EXISTS transfer",
            "CREATE TABLE account (id INT PRIMARY KEY, balance INT)",
            "CREATE TABLE transfer (amount INT)",
            "INSERT INTO account VALUES (1, 100), (2, 100)",
        ):
            self.rows(sql)

    def reset(self) -> None:
        """Restore the balances, once nobody has a lock any more."""
        self.rows("UPDATE account SET balance = 100")
        self.rows("DELETE FROM transfer")

    @property
    def state(self) -> Row:
        balances = [balance for _, balance in self.rows("SELECT id, balance FROM account ORDER BY id")]
        return (*balances, self.rows("SELECT COUNT(*) FROM transfer")[0][0])


class WiredBank(Bank):
    """A bank on a real server, behind a network that the test controls. It begins with the sessions of earlier tests
    ended, so that what the server counts is of this test."""

    server: Any
    proxy: TCPProxy
    session_sql: str
    """Gives the server's number of the session."""
    plain: ClassVar[dict[str, Any]] = {}
    """Options with which the driver prepares no statements by itself, so that each statement is one QUERY."""
    begins: tuple[str, ...] = ()
    """What the driver sends by itself, as the first command of a transaction, unless it autocommits."""
    greeting: tuple[str, ...] = ()
    """What the driver sends after each login."""
    opening: tuple[str, ...] = ()
    """What it sends then without autocommit."""
    ping_command: str
    goodbye: str
    deadlock: object
    """The code of the error that the victim of a deadlock gets."""
    lock_timeout: object
    """The code of the error that a statement gets which has waited too long for a lock."""
    shortest: ClassVar[float] = 0.2
    """Seconds of the shortest deadline for connecting that the driver keeps (support/exceptions.py)."""

    def url_of(self, user: str) -> str:
        """The bank's address for one more user."""
        return self.proxy.url_from(self.server.url(user))

    @abstractmethod
    def code(self, error: BaseException) -> object:
        """The server's code of a driver's error."""

    @abstractmethod
    def aborted(self) -> int:
        """How many sessions ended without a goodbye so far."""

    @abstractmethod
    def limited_user(self, name: str, connections: int) -> None:
        """Make a user who may have so many connections at once."""

    @abstractmethod
    def drop_user(self, name: str) -> None:
        """Remove that user."""

    @abstractmethod
    def sleep_sql(self, seconds: float) -> str:
        """A statement that takes so long."""


class MariaDBBank(WiredBank):
    """A bank on MariaDB, through PyMySQL."""

    errors: tuple[type[Exception], ...] = (pymysql.err.Error,)
    attribute: ClassVar[tuple[str, Any]] = ("cursorclass", pymysql.cursors.DictCursor)
    scheme, query = "mysql+pymysql", ""
    several: ClassVar[dict[str, Any]] = {"connect_args": {"client_flag": MULTI_STATEMENTS}}
    """Options with which a statement may be several."""
    no_waiting = ("SET innodb_lock_wait_timeout = 0",)
    session_sql = "SELECT CONNECTION_ID()"
    ping_command, goodbye = "PING", "QUIT"
    deadlock, lock_timeout = 1213, 1205

    def __init__(self, server: MariaDB, proxy: TCPProxy) -> None:
        self.server, self.proxy = server, proxy
        self.url = self.url_of("guest")
        self._own: Any = connect(server.url("root"), autocommit=True)
        mariadb.end_others(self.rows)
        self.fill()
        self.rows("SET innodb_lock_wait_timeout = 0")

    def url_of(self, user: str) -> str:
        return self.by_driver(super().url_of(user))

    @classmethod
    def by_driver(cls, url: str) -> str:
        """A server's url, for this driver."""
        return url.replace("mysql+pymysql", cls.scheme) + cls.query

    def rows(self, sql: str) -> list[Row]:
        with self._own.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def reset(self) -> None:
        self.rows("SET innodb_lock_wait_timeout = 10")
        super().reset()
        self.rows("SET innodb_lock_wait_timeout = 0")

    def code(self, error: BaseException) -> object:
        return error.args[0]

    def flip(self, conn: Any, on: bool) -> None:
        conn.autocommit(on)

    def flip_otherwise(self, conn: Any, on: bool) -> None:
        run(conn, f"SET autocommit = {int(on)}")

    def begin(self, conn: Any) -> None:
        """Begin a transaction as the driver's users do."""
        conn.begin()

    def say(self, conn: Any, sql: bytes | bytearray) -> None:
        """Run a statement without a cursor."""
        conn.query(sql)

    def unbuffered(self, conn: Any) -> Any:
        """A cursor that leaves its rows on the server."""
        return conn.cursor(pymysql.cursors.SSCursor)

    def aborted(self) -> int:
        return self.status("Aborted_clients")[0]

    def limited_user(self, name: str, connections: int) -> None:
        self.rows(f"CREATE USER {name}@'%' WITH MAX_USER_CONNECTIONS {connections}")
        self.rows(f"GRANT ALL ON test.* TO {name}@'%'")

    def drop_user(self, name: str) -> None:
        self.rows(f"DROP USER {name}@'%'")

    def sleep_sql(self, seconds: float) -> str:
        return f"SELECT SLEEP({seconds})"

    def status(self, *names: str) -> list[int]:
        """Some of the server's own counters; asking is one more Question."""
        found: dict[str, str] = dict(self.rows(f"SHOW GLOBAL STATUS WHERE variable_name IN {(*names, '')}"))
        return [int(found[name]) for name in names]

    def drop(self, *tables: str) -> None:
        """Drop tables, if they exist. The server may be writing its statistics of them, which takes a moment."""
        self.rows("SET innodb_lock_wait_timeout = 10")
        self.rows(f"DROP TABLE IF EXISTS {', '.join(tables)}")
        self.rows("SET innodb_lock_wait_timeout = 0")

    def close(self) -> None:
        self.drop("account", "transfer")
        self._own.close()


class MySQLClientBank(MariaDBBank):
    """By mysqlclient, whose own ping has no deadline: so wsgidb's is a statement."""

    errors = (MySQLdb.MySQLError, *MariaDBBank.errors)
    attribute: ClassVar[tuple[str, Any]] = ("cursorclass", MySQLdb.cursors.DictCursor)
    scheme = "mysql+mysqldb"
    several: ClassVar[dict[str, Any]] = {}
    ping_command = "QUERY DO 0"
    shortest = 1.0

    def unbuffered(self, conn: Any) -> Any:
        return conn.cursor(MySQLdb.cursors.SSCursor)


class ConnectorBank(MariaDBBank):
    """By MySQL Connector/Python. By default its cursors leave the rows on the server, and rows left unread there cost
    the connection."""

    errors = (mysql.connector.Error, *MariaDBBank.errors)
    attribute: ClassVar[tuple[str, Any]] = ("can_consume_results", True)
    opening = ("QUERY SET AUTOCOMMIT = 0",)
    scheme, query = "mysql+mysqlconnector", "?buffered=true"
    several: ClassVar[dict[str, Any]] = {}

    def flip(self, conn: Any, on: bool) -> None:
        conn.autocommit = on

    def begin(self, conn: Any) -> None:
        run(conn, "BEGIN")  # the driver's own start_transaction() refuses where one is open

    def say(self, conn: Any, sql: bytes | bytearray) -> None:
        conn.cmd_query(sql)

    def unbuffered(self, conn: Any) -> Any:
        return conn.cursor(cursor_class=mysql.connector.cursor.MySQLCursor)


MYSQL_BANKS = {"pymysql": MariaDBBank, "mysqlclient": MySQLClientBank, "connector": ConnectorBank}


class PostgreSQLBank(WiredBank):
    attribute: ClassVar[tuple[str, Any]] = ("row_factory", psycopg.rows.dict_row)
    errors = (psycopg.Error,)
    no_waiting = ("SET lock_timeout = 1",)
    session_sql = "SELECT pg_backend_pid()"
    plain: ClassVar[dict[str, Any]] = {"connect_args": {"prepare_threshold": None}}
    begins = ("QUERY BEGIN",)
    greeting = ("QUERY SELECT pg_catalog.pg_backend_pid()",)
    ping_command, goodbye = "QUERY", "TERMINATE"
    deadlock, lock_timeout = "40P01", "55P03"

    def __init__(self, server: PostgreSQL, proxy: TCPProxy) -> None:
        self.server, self.proxy = server, proxy
        self.url = proxy.url_from(server.url())
        self._own = server.connect()
        postgresql.end_others(self.rows)
        self.rows("SET client_min_messages = warning")
        self.fill()
        self.rows("SET lock_timeout = 1")

    def rows(self, sql: str) -> list[Row]:
        cursor: Any = self._own.cursor()
        cursor.execute(sql)
        return list(cursor) if cursor.description else []

    def reset(self) -> None:
        self.rows("SET lock_timeout = 10000")
        super().reset()
        self.rows("SET lock_timeout = 1")

    def code(self, error: BaseException) -> object:
        return error.sqlstate if isinstance(error, psycopg.Error) else None

    def flip_otherwise(self, conn: Any, on: bool) -> None:
        conn.driver_connection.autocommit = on

    def aborted(self) -> int:
        return int(self.rows("SELECT sessions_abandoned FROM pg_stat_database WHERE datname = 'test'")[0][0])

    def limited_user(self, name: str, connections: int) -> None:
        self.rows(f"CREATE ROLE {name} LOGIN CONNECTION LIMIT {connections}")

    def drop_user(self, name: str) -> None:
        self.rows(f"DROP ROLE {name}")

    def sleep_sql(self, seconds: float) -> str:
        return f"SELECT pg_sleep({seconds})"

    def close(self) -> None:
        self.rows("SET lock_timeout = 10000")
        self.rows("DROP TABLE account")
        self.rows("DROP TABLE transfer")
        self._own.close()


class SQLiteBank(Bank):
    errors = (sqlite3.Error,)
    attribute: ClassVar[tuple[str, Any]] = ("row_factory", sqlite3.Row)

    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}?timeout=0.05"
        self._own = sqlite3.connect(path, timeout=0, isolation_level=None)
        self.fill()

    def rows(self, sql: str) -> list[Row]:
        return self._own.execute(sql).fetchall()

    def flip(self, conn: Any, on: bool) -> None:
        conn.isolation_level = None if on else "DEFERRED"

    def close(self) -> None:
        self._own.close()


@contextmanager
def limited(database: Any, **seconds: float) -> Iterator[None]:
    """Shorten time limits for what is to hang. All else has the usual ones, which a busy machine keeps to, too. Or the
    other way round: lengthen short ones for what is not to hang."""
    usual = {name: getattr(database.settings, name) for name in seconds}
    try:
        for name, limit in seconds.items():
            object.__setattr__(database.settings, name, limit)  # which are frozen
        yield
    finally:
        for name, limit in usual.items():
            object.__setattr__(database.settings, name, limit)


def run(conn: Any, sql: str) -> list[Row]:
    """One statement as a handler runs it; COMMIT is the connection's method."""
    if sql == "COMMIT":
        conn.commit()
        return []
    with closing(conn.cursor()) as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall()) if cursor.description else []


def session_of(conn: Any) -> int:
    """The server's number of a lease's session."""
    postgresql = isinstance(conn, psycopg.Connection)
    return int(run(conn, (PostgreSQLBank if postgresql else MariaDBBank).session_sql)[0][0])


def get(app: Any) -> TestResponse:
    """One request, under a lint; the application's exceptions come through."""
    return Client(validator(app)).get("/", buffered=True)


class Worker(threading.Thread):
    """A thread whose outcome is asked for, with a deadline, instead of being lost."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function, self._result = function, None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self._result = self._function()
        except BaseException as error:  # noqa: BLE001 - raised where the outcome is asked for
            self._error = error

    def outcome(self, timeout: float = 10) -> Any:
        self.join(timeout)
        assert not self.is_alive(), f"not done after {timeout:g} s"
        if self._error is not None:
            raise self._error
        return self._result


@contextmanager
def overload(database: Any, clock: Clock) -> Iterator[None]:
    """Let the only connection of a pool be overloaded, by a test's own clock. One caller is waiting then."""
    lease = Worker(database.lease).outcome()
    waiting = []
    for number in range(3):
        waiting.append(Worker(database.lease))
        until(lambda number=number: database.stats().waiting == number + 1, what="it to wait")  # type: ignore[misc]
    with patch("wsgidb.strategies.overload.SERVED", 2):
        for seconds in (0.2, 5.0):
            clock.advance(seconds)
            lease.close()
            lease = waiting.pop(0).outcome()
    try:
        yield
    finally:
        lease.close()
        waiting.pop().outcome().close()


def together(functions: Iterable[Callable[[], Any]], timeout: float = 30) -> list[Any]:
    """The outcomes of functions that run in a thread each."""
    return [worker.outcome(timeout) for worker in [Worker(function) for function in functions]]


def in_child(function: Callable[[], Any]) -> Any:
    """What *function* returns in a forked child (as JSON can tell it), which ends without running any exit handlers."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: a fork with threads is the very point here
        pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(20)
            text = json.dumps({"result": function()})
        except BaseException as error:  # noqa: BLE001 - the parent tells
            text = json.dumps({"error": f"{type(error).__name__}: {error}"})
        os.write(writing, text.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        told = json.loads(pipe.read() or '{"error": "died"}')
    os.waitpid(pid, 0)
    assert "error" not in told, f"in the child: {told['error']}"
    return told["result"]
