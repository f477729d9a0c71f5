"""What became of the transaction of one lease, for a request that may be repeated."""

from __future__ import annotations

from enum import Enum
from typing import Any, Final, Protocol


class Connected(Protocol):
    """What is asked of the connection's record, an `Activity`."""

    lease: Any
    touched: int


class Knowing(Protocol):
    """What is asked of the `Driver`."""

    def undoes(self, error: BaseException) -> bool: ...
    def undid_commit(self, error: BaseException) -> bool: ...


class Keeps(Enum):
    """What a statement makes permanent."""

    NOTHING = "nothing"
    ENDS = "nothing: it is a rollback, or it ends a transaction in which nothing was done"
    EARLIER = "what was done before it: a COMMIT"
    ANYTHING = "itself or what was done before it, as far as is known"


NOTHING: Final = Keeps.NOTHING
ENDS: Final = Keeps.ENDS
EARLIER: Final = Keeps.EARLIER
ANYTHING: Final = Keeps.ANYTHING


class Outcome:
    """The record of one lease. The connection writes it while the lease has the connection, and only then, so that it
    tells the same ever after: what wsgidb does at the end of a lease, and what the next lease does, leaves no trace."""

    __slots__ = ("_before", "_driver", "_last", "_lease", "_seen", "_touched", "committed", "undone")

    def __init__(self, seen: Connected, lease: Any, driver: Knowing) -> None:
        self._seen = seen
        self._lease = lease
        self._driver = driver
        self._last = NOTHING
        self._before = False  # `committed` before the statement that was sent last
        self._touched = 0  # how many commands the transaction had when it was undone
        self.committed = False
        """Whether something of the lease is permanent, or may be: in doubt it is."""
        self.undone: str | None = None
        """The error because of which nothing remains of the transaction, if there is one."""

    @property
    def reason(self) -> str | None:
        """Why nothing remains of all that the lease did, if that is known."""
        return None if self.committed else self.undone

    def undid_commit(self, error: BaseException) -> bool:
        """Whether this error of the COMMIT at the end proves that it has made nothing permanent."""
        return self._driver.undid_commit(error)

    def sends(self, keeps: Keeps) -> None:
        """Note that a statement is about to be sent."""
        seen = self._seen
        if seen.lease is not self._lease:
            return
        if self.undone is not None and keeps is not ENDS and seen.touched < self._touched:
            self.undone = None  # the handler has rolled back, and starts over
        self._last, self._before = keeps, self.committed
        if keeps is EARLIER or keeps is ANYTHING:
            self.committed = True

    def stood_alone(self) -> None:
        """Note that a statement was executed outside of any transaction, and changed something."""
        if self._seen.lease is self._lease:
            self.committed = True

    def failed(self, error: BaseException) -> None:
        """Note that a statement has ended in this error."""
        if self._driver.undoes(error):
            if self._last is EARLIER and self._driver.undid_commit(error):
                self.committed = self._before
            self.lose(repr(error))

    def lose(self, reason: str) -> None:
        """Note that nothing remains of the transaction."""
        if self._seen.lease is self._lease and self.undone is None:  # later errors follow from the first
            self.undone = reason
            self._touched = max(self._seen.touched, 1)
