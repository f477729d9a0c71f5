"""Leases that are held for too long (option leak_after): an engine that notes who holds what, and since when.

It has no thread of its own: it looks whenever a lease begins or ends, so also when a request comes that finds the pool
exhausted by leaks. Without the option none of this is in anybody's way.
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
    """Who has a lease, and since when."""

    def __init__(self, since: float, frame: FrameType) -> None:
        self.since = since
        self.calls = [(at.f_code.co_filename, line, at.f_code.co_name, None) for at, line in walk_stack(frame)]
        self.news = [True]  # until it was reported; taking it out is atomic

    @property
    def stack(self) -> str:
        """The calls as a traceback has them; their source is looked up only now."""
        return "".join(StackSummary.from_list(self.calls[::-1]).format()).rstrip()


def watched(engine: type[Engine]) -> type[Engine]:
    """A subclass of the engine that reports each lease once that is held for more than leak_after seconds."""

    class Watched(engine):  # type: ignore[misc, valid-type]
        def acquire(self) -> Slot:
            self.__report_overdue()
            slot: Slot = super().acquire()
            slot.process.held[slot] = Held(self._clock(), sys._getframe(1))
            return slot

        def release(self, slot: Slot, rollback_expected: bool = False) -> None:
            self.__report_overdue()  # itself, too
            slot.process.held.pop(slot, None)
            super().release(slot, rollback_expected)

        def __report_overdue(self) -> None:
            now = self._clock()
            for slot, lease in list(self.process.held.items()):  # in one step, as other threads go on
                if now - lease.since < self.settings.leak_after:
                    return  # the rest is younger
                try:
                    lease.news.pop()
                except IndexError:
                    continue
                log.warning(
                    "%s: has held a connection of %s for %.1f s; acquired here:\n%s",
                    named(slot.request),
                    self.settings.address,
                    now - lease.since,
                    lease.stack,
                )

    Watched.__name__ = Watched.__qualname__ = engine.__name__
    return Watched
