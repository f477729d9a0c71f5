"""sqlite3's connection and cursor, observed."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from functools import cache, partial
from typing import Any, Literal

from ..activity import Activity
from ..cursors import RETURNED
from ..errors import ConnectionReturned, TransactionLost
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


    # A cursor must not be closed while another thread fetches from it: since Python 3.12 that ends the process.

    def fetchone(self) -> Any:
        return self.raw.run(super().fetchone, (), self.raw.was_open, statement=False)

    def fetchmany(self, *size: Any, **by_name: Any) -> Any:
        return self.raw.run(partial(super().fetchmany, *size, **by_name), (), self.raw.was_open, statement=False)

    def fetchall(self) -> Any:
        return self.raw.run(super().fetchall, (), self.raw.was_open, statement=False)

    def __next__(self) -> Any:  # as run() does it, but for two calls less for each row
        raw = self.raw
        seen = raw.seen
        outer, seen.busy = seen.busy, True
        try:
            if raw.orphaned:
                raise ConnectionReturned(RETURNED)
            return _next(self)
        except sqlite3.Error as error:
            raw.failed(raw.was_open, error)
            raise
        finally:
            seen.busy = outer
            if raw.orphaned:
                raw.give_up(outer)


raw_connection: Callable[[Cursor], Any] = vars(sqlite3.Cursor)["connection"].__get__
_next: Callable[[Cursor], Any] = sqlite3.Cursor.__next__


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
    """A transaction was, when the last statement ended; reading its rows may end it."""
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
        if seen.lost is not None:
            self._go_on(sql)
        seen.touched += 1
        before = self.in_transaction
        if not before and self.alone is not None and not self.in_script and self.legacy:
            found = FIRST_WORD.match(sql)
            if found is not None and found[1].upper() not in self.alone:
                method, args = self._begun, (method, args)
        return self.run(method, args, before or (self.in_script and "BEGIN" in sql.upper()))

    def _begun(self, method: Callable[..., Any], args: Any) -> Any:
        """sqlite3 begins for the four usual words only, and WITH … INSERT would stand by itself."""
        sqlite3.Cursor(self).execute(f"BEGIN {self.isolation_level}")
        return method(*args)

    def run(self, method: Callable[..., Any], args: Any, before: bool, statement: bool = True) -> Any:
        """Call what executes a `statement`, or reads its rows, which may execute the rest of it."""
        seen = self.seen
        outer, seen.busy = seen.busy, True  # a statement's function may run another one
        began = self.clock()
        try:
            if self.orphaned:
                raise ConnectionReturned(RETURNED)
            return method(*args)
        except sqlite3.Error as error:
            self.failed(before, error)
            raise
        finally:
            seen.busy = outer
            if statement:
                seen.statements += 1
                seen.seconds += self.clock() - began
                self.was_open = self.in_transaction
                if not self.was_open:  # what was written stands, or is gone
                    self.settled_changes = self.total_changes
            if self.orphaned:
                self.give_up(outer)

    def give_up(self, busy: bool) -> None:
        """Close what nobody else will ever close, unless it is `busy` still."""
        if not busy:
            super().rollback()  # before Python 3.12 a statement left over keeps the file's locks beyond close()
            self.close()

    # -- a transaction that SQLite has ended

    def failed(self, before: bool, error: sqlite3.Error) -> None:
        """A statement has, in its midst or at its end; `before` it a transaction was open."""
        self.seen.failed(error)
        if before and self.guarded and not self.in_transaction:
            self.seen.lost = f"SQLite rolled the transaction back with {error!r}, and the handler went on"

    def _go_on(self, sql: str) -> None:
        """After a loss. Where the handler has switched autocommit on, whatever it writes would stand by itself."""
        self.seen.go_on(sql)
        if self.seen.lost is not None and not self.legacy and not sql.lstrip().upper().startswith("SELECT"):
            raise TransactionLost(self.seen.lost)

    def refuse_loss(self) -> None:
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
        self.run(self._settle, (super().commit,), before=self.in_transaction)

    def rollback(self) -> None:
        self.run(self._settle, (super().rollback,), before=False)

    def _settle(self, method: Callable[[], None]) -> None:
        method()
        self.settled()

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
