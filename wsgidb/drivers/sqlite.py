"""SQLite through the standard library's sqlite3: the embedded default.

No server, so nothing to hear on a line and nothing to wait for but locks, which ``timeout`` bounds.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar, Literal

from .. import values
from ..activity import Activity
from ..errors import ConfigError, TransactionLost
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
LEGACY_TRANSACTION_CONTROL = -1
BUSY_TIMEOUT = 5.0
"""Seconds to wait for another connection's lock, where the url says nothing."""


class Cursor(sqlite3.Cursor):
    """The driver's cursor, observed; it names its lease, and can be refused after it."""

    lease: Any = None
    raw: Connection

    @property
    def connection(self) -> Any:  # the lease, not the raw one
        return self.lease

    def execute(self, *args: Any) -> Any:
        return self.raw.observe(super().execute, args)

    def executemany(self, *args: Any) -> Any:
        return self.raw.observe(super().executemany, args)

    def executescript(self, *args: Any) -> Any:
        raw = self.raw
        raw.refuse_loss()  # it begins with a COMMIT, for which Python 3.10 calls commit()
        raw.in_script = True
        try:
            return raw.observe(super().executescript, args)
        finally:
            raw.in_script = False


_raw_connection: Callable[[Cursor], Any] = vars(sqlite3.Cursor)["connection"].__get__


class Connection(sqlite3.Connection):
    """The driver's connection, observed, whose cursors are ours."""

    seen: Activity
    clock: Clock
    guarded = False
    """Whether a transaction that SQLite has ended must not be continued: the lease is to commit it as one."""
    settled_changes = 0

    in_script = False
    busy = False
    """Another thread is in the middle of a statement."""

    def cursor(self, factory: Any = Cursor) -> Any:
        made: Any = super().cursor(_ours(factory))
        made.raw = self
        return made

    def observe(self, method: Callable[..., Any], args: Any) -> Any:
        """Run a statement. Some errors (a full disk, INSERT OR ROLLBACK) end the whole transaction."""
        seen = self.seen
        if seen.lost is not None:
            seen.go_on(args[0])
        seen.touched += 1
        before = self.in_transaction
        began = self.clock()
        try:
            return method(*args)
        except sqlite3.Error as error:
            if before and self.guarded and not self.in_transaction:
                seen.lost = f"SQLite rolled the transaction back with {error!r}, and the handler went on"
            raise
        finally:
            seen.statements += 1
            seen.seconds += self.clock() - began
            if not self.in_transaction:  # what was written stands, or is gone
                self.settled_changes = self.total_changes
            if self.busy:  # the lease has ended meanwhile, and nobody else will ever close this
                super().rollback()  # before Python 3.12 a statement left over keeps the file's locks beyond close()
                self.close()

    def commit(self) -> None:
        if self.in_script:
            return super().commit()  # a part of the script, which is one statement
        self.refuse_loss()
        self.end(super().commit)

    def rollback(self) -> None:
        self.end(super().rollback)

    def __exit__(self, kind: Any, *error: Any) -> Literal[False]:
        """The driver's own would go past the methods above."""
        if kind is not None:
            self.rollback()
            return False
        self.refuse_loss()  # and do not take what follows for a rollback of the handler's
        try:
            self.commit()
        except BaseException:
            self.rollback()
            raise
        return False

    def refuse_loss(self) -> None:
        if self.seen.lost is not None:
            raise TransactionLost(self.seen.lost)

    def end(self, method: Callable[[], None]) -> None:
        """Commit or roll back as a statement of the handler's."""
        seen = self.seen
        began = self.clock()
        try:
            method()
        finally:
            seen.statements += 1
            seen.seconds += self.clock() - began
        self.settled()

    def settled(self) -> None:
        self.seen.settled()
        self.settled_changes = self.total_changes


@cache
def _ours(factory: Any) -> Any:
    """A handler's own cursor class, made able to do what `Cursor` does."""
    if not isinstance(factory, type) or issubclass(factory, Cursor):
        return factory
    return Cursor if factory is sqlite3.Cursor else type(factory.__name__, (factory, Cursor), {})


class SQLite(Driver):
    name = "sqlite"
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
        conn.seen, conn.clock, conn.guarded = Activity(), self.clock, False
        try:
            self.run(conn, (f"PRAGMA foreign_keys = {int(foreign_keys)}", *self.settings.init_sql))
            conn.commit()
        except BaseException:
            conn.close()
            raise
        conn.seen.statements, conn.seen.seconds = 0, 0.0  # those were not a handler's
        conn.guarded = self.settings.transaction == "request"
        return conn

    def ping(self, conn: Connection, deadline: float) -> None:
        seen = conn.seen
        statements, seconds, touched = seen.statements, seen.seconds, seen.touched
        self.run(conn, (self.settings.ping_query or "SELECT 1",))
        seen.statements, seen.seconds, seen.touched = statements, seconds, touched

    def rollback(self, conn: Connection, deadline: float) -> None:
        if hasattr(conn, "autocommit"):  # Python 3.12: where a handler set it, a rollback does nothing, or begins anew
            conn.autocommit = LEGACY_TRANSACTION_CONTROL
        sqlite3.Connection.rollback(conn)  # not counted as a handler's
        conn.settled()

    def commit(self, conn: Connection) -> None:
        if conn.in_transaction or conn.seen.lost is not None:
            conn.commit()

    def close(self, conn: Connection) -> None:
        conn.close()

    def inspect(self, conn: Connection) -> State | str:
        try:
            return DIRTY if conn.in_transaction or conn.seen.lost is not None else CLEAN
        except sqlite3.ProgrammingError:
            return "closed by the application"

    def activity(self, conn: Connection) -> Activity:
        return conn.seen

    def rows_written(self, conn: Connection) -> int:
        return conn.total_changes - conn.settled_changes

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
        raw = _raw_connection(cursor)
        before, raw.busy = raw.busy, True  # told before it is known, so that the other thread cannot miss it
        try:
            cursor.close()
        except sqlite3.ProgrammingError:  # "Recursive use of cursors": another thread is in the middle of it
            return "in the middle of a statement"
        raw.busy = before
        return super().retire_cursor(cursor)
