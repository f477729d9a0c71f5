"""sqlite3's connection and cursor, observed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from ..activity import Activity
from ..errors import TransactionLost
from .base import Clock


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


raw_connection: Callable[[Cursor], Any] = vars(sqlite3.Cursor)["connection"].__get__


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
        made: Any = super().cursor(ours(factory))
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
def ours(factory: Any) -> Any:
    """A handler's own cursor class, made able to do what `Cursor` does."""
    if not isinstance(factory, type) or issubclass(factory, Cursor):
        return factory
    return Cursor if factory is sqlite3.Cursor else type(factory.__name__, (factory, Cursor), {})
