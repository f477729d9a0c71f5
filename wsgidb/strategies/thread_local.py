"""The strategy thread-local: one connection per thread, for servers with a fixed set of threads."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from .base import LOOK_EVERY, Slot
from .per_thread import PerThread


class Home:
    """Where a thread's slot is kept while it is idle. Only the thread refers to it, so that it is collected when the
    thread ends, together with the slot."""

    def __init__(self, lost: Callable[[Slot], None]) -> None:
        self.idle: list[Slot] = []  # one at most; close() calls pop from another thread, which is atomic
        self._lost = lost

    def __del__(self) -> None:
        while self.idle:
            self._lost(self.idle.pop())


class ThreadLocal(PerThread):
    """Keeps one idle slot for each thread; a thread that takes two gets a new one, which is not kept."""

    def _setup(self) -> None:
        self._local = threading.local()
        # `_lock` guards `_homes`, for close(). A thread that takes and puts its own slot needs no lock.
        self._lock = threading.RLock()  # reentrant, as the finalizer of a Home may run while it is held
        self._homes: weakref.WeakSet[Home] = weakref.WeakSet()

    def take(self) -> Slot:
        try:
            home: Home = self._local.home
        except AttributeError:
            home = self._make_home()
        try:
            slot = home.idle.pop()
        except IndexError:
            self._refuse_closed()
            slot = Slot()
        slot.handle = home  # a leased slot keeps its home alive, though its thread may end before the lease does
        return slot

    def put(self, slot: Slot) -> tuple[Slot, str] | None:
        home, slot.handle = slot.handle, None
        if slot.raw is None:
            return None
        if home.idle:
            return slot, "second lease"
        home.idle.append(slot)
        if self.closed:
            try:
                return home.idle.pop(), "closed"
            except IndexError:
                pass  # close() has taken it meanwhile
        return self._outdated(slot.used) if slot.used >= self._look_at else None

    def _outdated(self, now: float) -> tuple[Slot, str] | None:
        """An idle slot of any thread that is not to be kept any longer."""
        for home in self._all_homes():
            try:
                if self._unwanted(home.idle[0], now) is None:
                    continue
                slot = home.idle.pop()
            except IndexError:
                continue  # it is leased
            reason = self._unwanted(slot, now)
            if reason is not None:
                return slot, reason
            home.idle.append(slot)  # its thread has used it meanwhile
        self._look_at = now + LOOK_EVERY
        return None

    def take_idle(self, keep: int) -> list[Slot]:
        idle = [(slot.used, home) for home in self._all_homes() for slot in home.idle[:1]]
        idle.sort(key=lambda each: each[0])
        return self._pop([home for _, home in idle[: max(0, len(idle) - keep)]])

    def close(self) -> list[Slot]:
        self.closed = True
        return self._pop(self._all_homes())  # those that are leased are closed when they are put

    def _all_homes(self) -> list[Home]:
        with self._lock:
            return list(self._homes)

    @staticmethod
    def _pop(homes: list[Home]) -> list[Slot]:
        slots = []
        for home in homes:
            try:
                slots.append(home.idle.pop())
            except IndexError:
                pass  # it is leased
        return slots

    def _make_home(self) -> Home:
        home = self._local.home = Home(self._lost)
        with self._lock:
            self._homes.add(home)
        self._warn_once()
        return home
