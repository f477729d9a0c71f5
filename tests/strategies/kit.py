"""What the strategy suite runs over: one list of strategies and one of drivers. A new one is only added here."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

from werkzeug.test import Client, TestResponse

from support.client import connect
from support.mariadb import MariaDB
from support.proxy import TCPProxy

STRATEGIES = ("per-request", "thread-local", "pooled", "dbutils-persistent", "dbutils-pooled", "sqlalchemy")
KEEPING = tuple(name for name in STRATEGIES if name != "per-request")
"""Those that keep a connection between requests."""
PER_THREAD = ("thread-local", "dbutils-persistent")
POOLS = tuple(name for name in KEEPING if name not in PER_THREAD)
DRIVERS = ("pymysql", "sqlite")

Row = tuple[Any, ...]
BEFORE, AFTER = (100, 100, 0), (90, 110, 1)
"""The state of a bank before and after the transfer: both balances, and the number of transfers noted."""


class Bank(ABC):
    """A database with two accounts of 100 each. Its own connection, beside the package under test, never waits for
    a lock: so whatever a request left locked is an error."""

    url: str

    @abstractmethod
    def rows(self, sql: str) -> list[Row]:
        """What a statement gives to somebody else, who commits at once."""

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
        """As filled, once nobody has a lock any more."""
        self.rows("UPDATE account SET balance = 100")
        self.rows("DELETE FROM transfer")

    @property
    def state(self) -> Row:
        balances = [balance for _, balance in self.rows("SELECT id, balance FROM account ORDER BY id")]
        return (*balances, self.rows("SELECT COUNT(*) FROM transfer")[0][0])


class MariaDBBank(Bank):
    """On a real server, behind a network that the test rules."""

    def __init__(self, server: MariaDB, proxy: TCPProxy) -> None:
        self.server, self.proxy = server, proxy
        self.url = proxy.url_from(server.url())
        self._own: Any = connect(server.url("root"), autocommit=True, init_command="SET innodb_lock_wait_timeout = 0")
        self.fill()

    def rows(self, sql: str) -> list[Row]:
        with self._own.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    def reset(self) -> None:
        self.rows("SET innodb_lock_wait_timeout = 10")
        super().reset()
        self.rows("SET innodb_lock_wait_timeout = 0")

    def status(self, *names: str) -> list[int]:
        """Some of the server's own counters; asking is one more Question."""
        found: dict[str, str] = dict(self.rows(f"SHOW GLOBAL STATUS WHERE variable_name IN {(*names, '')}"))
        return [int(found[name]) for name in names]

    def close(self) -> None:
        self.rows("DROP TABLE account")
        self.rows("DROP TABLE transfer")
        self._own.close()


class SQLiteBank(Bank):
    def __init__(self, path: Path) -> None:
        self.url = f"sqlite:///{path}?timeout=0.05"
        self._own = sqlite3.connect(path, timeout=0, isolation_level=None)
        self.fill()

    def rows(self, sql: str) -> list[Row]:
        return self._own.execute(sql).fetchall()

    def close(self) -> None:
        self._own.close()


def run(conn: Any, sql: str) -> list[Row]:
    """One statement as a handler runs it; COMMIT is the connection's method."""
    if sql == "COMMIT":
        conn.commit()
        return []
    with closing(conn.cursor()) as cursor:
        cursor.execute(sql)
        return list(cursor.fetchall())


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
