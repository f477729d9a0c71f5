"""The queue of a pool: callers that wait for a connection are served in the order in which they came."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections import deque
from contextlib import suppress
from math import inf
from typing import Any, ClassVar

from ..errors import DatabaseUnavailable, PoolOverloaded, PoolTimeout
from .base import CLOSED, Slot, Store
from .overload import Overload


class Waiter:
    """A waiting caller. `turn` is released to wake it: when `slot` or `refused` was set, when the store was closed, and
    when it should look whether a connection can be opened now."""

    __slots__ = ("deadline", "refused", "since", "slot", "turn")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.since = 0.0  # when it began to wait
        self.slot: Slot | None = None
        self.refused = False  # because of an overload
        self.turn = threading.Lock()
        self.turn.acquire()


class Queued(Store):
    """A store of limited size with a queue. Where idle slots are kept, and how places are counted, its subclass knows.
    """

    shared: ClassVar[bool] = True

    def _setup(self) -> None:
        self._size = self._settings.pool_size
        self._max_waiting = self._settings.max_waiting
        # `_lock` guards everything below, and `closed`. Nothing that may block happens under it. It is reentrant, like
        # every lock that a finalizer or a signal handler may need: garbage collection can begin anywhere, and may put
        # back the slot of a response body that was dropped.
        self._lock = threading.RLock()
        self._idle: Any = deque()  # the most recently used slot at the right
        self._made = 0  # how many slots are idle, leased or connecting: never more than `_size`
        self._waiters: deque[Waiter] = deque()  # the first to be served at the left
        self._overload = Overload(self._settings.queue_target, self._settings.queue_interval)

    @abstractmethod
    def _take(self) -> Slot | None:
        """An idle slot, or an empty one if no caller waits for it already. The caller holds the lock."""

    @abstractmethod
    def _claim(self) -> Slot | None:
        """An empty slot, or None at pool_size. The caller holds the lock."""

    @abstractmethod
    def _drop(self, slot: Slot) -> None:
        """Give up an empty slot and its place. The caller holds the lock."""

    def wait(self, deadline: float) -> Slot:
        waiter = Waiter(deadline)
        try:
            with self._lock:
                slot = self._take()
                if slot is not None:
                    return slot
                if self._max_waiting is not None and len(self._waiters) >= self._max_waiting:
                    already = f"requests waiting already: {len(self._waiters)}"
                    raise PoolOverloaded(f"no connection is free (max_waiting): {self._use()}; {already}")
                waiter.since = now = self._clock()
                if self._overload.shedding and self._overload.refuses(len(self._waiters), now, self._made):
                    raise self._refusal()
                self._queue(waiter)
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
                        raise PoolTimeout(f"{self._use()}; other requests waiting: {len(self._waiters)}")
        except BaseException:
            self._give_up(waiter)
            raise

    def _refusal(self) -> PoolOverloaded:
        """The error of a caller that may not wait in an overload. The caller holds the lock."""
        lasted = f"{self._clock() - self._overload.began:.1f}"
        use = f"{self._use()}; requests waiting already: {len(self._waiters)}"
        return PoolOverloaded(f"the pool has been overloaded for {lasted} s (queue_target): {use}")

    def _use(self) -> str:
        """How the pool is used, for the error of a caller that gets nothing. The caller holds the lock."""
        return f"{self._made} of {self._size} connections are leased or being opened"

    def _queue(self, waiter: Waiter) -> None:
        """Queue by deadline, which is the order of arrival. So a caller that got an empty slot, could not connect and
        waits again keeps its turn. The caller holds the lock."""
        place = len(self._waiters)
        if not place:
            self._overload.was_empty()
        while place and self._waiters[place - 1].deadline > waiter.deadline:
            place -= 1
        self._waiters.insert(place, waiter)
        with suppress(IndexError):  # a finalizer may have put one back since `_take` found none
            slot = self._idle.pop()
            if not self._hand(slot):
                self._idle.append(slot)

    def _served(self, waiter: Waiter) -> Slot:
        """What a caller got that is no longer in the queue. The caller holds the lock."""
        if waiter.refused:
            raise self._refusal()
        if waiter.slot is None:
            raise DatabaseUnavailable(CLOSED, entry="database-closed")
        return waiter.slot

    def _give_up(self, waiter: Waiter) -> None:
        """Stop waiting, as the thread was interrupted. A slot that was handed over meanwhile is not lost."""
        with self._lock:
            if waiter in self._waiters:
                return self._leave(waiter)
        if waiter.slot is not None:
            self._lost(waiter.slot)

    def _leave(self, waiter: Waiter) -> None:
        """Take a caller out of the queue, and let the next one look in its place. The caller holds the lock."""
        self._waiters.remove(waiter)
        self._wake_first()

    def _full_until(self) -> float:
        """0 if another connection may be opened now, else the time to look again. The caller holds the lock."""
        self._refuse_closed()
        return inf if self._made >= self._size else self._held_until()

    def _serve(self) -> float:
        """Give empty slots to waiting callers as far as connections may be opened. Returns the time to look again. The
        caller holds the lock."""
        while self._waiters:
            until = self._full_until()
            if until:
                return until
            slot = self._claim()
            if slot is not None and not self._hand(slot):
                self._drop(slot)
        return inf

    def _hand(self, slot: Slot) -> bool:
        """Give the slot to the first waiting caller. Returns False if none waits any more: a finalizer may have served
        it. The caller holds the lock."""
        try:
            waiter = self._waiters.popleft()
        except IndexError:
            return False
        waiter.slot = slot
        self._wake(waiter)
        now = self._clock()
        if self._overload.handed(now - waiter.since, now, self._made):
            self._shed()
        return True

    def _shed(self) -> None:
        """Refuse the callers that are too many in the overload that begins: those which have waited longest, as their
        clients may be gone already. The caller holds the lock."""
        with suppress(IndexError):  # a finalizer may serve some of them meanwhile
            while len(self._waiters) > self._overload.places(self._made):
                waiter = self._waiters.popleft()
                waiter.refused = True
                self._wake(waiter)

    def _wake_first(self) -> None:
        """Wake the first waiting caller, which looks whether connections can be opened now, and serves the others, too.
        The caller holds the lock."""
        with suppress(IndexError):
            self._wake(self._waiters[0])

    @staticmethod
    def _wake(waiter: Waiter) -> None:
        if waiter.turn.locked():
            waiter.turn.release()

    def wake(self) -> None:
        with self._lock:
            self._wake_first()

    @property
    def waiting(self) -> int:
        return len(self._waiters)
