"""sqlite3's connection, observed: its statements, and the objects that it hands out."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakSet

from ..outcome import ENDS, NOTHING, Outcome
from . import handed_out
from .cursor import Cursor, observed
from .statements import READING, UNDOING, writes
from .transactions import Transactions, get_isolation_level

make_cursor: Any = sqlite3.Connection.cursor  # cheaper than super()


class Connection(Transactions):
    """The driver's connection, observed. Its cursors are of the class in `cursor`."""

    file: tuple[int, int]
    """Device and inode of the file when it was opened."""
    alone: set[str] | None = None
    """First words of statements for which no transaction is begun; None where none is begun for any statement."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.left: list[sqlite3.Cursor] = []
        """Cursors that could not be closed with their lease, as the connection was in use."""
        self._handed_out: WeakSet[Any] | None = None
        """Blobs and dumps, if there were any: they hold locks, as cursors do."""
        super().__init__(*args, **kwargs)

    # -- what it hands out: each belongs to the lease that has the connection now

    def cursor(self, factory: Any = Cursor) -> Any:
        if factory is Cursor:
            return make_cursor(self, Cursor)
        made: Any = make_cursor(self, observed(factory))
        if not isinstance(made, Cursor):
            raise TypeError("cursor() takes a class here: what a function makes could not end with its lease")
        return made

    def iterdump(self, **kwargs: Any) -> Any:
        dump = super().iterdump(**kwargs)
        self._remember(dump)
        return handed_out.lines(dump, partial(self.use, self.seen.lease))

    if hasattr(sqlite3.Connection, "blobopen"):  # from Python 3.11 on

        def blobopen(self, *args: Any, **kwargs: Any) -> Any:
            """A blob is written to in a transaction, like a row."""
            if self._begins("UPDATE") and not kwargs.get("readonly"):
                self._begin()
            blob = super().blobopen(*args, **kwargs)  # type: ignore[misc]
            self._remember(blob)
            return handed_out.Blob(blob, partial(self.use, self.seen.lease))

    def _remember(self, source: Any) -> None:
        if self._handed_out is None:
            self._handed_out = WeakSet()
        self._handed_out.add(source)

    def end_handed_out(self) -> None:
        """End blobs and dumps. At the end of a lease, when nothing is under way."""
        if self._handed_out is not None:
            for source in list(self._handed_out):
                handed_out.close(source)
            self._handed_out = None

    # -- statements

    def observe(self, lease: Any, method: Callable[..., Any], args: Any) -> Any:
        """Run a statement of this lease. Raises ConnectionReturned where the lease has ended."""
        seen = self.seen
        seen.users.append(lease)
        try:
            if seen.lease is not lease:
                raise seen.refusal()
            sql = args[0] if args and isinstance(args[0], str) else ""
            if seen.lost is not None:
                self._refuse_after_loss(sql)
            if seen.outcome is not None:
                return self._run_noted(seen.outcome, method, args, sql)
            seen.touched += 1
            return self.run(self._execute, (method, args, sql))
        finally:
            seen.users.remove(lease)
            if seen.closing:
                seen.close_if_unused()

    def _run_noted(self, outcome: Outcome, method: Callable[..., Any], args: Any, sql: str) -> Any:
        """Run a statement, and tell the lease's record whether it stood alone: no transaction is open behind it."""
        before, changes = self.in_transaction, self.total_changes
        outcome.sends(NOTHING if writes(sql, UNDOING) else ENDS)
        self.seen.touched += 1
        try:
            result = self.run(self._execute, (method, args, sql))
        except BaseException:
            if not before and not self.in_transaction and self.total_changes != changes:
                outcome.stood_alone()  # some of several rows
            raise
        if not self.in_transaction and writes(sql, READING):
            outcome.stood_alone()
        return result

    def _execute(self, method: Callable[..., Any], args: Any, sql: str) -> Any:
        if not self._begins(sql):
            return method(*args)
        before = self.total_changes
        self._begin()
        try:
            return method(*args)
        except BaseException:
            if self.total_changes == before and self.in_transaction:
                sqlite3.Connection.rollback(self)  # as sqlite3, which begins only after it has understood the statement
            raise

    def _begins(self, sql: str) -> bool:
        """Whether wsgidb has to begin a transaction for this statement. sqlite3 itself begins one for INSERT, UPDATE,
        DELETE and REPLACE only, so that WITH … INSERT would be committed by itself."""
        return self.alone is not None and not self.in_transaction and self.legacy and writes(sql, self.alone)

    def _begin(self) -> None:
        sqlite3.Cursor(self).execute(f"BEGIN {get_isolation_level(self)}")

    def use(self, lease: Any, method: Callable[..., Any], *args: Any) -> Any:
        """Call what reads a statement's rows, which may execute the rest of it, or what was handed out, on behalf of
        this lease. Raises ConnectionReturned where the lease has ended."""
        seen = self.seen
        seen.users.append(lease)
        before = False
        try:
            if seen.lease is not lease:
                raise seen.refusal()
            before = self.in_transaction
            return method(*args)
        except sqlite3.Error as error:
            self.failed(before, error)
            raise
        finally:
            seen.users.remove(lease)
            if seen.closing:
                seen.close_if_unused()

    def close_at_once(self) -> None:
        """Close a connection that is dropped, when nothing is under way, with the locks of what is left open on it."""
        self.end_handed_out()
        for cursor in self.left:  # an unfinished statement keeps the file's locks beyond close()
            with suppress(sqlite3.Error):
                sqlite3.Cursor.close(cursor)
        with suppress(sqlite3.Error):
            sqlite3.Connection.rollback(self)
        with suppress(sqlite3.Error):
            self.close()
