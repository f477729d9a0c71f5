"""Reports of leases that are held for too long (option leak_after), by an engine that notes who holds each of them.

There is no thread for this. The engine looks whenever a lease begins or ends, so also when a request finds the pool
exhausted by leaks. Without the option the plain engine is used, and nothing is noted.
"""

from __future__ import annotations

import logging
import sys
from traceback import StackSummary, walk_stack
from types import FrameType

from ..strategies import Slot, named
from .engine import Engine

log = logging.getLogger("wsgidb")


class Held:
    """When a lease was acquired, and by which calls."""

    def __init__(self, since: float, frame: FrameType) -> None:
        self.since = since
        self.calls = [(at.f_code.co_filename, line, at.f_code.co_name, None) for at, line in walk_stack(frame)]
        self._unreported = [True]  # empty once the lease was reported

    def claim_report(self) -> bool:
        """Whether the caller is to report the lease. True only once: taking the item out of a list is atomic."""
        try:
            return self._unreported.pop()
        except IndexError:
            return False

    @property
    def stack(self) -> str:
        """The calls in the format of a traceback. Their source lines are looked up only now."""
        return "".join(StackSummary.from_list(self.calls[::-1]).format()).rstrip()


def watched(engine: type[Engine]) -> type[Engine]:
    """A subclass of the engine that reports each lease, once, that is held for leak_after seconds or longer."""

    class Watched(engine):  # type: ignore[misc, valid-type]
        def acquire(self) -> Slot:
            self.__report_overdue()
            slot: Slot = super().acquire()
            slot.process.held[slot] = Held(self._clock(), sys._getframe(1))
            return slot

        def release(self, slot: Slot, rollback_expected: bool = False) -> None:
            self.__report_overdue()  # this lease may be overdue itself
            slot.process.held.pop(slot, None)
            super().release(slot, rollback_expected)

        def __report_overdue(self) -> None:
            now = self._clock()
            for slot, lease in list(self.process.held.items()):  # copied in one step, as other threads change it
                if now - lease.since < self.settings.leak_after:
                    return  # the others are younger
                if lease.claim_report():
                    log.warning(
                        "%s: has held a connection of %s for %.1f s; acquired here:\n%s",
                        named(slot.request),
                        self.settings.address,
                        now - lease.since,
                        lease.stack,
                    )

    Watched.__name__ = Watched.__qualname__ = engine.__name__
    return Watched
