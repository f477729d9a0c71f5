"""The driver of a sandbox: it wraps another one, and its transactions are savepoints of one transaction.

A commit releases the savepoint and sets another one; a rollback goes back to it. Nothing is committed on the server.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

from ..config.settings import Settings
from ..errors import ConfigError, DatabaseUnavailable
from . import make_driver
from .activity import Activity
from .base import SERVER_OPTIONS, Driver
from .states import DIRTY, Check, State

SAVEPOINT = "wsgidb_sandbox"
DESCRIBED = (
    *("cursor_methods", "cursor_attributes", "cursor_state", "handing_out", "unobserved_methods", "local_methods"),
    *("nothing_to_read", "lease_members", "changed_in_place", "when_returned", "ended_anyway"),
)
"""What a driver tells the lease of its connections."""


class Sandbox(Driver):
    """A driver whose transactions are savepoints of one transaction that is never committed."""

    name = "a sandbox"
    options = SERVER_OPTIONS  # the inner driver refuses those that it does not have; the same holds for `reset`
    clears_sessions = True
    tells_outcome = True

    def __init__(self, settings: Settings, *args: Any) -> None:
        super().__init__(settings, *args)
        self._inner = make_driver(replace(settings, transaction="manual"), *args)
        for name in DESCRIBED:  # the same as the driver that it wraps
            setattr(self, name, getattr(self._inner, name))
        self.connection_class = self._inner.connection_class
        self._connected = False
        self._settled_rows = 0

    def connect(self, deadline: float) -> Any:
        if self._connected:
            raise DatabaseUnavailable(
                "the sandbox has lost its connection, and with it what the test had done", entry="sandbox"
            )
        conn = self._inner.connect(deadline)
        try:
            self._take_over(conn, deadline)
            self._run(conn, "BEGIN", f"SAVEPOINT {SAVEPOINT}")
        except BaseException:
            self._inner.abandon(conn)
            raise
        self._connected = True
        return conn

    def _take_over(self, conn: Any, deadline: float) -> None:
        """Make the application's commits and rollbacks act on the savepoint."""
        try:
            conn.commit, conn.rollback = (lambda: self.commit(conn)), (lambda: self.rollback(conn, deadline))
            if hasattr(conn, "begin"):
                conn.begin = conn.commit
        except AttributeError:
            kind = f"{type(conn).__module__}.{type(conn).__name__}"
            raise ConfigError(
                f"creator: a sandbox must replace commit(), which {kind} does not allow; return a subclass of it",
                entry="config-sandbox",
            ) from None

    def begin_anew(self, conn: Any) -> None:
        self._run(conn, "ROLLBACK", "BEGIN", f"SAVEPOINT {SAVEPOINT}")

    def _run(self, conn: Any, *statements: str) -> None:
        self.run(conn, statements)
        self._settled_rows = self._inner.rows_written(conn)

    def commit(self, conn: Any) -> None:
        self._run(conn, f"RELEASE SAVEPOINT {SAVEPOINT}", f"SAVEPOINT {SAVEPOINT}")

    def run_hook(self, conn: Any, hook: Callable[[], object], deadline: float) -> None:
        super().run_hook(conn, hook, deadline)
        self._settled_rows = self._inner.rows_written(conn)

    def limited(self, conn: Any, deadline: float) -> AbstractContextManager[Any]:
        return self._inner.limited(conn, deadline)

    def rollback(self, conn: Any, deadline: float) -> None:
        if self.autocommit:  # each statement was a transaction of its own
            return self.commit(conn)
        self._run(conn, f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")

    def reset(self, conn: Any, deadline: float) -> None:
        self.rollback(conn, deadline)  # clearing the session would end the sandbox's transaction

    def inspect(self, conn: Any) -> State | str:
        found = self._inner.inspect(conn)
        return found if isinstance(found, str) else DIRTY

    def rows_written(self, conn: Any) -> int:
        return 0 if self.autocommit else self._inner.rows_written(conn) - self._settled_rows

    def ping(self, conn: Any, deadline: float) -> None:
        self._inner.ping(conn, deadline)

    def close(self, conn: Any) -> None:
        try:
            self._run(conn, "ROLLBACK")
        finally:
            self._inner.close(conn)

    def abandon(self, conn: Any) -> None:
        self._inner.abandon(conn)

    def watch(self, conn: Any) -> Check:
        return self._inner.watch(conn)

    def readable_is_dead(self, conn: Any) -> bool:
        return self._inner.readable_is_dead(conn)

    def activity(self, conn: Any) -> Activity:
        return self._inner.activity(conn)

    def is_disconnect(self, error: BaseException) -> bool:
        return self._inner.is_disconnect(error)

    def is_read_only(self, error: BaseException) -> bool:
        return self._inner.is_read_only(error)

    def undoes(self, error: BaseException) -> bool:
        """A transaction that the server ends is the whole sandbox's: there is nothing to be repeated in."""
        return False

    def traced(self, conn: Any) -> Any:
        return self._inner.traced(conn)

    def adopt(self, cursor: Any, conn: Any) -> Any:
        return self._inner.adopt(cursor, conn)

    def bind(self, value: Any, conn: Any) -> Any:
        return self._inner.bind(value, conn)

    def retire_cursor(self, cursor: Any) -> str | None:
        return self._inner.retire_cursor(cursor)
