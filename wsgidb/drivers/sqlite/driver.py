"""SQLite through the standard library's sqlite3.

There is no server and no network. The only thing to wait for is a lock, for up to ``timeout`` seconds.
"""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import suppress
from typing import Any, ClassVar

from ...config import values
from ...config.hints import refuse_owned, unknown_to_driver
from ...config.settings import Settings
from ...errors import ConfigError, TransactionLost
from ..activity import Activity
from ..base import Driver
from ..states import CLEAN, DIRTY, Check, Clock, State
from ..tracing import traced
from .connection import Connection
from .cursor import Cursor
from .statements import BY_THEMSELVES, STANDING
from .transactions import LEGACY_TRANSACTION_CONTROL

OWNED = {
    "isolation_level": "transaction",
    "autocommit": "transaction",
    "check_same_thread": "",
    "factory": "",
    "database": "url",
    "uri": "",
}
CONVERTERS = {
    "timeout": values.number(least=0, most=604_800),
    "foreign_keys": values.flag,
    "detect_types": values.number(least=0, most=3, whole=True),
    "cached_statements": values.number(least=0, most=1_000_000, whole=True),
}
READ_ONLY = 8
"""SQLite's primary result code: https://www.sqlite.org/rescode.html#readonly"""
BUSY = 5
"""SQLITE_BUSY, another one; SQLITE_BUSY_SNAPSHOT is one of its extended codes."""
BUSY_TIMEOUT = 5.0
"""How many seconds a connection waits for another one's lock, unless the url says otherwise."""


