"""Any DB-API 2 driver, known only by its `creator`: what PEP 249 promises, and nothing more.

No deadline can be put on its calls, no session state can be cleared, and a connection that ran anything must be
rolled back, as nothing tells whether that is needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

from ..errors import ConfigError
from .activity import Activity
from .base import Driver
from .cursors import CursorProxy, drop, finish, read_all
from .sockets import shutdown, watch
from .states import DIRTY, Check, State, silent

METHODS = ("cursor", "commit", "rollback", "close")


class Generic(Driver):
    """The driver for connections that a `creator` returns, and the base of an application's own drivers."""

    name = "creator"
    unobserved_methods: ClassVar[tuple[str, ...]] = ("commit", "rollback", "execute", "executemany", "executescript")
    when_returned: ClassVar[Mapping[str, Any]] = {"open": False, "closed": True, "is_connected": lambda: False}
    _activities: dict[int, Activity]
    """By the id of an open connection, which may take no attribute and no weak reference."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._activities = {}
        self._commits = self.settings.transaction == "request"

    def connect(self, deadline: float) -> Any:
        conn = self.open(deadline)
        if not all(callable(getattr(conn, name, None)) for name in METHODS):
            raise ConfigError(
                f"{self.name}: returned {type(conn).__name__}, which is no DB-API connection",
                entry="config-own-classes",
            )
        try:
            self._set_autocommit(conn)
            self.run(conn, self.settings.init_sql)
            if self.settings.init_sql and not self.autocommit:
                conn.commit()
            known = self._known(conn)
            self.call_on_connect(conn, deadline)
        except BaseException:
            self._activities.pop(id(conn), None)
            conn.close()
            raise
        return known

    def open(self, deadline: float) -> Any:
        """A new connection, as the driver makes it; what a driver of one's own overrides. May block."""
        if self.settings.creator is None:
            raise ConfigError(
                f"{self.name}: has no open() of its own, so it needs a creator in place of a url",
                entry="config-own-classes",
            )
        return self.settings.creator(**self.connect_args(deadline))

    def _known(self, conn: Any) -> Any:
        self._activities[id(conn)] = Activity()
        self.connection_class = conn.__class__  # of the driver, also where a tracing tool has wrapped it
        return conn

    def _set_autocommit(self, conn: Any) -> None:
        """Switch autocommit. PEP 249 wants it off at first, and names no way to change it: drivers have an attribute
        or a method."""
        current = getattr(conn, "autocommit", None)
        if callable(current):
            current(self.autocommit)
        elif current is not None:
            if (current == 1) is not self.autocommit:  # sqlite3's -1 is off, too, and begins with the first write only
                conn.autocommit = self.autocommit
        elif self.autocommit:
            raise ConfigError(
                f"transaction: {type(conn).__name__} of creator has no way to set autocommit",
                entry="config-contradiction",
            )

    def run(self, conn: Any, statements: tuple[str, ...]) -> None:
        """Execute statements one by one, and read all their results, as some drivers do not close a cursor before that.
        May block as long as they do."""
        for statement in statements:
            cursor = conn.cursor()
            try:
                cursor.execute(statement)
                read_all(cursor)
            finally:
                cursor.close()

    def ping(self, conn: Any, deadline: float) -> None:
        self.run(conn, (self.settings.ping_query or "SELECT 1",))
        if not self.autocommit:
            conn.rollback()

    def rollback(self, conn: Any, deadline: float) -> None:
        conn.rollback()
        self._set_autocommit(conn)

    def end_hook(self, conn: Any) -> None:
        conn.commit()  # nothing tells whether that is needed
        self._set_autocommit(conn)

    def commit(self, conn: Any) -> None:
        self._activities[id(conn)].observe(self.clock, conn.commit)

    def close(self, conn: Any) -> None:
        self._activities.pop(id(conn), None)
        conn.close()

    def watch(self, conn: Any) -> Check:
        try:
            return watch(conn.fileno())
        except Exception:  # noqa: BLE001 - no fileno, or none that can be polled: then there is nothing to hear
            return silent

    def readable_is_dead(self, conn: Any) -> bool:
        return False  # it may also be a notification: a ping decides

    def inspect(self, conn: Any) -> State | str:
        return "in the middle of a statement" if self._activities[id(conn)].busy else DIRTY

    def activity(self, conn: Any) -> Activity:
        return self._activities[id(conn)]

    def abandon(self, conn: Any) -> None:
        """Its socket is shut down first, where the driver tells which it is, so that close() has nothing to wait for,
        nor has a call in another thread. Not every driver survives a close() during a call, so that waits for the
        last one to end."""
        seen = self._activities.pop(id(conn))
        with suppress(Exception):  # it tells no descriptor, or is closed already
            shutdown(conn.fileno())
        seen.close_when_unused(partial(self.give_up, conn))

    def give_up(self, conn: Any) -> None:
        """Close a broken connection that is not in use."""
        with suppress(Exception):  # closed by the application, or broken: it is dropped all the same
            conn.close()

    def is_disconnect(self, error: BaseException) -> bool:
        return False

    def adopt(self, cursor: Any, conn: Any) -> Any:
        return CursorProxy(cursor, conn, self._activities[id(conn.driver_connection)], self.clock)

    def retire_cursor(self, cursor: Any) -> str | None:
        """With transaction=request what is left of its results is read, which may block up to ping_timeout."""
        if type(cursor) is CursorProxy:  # a driver of one's own may have others
            if self._commits:
                finish(cursor, self.clock() + self.settings.ping_timeout)
            drop(cursor)
        return super().retire_cursor(cursor)
