"""The strategy pooled: a pool of limited size, with a queue (`Queued`, which also has the state)."""

from __future__ import annotations

from contextlib import suppress

from .base import Slot
from .queued import Queued


class Pooled(Queued):
    """Keeps up to pool_size slots, and takes the most recently used one first."""

    def take(self) -> Slot | None:
        try:  # without the lock: nobody waits while there is an idle slot, and the pop of a deque is atomic
            slot: Slot = self._idle.pop()
            return slot
        except IndexError:
            pass
        with self._lock:
            return self._take()

    def _take(self) -> Slot | None:
        """An idle slot, or an empty one if no caller waits for it already. The caller holds the lock."""
        with suppress(IndexError):
            found: Slot = self._idle.pop()
            return found
        self._serve()
        return None if self._full_until() else self._claim()

    def _claim(self) -> Slot | None:
        """An empty slot, or None at pool_size. The caller holds the lock.

        The place is counted first, and then compared: the lock does not keep out a signal handler of the same thread,
        which may claim another place in between."""
        self._made += 1
        if self._made <= self._size:
            return self._create()
        self._made -= 1
        return None

    def _create(self) -> Slot:
        """A new, empty slot. The caller holds the lock."""
        return Slot()

    def _drop(self, slot: Slot) -> None:
        """Give up an empty slot and its place. The caller holds the lock."""
        self._made -= 1

    def put(self, slot: Slot) -> tuple[Slot, str] | None:
        with self._lock:
            if self._overload.shedding and not self._waiters:
                self._overload.unawaited()
            if slot.raw is None:
                self._free(slot)
            elif self.closed:
                return slot, "closed"
            elif not (self._waiters and self._hand(slot)):
                self._idle.append(slot)
                return self._outdated(slot)
        return None

    def _free(self, slot: Slot) -> None:
        """Make the place of an empty slot free for another one. The caller holds the lock."""
        self._drop(slot)
        if not self.closed:
            self._serve()
            self._wake_first()

    def _outdated(self, slot: Slot) -> tuple[Slot, str] | None:
        """The slot that is idle for the longest time, if it is not to be kept any longer at the time when `slot` comes
        back. The caller holds the lock."""
        try:
            coldest: Slot = self._idle[0]
            now = slot.used
            if now < coldest.expires and now < coldest.used + self._max_idle:
                return None
            taken: Slot = self._idle.popleft()
        except IndexError:  # all of them were taken meanwhile
            return None
        reason = self._unwanted(taken, now)
        if reason is not None:
            return taken, reason
        self._idle.appendleft(taken)  # another thread has used the coldest one meanwhile, or it is to be kept
        return None

    def claim(self) -> Slot | None:
        with self._lock:
            self._serve()
            return None if self._full_until() else self._claim()

    def take_idle(self, keep: int) -> list[Slot]:
        slots: list[Slot] = []
        with self._lock, suppress(IndexError):
            while len(self._idle) > keep:
                slots.append(self._idle.popleft())
        return slots

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