class SQLite(Driver):
    """The driver for ``sqlite:///`` urls. Each connection opens the file."""

    name = "sqlite"
    tells_outcome = True
    connection_class = Connection
    cursor_methods: ClassVar[tuple[str, ...]] = ("execute", "executemany", "executescript")

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        super().__init__(settings, clock)
        url = settings.url
        assert url is not None, "made for urls only"
        if url.host or url.user or not url.name:
            raise ConfigError(
                f"url: {url} names no file; takes sqlite:///relative.db or sqlite:////absolute.db", entry="config-url"
            )
        if url.name == ":memory:" or url.name.startswith("file:"):
            raise ConfigError(
                f"url: {url} would be a new, empty database for every connection; use a file: sqlite:////tmp/name.db",
                entry="config-url",
            )
        self._path = os.path.abspath(url.name)  # the process may change its directory before it connects again
        self._arguments: dict[str, Any] = {"timeout": BUSY_TIMEOUT, "foreign_keys": True}
        for name, text in url.query.items():
            self._check_name(name)
            try:
                self._arguments[name] = CONVERTERS[name](text)
            except ValueError:
                raise ConfigError(f"{name}: takes {CONVERTERS[name].takes}, got {text!r}") from None
        if not callable(settings.connect_args):
            for name in settings.connect_args:
                self._check_name(name)

    @staticmethod
    def _check_name(name: str) -> None:
        refuse_owned(name, OWNED)
        if name not in CONVERTERS:
            raise unknown_to_driver(name, set(CONVERTERS), "sqlite")

    def connect(self, deadline: float) -> Connection:
        arguments = {**self._arguments, **self.connect_args(deadline)}
        foreign_keys = arguments.pop("foreign_keys")
        arguments["isolation_level"] = None if self.autocommit else ""  # with "", sqlite3 begins before a write
        conn = Connection(
            self._path,
            **arguments,
            check_same_thread=False,  # one thread at a time is what a lease grants
        )
        conn.clock = self.clock
        try:
            conn.file = _identity(self._path)
            self.run(conn, (f"PRAGMA foreign_keys = {int(foreign_keys)}", *self.settings.init_sql))
            conn.commit()
            self.call_on_connect(conn, deadline)
            conn.keep_changes()
        except BaseException:
            conn.close()
            raise
        conn.seen.statements, conn.seen.seconds = 0, 0.0  # these statements were not a handler's
        conn.guarded = self.settings.transaction == "request"
        conn.alone = None if self.autocommit else BY_THEMSELVES if conn.guarded else STANDING
        return conn

    def ping(self, conn: Connection, deadline: float) -> None:
        seen = conn.seen
        statements, seconds, touched = seen.statements, seen.seconds, seen.touched
        self.run(conn, (self.settings.ping_query or "SELECT 1",))
        seen.statements, seen.seconds, seen.touched = statements, seconds, touched

    def rollback(self, conn: Connection, deadline: float) -> None:
        conn.take_back()  # an authorizer may refuse the rollback
        if hasattr(conn, "autocommit"):  # Python 3.12: where a handler set it, a rollback does nothing, or begins anew
            conn.autocommit = LEGACY_TRANSACTION_CONTROL
        sqlite3.Connection.rollback(conn)  # not counted as a handler's
        conn.settled()

    def end_hook(self, conn: Connection) -> None:
        conn.end_handed_out()
        conn.commit()
        if hasattr(conn, "autocommit"):
            conn.autocommit = LEGACY_TRANSACTION_CONTROL
        if (conn.isolation_level is None) is not self.autocommit:
            conn.isolation_level = None if self.autocommit else ""

    def commit(self, conn: Connection) -> None:
        conn.end_handed_out()  # a blob that is open for writing would make the COMMIT fail
        if conn.in_transaction or conn.seen.lost is not None:
            conn.commit()

    def close(self, conn: Connection) -> None:
        conn.close()

    def watch(self, conn: Connection) -> Check:
        """Look whether the file was replaced or removed: what is then written to the open one is lost."""
        path, before = self._path, conn.file

        def check(_timeout: int) -> bool:
            try:
                return _identity(path) != before
            except OSError:
                return True

        return check

    def inspect(self, conn: Connection) -> State | str:
        conn.end_handed_out()
        if conn.changes and conn.has_replaced():
            return "what on_connect had set was replaced"
        try:
            return DIRTY if conn.in_transaction or conn.seen.lost is not None or conn.changes else CLEAN
        except sqlite3.ProgrammingError:
            return "closed by the application"

    def activity(self, conn: Connection) -> Activity:
        return conn.seen

    def abandon(self, conn: Connection) -> None:
        """Drop a connection. There is no server to talk to. Closing frees the file's locks now; garbage collection
        would, too, but a traceback may keep the connection alive for long.

        A call that is still under way in another thread is interrupted, and that thread closes the connection."""
        if conn.seen.users:
            with suppress(sqlite3.ProgrammingError):  # closed by the application
                conn.interrupt()
        conn.seen.close_when_unused(conn.close_at_once)

    def is_disconnect(self, error: BaseException) -> bool:
        return False

    def commit_was_refused(self, error: BaseException) -> bool:
        """A lock that somebody else holds, or a violated constraint: the transaction is open, and can be rolled back.
        After a loss (TransactionLost) SQLite has done that itself."""
        if isinstance(error, (TransactionLost, sqlite3.IntegrityError)):
            return True
        return isinstance(error, sqlite3.OperationalError) and "locked" in str(error)

    def is_conflict(self, error: BaseException) -> bool:
        """Another connection has a lock, or has written since this transaction began to read. SQLite keeps the
        transaction, and it is rolled back at the end of the lease."""
        if not isinstance(error, sqlite3.OperationalError):
            return False
        code = getattr(error, "sqlite_errorcode", None)  # from Python 3.11 on
        return str(error) == "database is locked" if code is None else code & 0xFF == BUSY

    def is_read_only(self, error: BaseException) -> bool:
        """SQLite reports this also for a file that was replaced, or that was read-only when it was opened."""
        if not isinstance(error, sqlite3.OperationalError):
            return False
        code = getattr(error, "sqlite_errorcode", None)  # from Python 3.11 on
        return "readonly database" in str(error) if code is None else code & 0xFF == READ_ONLY

    def traced(self, conn: Connection) -> Any:
        return traced(sqlite3.connect, conn)

    def adopt(self, cursor: Any, conn: Any) -> Any:
        cursor._lease = conn
        return cursor

    def retire_cursor(self, cursor: Cursor) -> str | None:
        """Close the cursor: an unfinished SELECT keeps its lock and its snapshot, in_transaction does not show it, and
        a rollback does not end it. Where a call of the lease is under way, the cursor may be in use, and is closed with
        the connection."""
        fault = None
        if cursor._lease in cursor._seen.users:
            cursor._raw.left.append(cursor)
            fault = "in the middle of a statement"
        else:
            with suppress(sqlite3.ProgrammingError):  # closed by the application, which `inspect` will find
                sqlite3.Cursor.close(cursor)
        return super().retire_cursor(cursor) or fault


def _identity(path: str) -> tuple[int, int]:
    """Device and inode of the file that the path names now."""
    found = os.stat(path)
    return found.st_dev, found.st_ino
