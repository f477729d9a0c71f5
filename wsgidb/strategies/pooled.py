"""A bounded pool, first come first served."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import suppress
from math import inf
from typing import Any, ClassVar

from ..errors import DatabaseUnavailable, PoolOverloaded, PoolTimeout
from .base import CLOSED, Slot, Store


class Waiter:
    """One who waits. `turn` is released when `slot` was set, the store closed, or there is something to look at."""

    __slots__ = ("deadline", "slot", "turn")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.slot: Slot | None = None
        self.turn = threading.Lock()
        self.turn.acquire()


class Pooled(Store):
    shared: ClassVar[bool] = True

    def _setup(self) -> None:
        self._size = self._settings.pool_size
        self._max_waiting = self._settings.max_waiting
        self._max_idle = inf if self._settings.max_idle is None else self._settings.max_idle
        # `_lock` guards all below, and `closed`. Nothing that may block happens under it. Reentrant, as all locks that
        # a finalizer may need: garbage collection can begin anywhere, and take back the connection of a lost body.
        # Taking a slot at rest needs no lock: nobody waits while there is one, and a deque's pop is atomic.
        self._lock = threading.RLock()
        self._idle: Any = deque()  # slots at rest, the most recently used at the right
        self._made = 0  # slots at rest, leased, or connecting: never more than `_size`
        self._waiters: deque[Waiter] = deque()  # the first to come at the left

    def take(self) -> Slot | None:
        try:
            slot: Slot = self._idle.pop()
            return slot
        except IndexError:
            pass
        with self._lock:
            return self._take()

    def _take(self) -> Slot | None:
        """A slot at rest, or an empty one; but who waits already comes first. Under the lock."""
        with suppress(IndexError):
            found: Slot = self._idle.pop()
            return found
        self._serve()
        if self._full_until():
            return None
        self._made += 1
        return self._create()

    def _full_until(self) -> float:
        """0 where there is room for a connection that could be opened now; else when to look again. Under the lock."""
        self._refuse_closed()
        return inf if self._made == self._size else self._held_until()

    def _serve(self) -> float:
        """Hand what room there is to those who wait. Returns when to look again. Under the lock."""
        while self._waiters:
            until = self._full_until()
            if until:
                return until
            self._made += 1
            slot = self._create()
            if not self._hand(slot):
                self._remove(slot)
                self._made -= 1
        return inf

    def _create(self) -> Slot:
        """An empty slot. Under the lock."""
        return Slot()

    def _remove(self, slot: Slot) -> None:
        """The slot is empty and not needed any more. Under the lock."""

    def wait(self, deadline: float) -> Slot:
        waiter = Waiter(deadline)
        with self._lock:
            slot = self._take()
            if slot is not None:
                return slot
            if self._max_waiting is not None and len(self._waiters) >= self._max_waiting:
                raise PoolOverloaded(f"{self._made} connections leased, {len(self._waiters)} requests waiting")
            self._queue(waiter)
        try:
            while True:
                with self._lock:
                    again = min(deadline, self._serve())
                    if waiter not in self._waiters:
                        return self._served(waiter)
                if waiter.turn.acquire(timeout=min(max(0.0, again - self._clock()), threading.TIMEOUT_MAX)):
                    continue
                with self._lock:
                    if again == deadline and waiter in self._waiters:
                        self._leave(waiter)
                        others = len(self._waiters)
                        raise PoolTimeout(f"{self._made} connections leased, {others} other requests waiting")
        except BaseException:
            self._give_up(waiter)
            raise

    def _queue(self, waiter: Waiter) -> None:
        """By deadline, which is by arrival: one that was served, could not connect and waits again keeps its turn.
        Under the lock."""
        place = len(self._waiters)
        while place and self._waiters[place - 1].deadline > waiter.deadline:
            place -= 1
        self._waiters.insert(place, waiter)
        with suppress(IndexError):  # a finalizer may have put one back since there was none
            slot = self._idle.pop()
            if not self._hand(slot):
                self._idle.append(slot)

    @staticmethod
    def _served(waiter: Waiter) -> Slot:
        if waiter.slot is None:
            raise DatabaseUnavailable(CLOSED)
        return waiter.slot

    def _give_up(self, waiter: Waiter) -> None:
        """Its thread was interrupted; what it was handed meanwhile is not lost."""
        with self._lock:
            if waiter in self._waiters:
                return self._leave(waiter)
        if waiter.slot is not None:
            self._lost(waiter.slot)

    def _leave(self, waiter: Waiter) -> None:
        """It waits no more, and another one looks when it would have. Under the lock."""
        self._waiters.remove(waiter)
        self._wake_first()

    def put(self, slot: Slot) -> tuple[Slot, str] | None:
        with self._lock:
            if slot.raw is None:
                self._free(slot)
            elif self.closed:
                return slot, "closed"
            elif not (self._waiters and self._hand(slot)):
                self._idle.append(slot)
                return self._too_old(slot)
        return None

    def _free(self, slot: Slot) -> None:
        """An empty slot's place is free for another. Under the lock."""
        self._remove(slot)
        self._made -= 1
        if not self.closed:
            self._serve()
            self._wake_first()

    def _too_old(self, slot: Slot) -> tuple[Slot, str] | None:
        """The slot that is at rest for longest, if it should not be kept now that `slot` comes back. Under the lock."""
        try:
            coldest: Slot = self._idle[0]
            now = slot.used
            reason = "age" if coldest.expires <= now else "unused" if coldest.used + self._max_idle <= now else None
            return None if reason is None else (self._idle.popleft(), reason)
        except IndexError:  # taken meanwhile, all of them
            return None

    def _hand(self, slot: Slot) -> bool:
        """To who came first, if anybody waits: a finalizer may have served the last one. Under the lock."""
        try:
            waiter = self._waiters.popleft()
        except IndexError:
            return False
        waiter.slot = slot
        self._wake(waiter)
        return True

    def _wake_first(self) -> None:
        """Let who came first see how long there is no room: it looks after the others, too. Under the lock."""
        with suppress(IndexError):
            self._wake(self._waiters[0])

    @staticmethod
    def _wake(waiter: Waiter) -> None:
        if waiter.turn.locked():
            waiter.turn.release()

    def close(self) -> list[Slot]:
        with self._lock:
            self.closed = True
            slots = []
            with suppress(IndexError):
                while True:
                    slots.append(self._idle.pop())
            waiters = list(self._waiters)
            self._waiters.clear()
        for waiter in waiters:
            self._wake(waiter)
        return slots

    @property
    def waiting(self) -> int:
        return len(self._waiters)
