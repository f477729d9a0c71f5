"""sqlite3's connection and cursor, observed."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from functools import cache
from typing import Any, Literal

from ..activity import Activity
from ..errors import TransactionLost
from .base import Clock

LEGACY_TRANSACTION_CONTROL = -1
FIRST_WORD = re.compile(r"(?:[\s;]|--[^\n]*|/\*.*?\*/)*([A-Za-z]*)", re.DOTALL)
BY_THEMSELVES = {
    *("", "SELECT", "VALUES", "PRAGMA", "EXPLAIN", "BEGIN", "COMMIT", "END", "ROLLBACK", "RELEASE"),
    *("VACUUM", "ATTACH", "DETACH"),
}
"""First words of statements that no transaction is begun for: they write nothing, or cannot be in one."""
STANDING = BY_THEMSELVES | {"SAVEPOINT", "CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE"}
"""The same where the handler commits: sqlite3 lets these stand by themselves, and so must we."""


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
        raw.before_script(args)
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
    alone: set[str] | None = None
    """First words of statements that no transaction is begun for; None: for no statement."""
    settled_changes = 0
    in_script = False
    was_open = False
    """A transaction was, when the last statement ended. Reading its rows may end it, which nothing here sees."""
    orphaned = False
    """The lease has ended, or is about to, while another thread may be in the middle of a statement."""

    def cursor(self, factory: Any = Cursor) -> Any:
        made: Any = super().cursor(ours(factory))
        if not isinstance(made, Cursor):
            raise TypeError("cursor() takes a class here: what a function makes could not end with its lease")
        made.raw = self
        return made

    @property
    def legacy(self) -> bool:
        """Whether sqlite3 begins transactions by itself, as wsgidb has it; a handler may have changed that."""
        return self.isolation_level is not None and self._legacy_autocommit

    @property
    def _legacy_autocommit(self) -> bool:
        return bool(getattr(self, "autocommit", LEGACY_TRANSACTION_CONTROL) == LEGACY_TRANSACTION_CONTROL)

    def observe(self, method: Callable[..., Any], args: Any) -> Any:
        """Run a statement. Some errors (a full disk, INSERT OR ROLLBACK) end the whole transaction."""
        seen = self.seen
        sql = args[0] if args and isinstance(args[0], str) else ""
        self.look_back()
        if seen.lost is not None:
            self._go_on(sql)
        seen.touched += 1
        before = self.in_transaction
        outer, seen.busy = seen.busy, True  # a statement's function may run another one
        began = self.clock()
        try:
            if not before and self.alone is not None and not self.in_script and self.legacy:
                self._begin(sql)
            return method(*args)
        except sqlite3.Error as error:
            seen.failed(error)
            self._look_for_loss(before or (self.in_script and "BEGIN" in sql.upper()), error)
            raise
        finally:
            self._ended(began, outer)

    def _begin(self, sql: str) -> None:
        """sqlite3 does so for the four usual words only, and WITH … INSERT would stand by itself."""
        assert self.alone is not None
        found = FIRST_WORD.match(sql)
        if found is not None and found[1].upper() not in self.alone:
            sqlite3.Cursor(self).execute(f"BEGIN {self.isolation_level}")

    def _ended(self, began: float, outer: bool) -> None:
        seen = self.seen
        seen.busy = outer
        seen.statements += 1
        seen.seconds += self.clock() - began
        self.was_open = self.in_transaction
        if not self.was_open:  # what was written stands, or is gone
            self.settled_changes = self.total_changes
        if self.orphaned and not outer:  # nobody else will ever close this
            super().rollback()  # before Python 3.12 a statement left over keeps the file's locks beyond close()
            self.close()

    # -- a transaction that SQLite has ended

    def look_back(self) -> None:
        """Whether the transaction has ended since the last statement."""
        if self.was_open and not self.in_transaction:
            self.was_open = False
            if self.guarded and self.legacy:  # else the handler may have ended it by switching autocommit
                self.seen.lost = "SQLite rolled the transaction back while rows were read, and the handler went on"

    def _look_for_loss(self, before: bool, error: sqlite3.Error) -> None:
        if before and self.guarded and not self.in_transaction:
            self.seen.lost = f"SQLite rolled the transaction back with {error!r}, and the handler went on"

    def _go_on(self, sql: str) -> None:
        """After a loss. Where the handler has switched autocommit on, whatever it writes would stand by itself."""
        self.seen.go_on(sql)
        if self.seen.lost is not None and not self.legacy and not sql.lstrip().upper().startswith("SELECT"):
            raise TransactionLost(self.seen.lost)

    def refuse_loss(self) -> None:
        self.look_back()
        if self.seen.lost is not None:
            raise TransactionLost(self.seen.lost)

    # -- its end

    def before_script(self, args: Any) -> None:
        """A script begins with a COMMIT, whose errors are not the script's."""
        self.refuse_loss()
        if args and isinstance(args[0], str) and self.in_transaction and self._legacy_autocommit:
            self.commit()

    def commit(self) -> None:
        if self.in_script:
            return super().commit()  # of Python 3.10, which asks for it whether or not there is something to commit
        self.refuse_loss()
        before = self.in_transaction
        try:
            self._end(super().commit)
        except sqlite3.Error as error:
            self._look_for_loss(before, error)
            raise

    def rollback(self) -> None:
        self._end(super().rollback)

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

    def _end(self, method: Callable[[], None]) -> None:
        """Commit or roll back as a statement of the handler's."""
        seen = self.seen
        outer, seen.busy = seen.busy, True
        began = self.clock()
        try:
            method()
            self.settled()
        except sqlite3.Error as error:
            seen.failed(error)
            raise
        finally:
            self._ended(began, outer)

    def settled(self) -> None:
        self.seen.settled()
        self.was_open = False
        self.settled_changes = self.total_changes


@cache
def ours(factory: Any) -> Any:
    """A handler's own cursor class, made able to do what `Cursor` does."""
    if not isinstance(factory, type) or issubclass(factory, Cursor):
        return factory
    return Cursor if factory is sqlite3.Cursor else type(factory.__name__, (factory, Cursor), {})
