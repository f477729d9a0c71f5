"""SQLite through the standard library's sqlite3: the embedded default.

No server, so nothing to hear on a line and nothing to wait for but locks, which ``timeout`` bounds.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

from .. import values
from ..errors import ConfigError
from ..settings import Settings
from .base import CLEAN, DIRTY, Clock, Driver, State, refuse_owned, unknown_option

OWNED = {
    "isolation_level": "transaction",
    "autocommit": "transaction",
    "check_same_thread": "",
    "factory": "",
    "database": "url",
    "uri": "",
}
CONVERTERS: dict[str, Callable[[str], Any]] = {
    "timeout": float,
    "foreign_keys": values.boolean,
    "detect_types": int,
    "cached_statements": int,
}
BUSY_TIMEOUT = 5.0
"""Seconds to wait for another connection's lock, where the url says nothing."""


class Cursor(sqlite3.Cursor):
    """The driver's cursor; a subclass, so that it can name its lease and be refused after it."""

    lease: Any = None

    @property
    def connection(self) -> Any:  # the lease, not the raw one
        return self.lease


_raw_connection: Callable[[Cursor], Any] = vars(sqlite3.Cursor)["connection"].__get__


class Connection(sqlite3.Connection):
    """The driver's connection, whose cursors are ours."""

    busy = False
    """Another thread is in the middle of a statement."""

    def cursor(self, factory: Any = Cursor) -> Any:
        return super().cursor(_ours(factory))


@cache
def _ours(factory: Any) -> Any:
    """A handler's own cursor class, made able to do what `Cursor` does."""
    if not isinstance(factory, type) or issubclass(factory, Cursor):
        return factory
    return Cursor if factory is sqlite3.Cursor else type(factory.__name__, (factory, Cursor), {})


class SQLite(Driver):
    connection_class = Connection
    cursor_methods: ClassVar[tuple[str, ...]] = ("execute", "executemany", "executescript")

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        super().__init__(settings, clock)
        url = settings.url
        assert url is not None, "made for urls only"
        if url.host or url.user or not url.name:
            raise ConfigError(f"url: {url} names no file; takes sqlite:///relative.db or sqlite:////absolute.db")
        if url.name == ":memory:" or url.name.startswith("file:"):
            raise ConfigError(
                f"url: {url} would be a new, empty database for every connection; use a file: sqlite:////tmp/name.db"
            )
        self._path = url.name
        self._arguments: dict[str, Any] = {"timeout": BUSY_TIMEOUT, "foreign_keys": True}
        for name, text in url.query.items():
            self._check_name(name)
            try:
                self._arguments[name] = CONVERTERS[name](text)
            except ValueError:
                raise ConfigError(f"{name}: bad value {text!r}") from None
        if not callable(settings.connect_args):
            for name in settings.connect_args:
                self._check_name(name)

    @staticmethod
    def _check_name(name: str) -> None:
        refuse_owned(name, OWNED)
        if name not in CONVERTERS:
            raise unknown_option(name, set(CONVERTERS), "sqlite")

    def connect(self, deadline: float) -> Connection:
        given = self.settings.connect_args
        arguments = {**self._arguments, **(given() if callable(given) else given)}
        foreign_keys = arguments.pop("foreign_keys")
        arguments["isolation_level"] = None if self.autocommit else ""  # "" begins a transaction before a write
        conn = sqlite3.connect(
            self._path,
            **arguments,
            factory=Connection,
            check_same_thread=False,  # one thread at a time is what a lease grants
        )
        try:
            self.run(conn, (f"PRAGMA foreign_keys = {int(foreign_keys)}", *self.settings.init_sql))
            conn.commit()
        except BaseException:
            conn.close()
            raise
        return conn

    def ping(self, conn: Connection, deadline: float) -> None:
        self.run(conn, (self.settings.ping_query or "SELECT 1",))

    def rollback(self, conn: Connection, deadline: float) -> None:
        conn.rollback()

    def close(self, conn: Connection) -> None:
        conn.close()

    def inspect(self, conn: Connection) -> State | str:
        try:
            return DIRTY if conn.in_transaction else CLEAN
        except sqlite3.ProgrammingError:
            return "closed by the application"

    def abandon(self, conn: Connection) -> None:
        """There is no server to talk to. Closing frees the file's locks now; garbage collection would, too, but a
        traceback may keep the connection alive for long."""
        if not conn.busy:
            return conn.close()
        try:
            conn.interrupt()  # the other thread's statement ends; its cursor keeps the connection until then
        except sqlite3.ProgrammingError:
            pass  # closed by the application

    def is_disconnect(self, error: BaseException) -> bool:
        return False

    def adopt(self, cursor: Any, conn: Any) -> Any:
        cursor.lease = conn
        return cursor

    def retire_cursor(self, cursor: Any) -> str | None:
        """An unfinished SELECT keeps its lock and its snapshot, in_transaction says nothing of it, and a rollback
        does not end it; closing its cursor does."""
        try:
            cursor.close()
        except sqlite3.ProgrammingError:  # "Recursive use of cursors": another thread is in the middle of it
            _raw_connection(cursor).busy = True
            return "in the middle of a statement"
        return super().retire_cursor(cursor)
