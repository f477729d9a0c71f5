"""sqlite3's connection, observed: its statements, its transactions, and who else is at it when its lease ends."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

from ...errors import ConnectionReturned, TransactionLost
from ..activity import RETURNED, Activity
from ..base import Clock
from .cursor import Cursor, ours
from .statements import writes

LEGACY_TRANSACTION_CONTROL = -1


class Connection(sqlite3.Connection):
    """The driver's connection, observed, whose cursors are ours."""

    seen: Activity
    clock: Clock
    file: tuple[int, int]
    """What it was opened as: device and inode."""
    guarded = False
    """Whether a transaction that SQLite has ended must not be continued: the lease is to commit it as one."""
    alone: set[str] | None = None
    """First words of statements that no transaction is begun for; None: for no statement."""
    settled_changes = 0
    in_script = False
    orphaned = False
    """The lease has ended, or is about to: nothing may begin."""
    condemned = False
    """Something was running then, and the connection is to be closed by whoever finds it at rest."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.running: list[None] = []  # an element for each call that is under way; appending and popping are atomic
        self.left: list[sqlite3.Cursor] = []  # that could not be closed
        self._closing = [None]  # who pops it closes
        super().__init__(*args, **kwargs)

    def cursor(self, factory: Any = Cursor) -> Any:
        made: Any = super().cursor(ours(factory))
        if not isinstance(made, Cursor):
            raise TypeError("cursor() takes a class here: what a function makes could not end with its lease")
        made._raw = self
        return made

    if hasattr(sqlite3.Connection, "blobopen"):  # from Python 3.11 on

        def blobopen(self, *args: Any, **kwargs: Any) -> Any:
            """A blob is written to in a transaction, like a row."""
            if self._begins("UPDATE") and not kwargs.get("readonly"):
                self._begin()
            return super().blobopen(*args, **kwargs)  # type: ignore[misc]

    # -- statements

    def observe(self, method: Callable[..., Any], args: Any) -> Any:
        """Run a statement. Some errors (a full disk, INSERT OR ROLLBACK) end the whole transaction."""
        sql = args[0] if args and isinstance(args[0], str) else ""
        if self.seen.lost is not None:
            self._refuse_after_loss(sql)
        self.seen.touched += 1
        return self.run(self._execute, (method, args, sql))

    def _execute(self, method: Callable[..., Any], args: Any, sql: str) -> Any:
        if self.in_script or not self._begins(sql):
            return method(*args)
        before = self.total_changes
        self._begin()
        try:
            return method(*args)
        except BaseException:
            if self.total_changes == before and self.in_transaction:
                super().rollback()  # sqlite3 itself begins when it knows that there is such a statement
            raise

    def _begins(self, sql: str) -> bool:
        """sqlite3 begins for the four usual words only, and WITH … INSERT would stand by itself."""
        return self.alone is not None and not self.in_transaction and self.legacy and writes(sql, self.alone)

    def _begin(self) -> None:
        sqlite3.Cursor(self).execute(f"BEGIN {self.isolation_level}")

    @property
    def legacy(self) -> bool:
        """Whether sqlite3 begins transactions by itself, as wsgidb has it; a handler may have changed that."""
        return self.isolation_level is not None and self._legacy_autocommit

    @property
    def _legacy_autocommit(self) -> bool:
        return bool(getattr(self, "autocommit", LEGACY_TRANSACTION_CONTROL) == LEGACY_TRANSACTION_CONTROL)

    def run(self, method: Callable[..., Any], args: Any, statement: bool = True) -> Any:
        """Call what executes a `statement`, or reads its rows, which may execute the rest of it."""
        seen = self.seen
        self.running.append(None)
        began = self.clock()
        before = False
        try:
            if self.orphaned:
                raise ConnectionReturned(RETURNED)
            before = self.in_transaction
            return method(*args)
        except sqlite3.Error as error:
            self.failed(before, error)
            raise
        finally:
            if statement:
                seen.statements += 1
                seen.seconds += self.clock() - began
                with suppress(sqlite3.ProgrammingError):  # closed meanwhile
                    if not self.in_transaction:  # what was written stands, or is gone
                        self.settled_changes = self.total_changes
            self.running.pop()
            if self.condemned:
                self.close_at_rest()

    # -- the end of the lease

    def rests(self) -> bool:
        """Whether nothing is under way; nor may anything begin then, until `orphaned` is set back."""
        self.orphaned = True
        if self.running:
            self.condemned = True
        return not self.condemned

    def close_at_rest(self) -> None:
        """Close what is condemned, once nothing is under way: by the thread whose statement it was, as a rule."""
        if self.running:
            return
        try:
            self._closing.pop()
        except IndexError:
            return
        for cursor in self.left:  # an unfinished statement keeps the file's locks beyond close()
            with suppress(sqlite3.Error):
                sqlite3.Cursor.close(cursor)
        with suppress(sqlite3.Error):
            super().rollback()
        with suppress(sqlite3.Error):
            self.close()

    # -- a transaction that SQLite has ended

    def failed(self, before: bool, error: sqlite3.Error) -> None:
        """A statement has, in its midst or at its end; `before` it a transaction was open."""
        self.seen.failed(error)
        if before and self.guarded and not self.in_transaction:
            self.seen.lost = f"SQLite rolled the transaction back with {error!r}, and the handler went on"

    def _refuse_after_loss(self, sql: str) -> None:
        """After a loss. Where the handler has switched autocommit on, whatever it writes would stand by itself."""
        self.seen.refuse_after_loss(sql)
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
        self.run(self._settle, (super().commit,))

    def rollback(self) -> None:
        self.run(self._settle, (super().rollback,))

    def _settle(self, method: Callable[[], None]) -> None:
        method()
        self.settled()

    def settled(self) -> None:
        self.seen.settled()
        self.settled_changes = self.total_changes

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
