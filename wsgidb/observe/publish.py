"""An engine that keeps its row of the board up to date, and drains its pool if that is asked for on the board."""

from __future__ import annotations

from typing import Any

from ..pool.engine import Engine
from ..pool.process import Process
from ..pool.renewal import drain
from ..pool.snapshot import snapshot
from ..pool.stats import Stats
from ..strategies import Request, Slot
from .board import Page
from .drains import Reader
from .sizes import check

EVERY = 1.0
"""Seconds between two writes, and between two looks at the drains, at least."""


def published(engine: type[Engine], directory: str) -> type[Engine]:
    """A subclass of the engine that writes its statistics to the board, at most once a second: when leases begin and
    end, when a caller has to wait, and at health checks. When the last lease ends, it writes again if the row has one:
    there may be no other request for long, and until then the row would show a lease that is over. It looks for drains
    once a second, too, before a lease begins. There is no thread for this."""

    class Published(engine):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any) -> None:
            self.__next = 0.0
            self.__shows_leases = False
            super().__init__(*args)

        def _new_process(self) -> Process:
            process: Process = super()._new_process()
            process.page = Page(directory)
            process.asked = Reader(directory)
            return process

        def acquire(self, request: Request | None = None, deadline: float | None = None) -> Slot:
            self.__heed()
            slot: Slot = super().acquire(request, deadline)
            now: float = slot.since  # type: ignore[assignment]  # a lease has begun
            if now >= self.__next:
                self.__publish(now)
            return slot

        def _wait(self, *args: Any) -> Slot:
            self.__look()
            try:
                slot: Slot = super()._wait(*args)
                return slot
            finally:
                self.__look()

        def release(self, slot: Slot, rollback_expected: bool = False) -> None:
            super().release(slot, rollback_expected)
            if slot.used >= self.__next or (self.__shows_leases and self.__is_quiet()):
                self.__publish(slot.used)

        def probe(self) -> bool:
            self.__heed()
            try:
                free: bool = super().probe()
                return free
            finally:
                self.__look()

        def close(self) -> None:
            super().close()
            page = self.process.page
            if page.written:  # else this process, a forked child perhaps, had nothing to tell
                page.write(lambda: snapshot(self, self.clock()))
            page.close()

        def __heed(self) -> None:
            """Drain the pool if that was asked for since the last look."""
            if self.clock() >= self.__next:
                for asked in self.process.asked.new():
                    if asked.name in (None, self.name):
                        drain(self, asked.over, asked.ago)

        def __look(self) -> None:
            now = self.clock()
            if now >= self.__next:
                self.__publish(now)

        def __publish(self, now: float) -> None:
            self.__next = now + EVERY
            begins = not self.process.page.written  # once in each process
            self.process.page.write(self.__row)
            if begins and self.process.page.written:
                check(self, directory)

        def __row(self) -> Stats:
            stats = snapshot(self, self.clock())
            self.__shows_leases = stats.leased > 0
            return stats

        def __is_quiet(self) -> bool:
            return all(slot.since is None for slot in tuple(self.process.open))

    Published.__name__ = Published.__qualname__ = engine.__name__
    return Published
