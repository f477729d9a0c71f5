"""One connection per thread, for servers with a fixed set of threads."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from .base import Slot
from .per_thread import PerThread


class Home:
    """A thread's slot at rest. Only the thread has it, so it goes when the thread ends, and the slot with it."""

    def __init__(self, lost: Callable[[Slot], None]) -> None:
        self.idle: list[Slot] = []  # one at most; append and pop are atomic, as close() comes from another thread
        self._lost = lost

    def __del__(self) -> None:
        while self.idle:
            self._lost(self.idle.pop())


class ThreadLocal(PerThread):
    def _setup(self) -> None:
        self._local = threading.local()
        # `_lock` guards `_homes`, for close(); a thread's own comings and goings need no lock.
        self._lock = threading.RLock()  # a Home's finalizer may come in the middle of it
        self._homes: weakref.WeakSet[Home] = weakref.WeakSet()

    def take(self) -> Slot:
        try:
            home: Home = self._local.home
        except AttributeError:
            home = self._settle_in()
        try:
            slot = home.idle.pop()
        except IndexError:
            self._refuse_closed()
            slot = Slot()
        slot.handle = home  # a leased slot keeps its home, so that a thread's end waits for its lease's
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
                pass  # close() was quicker and has it
        return None

    def close(self) -> list[Slot]:
        self.closed = True
        with self._lock:
            homes = list(self._homes)
        slots = []
        for home in homes:
            try:
                slots.append(home.idle.pop())
            except IndexError:
                pass  # leased: closed when it is put
        return slots

    def _settle_in(self) -> Home:
        home = self._local.home = Home(self._lost)
        with self._lock:
            self._homes.add(home)
        self._warn_once()
        return home
