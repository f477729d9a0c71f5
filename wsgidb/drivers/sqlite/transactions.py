"""The end of sqlite3's transactions: by the handler, by an attribute that it sets, or by SQLite itself."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any, Literal

from ...errors import TransactionLost
from ..outcome import ANYTHING, EARLIER
from ..states import Clock
from .hooks import Hooks

LEGACY_TRANSACTION_CONTROL = -1


def accessors(name: str, default: Any) -> tuple[Callable[[Any], Any], Callable[[Any, Any], None]]:
    """How to get and set an attribute of sqlite3's own connection, which this version of Python may not have."""
    found = vars(sqlite3.Connection).get(name)
    return (lambda conn: default, lambda conn, value: None) if found is None else (found.__get__, found.__set__)


get_isolation_level, set_isolation_level = accessors("isolation_level", "")
get_autocommit, set_autocommit = accessors("autocommit", LEGACY_TRANSACTION_CONTROL)

base_commit, base_rollback = sqlite3.Connection.commit, sqlite3.Connection.rollback  # cheaper than super()


class Transactions(Hooks):
    """The driver's connection, which knows whether its transaction still stands."""

    clock: Clock
    guarded = False
    """Whether a transaction that SQLite has ended must not be continued: the lease is to commit it as one."""
    settled_changes = 0
    """What `total_changes` was when the last transaction ended: SQLite counts for the connection's whole life. Newer
    versions let whoever asks wait for a statement of another thread, so that `run` asks, and no release does."""
    in_script = False

    @property
    def legacy(self) -> bool:
        """Whether sqlite3 begins transactions by itself, as wsgidb has it; a handler may have changed that."""
        return get_isolation_level(self) is not None and self._legacy_autocommit

    @property
    def _legacy_autocommit(self) -> bool:
        return bool(get_autocommit(self) == LEGACY_TRANSACTION_CONTROL)

    def run(self, method: Callable[..., Any], args: Any) -> Any:
        """Run a statement. Some errors (a full disk, INSERT OR ROLLBACK) end the whole transaction."""
        seen = self.seen
        began = self.clock()
        before = False
        try:
            before = self.in_transaction
            return method(*args)
        except sqlite3.Error as error:
            self.failed(before, error)
            raise
        finally:
            seen.statements += 1
            seen.seconds += self.clock() - began
            try:
                changes = self.total_changes
                if not self.in_transaction:  # what was written is committed or rolled back
                    self.settled_changes = changes
                seen.written = changes - self.settled_changes
            except sqlite3.ProgrammingError:
                pass  # the connection was closed meanwhile

    # -- a transaction that SQLite has ended

    def failed(self, before: bool, error: sqlite3.Error) -> None:
        """Note that a statement has failed at its start or later; `before` it, a transaction was open or not."""
        self.seen.failed(error)
        if before and self.guarded and not self.in_transaction:
            self.seen.lost = f"SQLite rolled the transaction back with {error!r}, and the handler went on"

    def _refuse_after_loss(self, sql: str) -> None:
        """After a loss. Where the handler has switched autocommit on, whatever it writes would stand by itself."""
        self.seen.refuse_after_loss(sql)
        if self.seen.lost is not None and not self.legacy and not sql.lstrip().upper().startswith("SELECT"):
            raise TransactionLost(self.seen.lost)

    def refuse_loss(self) -> None:
        """Refuse to commit what is left of a transaction that SQLite has ended. Raises TransactionLost."""
        if self.seen.lost is not None:
            raise TransactionLost(self.seen.lost)

    # -- the end of a transaction

    def script(self, method: Callable[..., Any], args: Any) -> Any:
        """Run a script. It begins with a COMMIT, whose errors are not the script's."""
        self.refuse_loss()
        if args and isinstance(args[0], str) and self.in_transaction and self._legacy_autocommit:
            self.commit()
        if self.seen.outcome is not None:
            self.seen.outcome.sends(ANYTHING)
        self.in_script = True
        self.seen.touched += 1
        try:
            return self.run(method, args)
        finally:
            self.in_script = False

    def commit(self) -> None:
        if self.in_script:
            return super().commit()  # of Python 3.10, which asks for it whether or not there is something to commit
        if self.seen.lost is not None:
            self.refuse_loss()
        if self.seen.outcome is not None and self.in_transaction:
            self.seen.outcome.sends(EARLIER)
        self.run(self._settle, (base_commit,))

    def rollback(self) -> None:
        self.run(self._settle, (base_rollback,))

    def _settle(self, method: Callable[[sqlite3.Connection], None]) -> None:
        method(self)
        self.settled()

    def settled(self) -> None:
        """Note that the transaction is over."""
        self.seen.settled()
        self.settled_changes = self.total_changes

    @property
    def isolation_level(self) -> Any:
        """sqlite3's; setting it to None commits."""
        return get_isolation_level(self)

    @isolation_level.setter
    def isolation_level(self, value: Any) -> None:
        self._set(set_isolation_level, value, commits=value is None)

    if hasattr(sqlite3.Connection, "autocommit"):  # from Python 3.12 on

        @property
        def autocommit(self) -> Any:
            """sqlite3's; setting it to True commits."""
            return get_autocommit(self)

        @autocommit.setter
        def autocommit(self, value: Any) -> None:
            self._set(set_autocommit, value, commits=value is True)

    def _set(self, setter: Callable[[Any, Any], None], value: Any, commits: bool) -> None:
        """Set an attribute. What it `commits` is committed here before, as Python 3.10 hides that commit's errors."""
        if commits and (self.in_transaction or self.seen.lost is not None):
            self.commit()
        setter(self, value)

    def __exit__(self, kind: Any, *error: Any) -> Literal[False]:
        """Commit or roll back, as the driver's does, but by the methods above."""
        if kind is not None:
            self.rollback()
            return False
        self.refuse_loss()  # here, as the rollback below is not the handler's
        try:
            self.commit()
        except BaseException:
            self.rollback()
            raise
        return False
