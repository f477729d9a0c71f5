"""What the stores on top of a library's pool have in common: the library keeps slots in place of connections.

A slot may be empty, so that the library never has to connect, and never checks, pings or rolls back under its locks.
Its own failover, ping and reset are switched off: wsgidb does all of that."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigError
from .base import LOOK_EVERY, Slot
from .pooled import Pooled


class LibrarySlot(Slot):
    """A slot with the methods of a DB-API connection that a library calls."""

    threadsafety = 1

    def __init__(self, closed: Callable[[Slot], None] | None = None) -> None:
        """`closed` is called when the library closes the slot."""
        super().__init__()
        self._closed = closed

    def cursor(self) -> Any:
        raise TypeError("a library's pool only keeps slots")

    def commit(self) -> None:
        """Do nothing: wsgidb ends transactions itself."""

    rollback = commit

    def close(self) -> None:
        if self._closed is not None:
            self._closed(self)


class LibraryPool(ABC):
    """A library's pool that takes the place of the deque of `Pooled`. It holds empty slots, too."""

    def __init__(self) -> None:
        self._connected = 0  # how many idle slots have a connection

    @abstractmethod
    def check_out(self) -> Slot:
        """Take any idle slot, or a new one. Never blocks, as no more than pool_size are ever taken."""

    @abstractmethod
    def check_in(self, slot: Slot) -> None:
        """Put a slot back."""

    def append(self, slot: Slot, /) -> None:
        self.check_in(slot)
        self._connected += 1

    def __len__(self) -> int:
        return self._connected

    def pop(self) -> Slot:
        if not self._connected:
            raise IndexError("no slot with a connection is idle")
        self._connected -= 1
        return self._pick(lambda slot: slot.raw is not None)

    popleft = pop
    """Take a slot with a connection. The library decides which one."""

    def find(self, unwanted: Callable[[Slot], str | None]) -> tuple[Slot, str] | None:
        """Take the first slot with a connection for which there is such a reason, together with the reason."""
        others, left = [], self._connected
        found = None
        while left and found is None:
            slot = self.check_out()
            reason = None if slot.raw is None else unwanted(slot)
            left -= slot.raw is not None
            if reason is None:
                others.append(slot)
            else:
                found = slot, reason
                self._connected -= 1
        for other in others:
            self.check_in(other)
        return found

    def empty(self) -> Slot:
        return self._pick(lambda slot: slot.raw is None)

    def _pick(self, wanted: Callable[[Slot], bool]) -> Slot:
        """Take a slot of the wanted kind. The library may offer others first; they are put back. This loop ends, as the
        library keeps a limited number of slots."""
        others = []
        while not wanted(slot := self.check_out()):
            others.append(slot)
        for other in others:
            self.check_in(other)
        return slot


class LibraryPooled(Pooled):
    """A library's pool behind the queue of `Pooled`, which is in order and has a deadline. The library never waits."""

    takes_args = True
    _idle: LibraryPool

    def take(self) -> Slot | None:
        with self._lock:
            return self._take()

    def _create(self) -> Slot:
        return self._idle.empty()

    def _drop(self, slot: Slot) -> None:
        self._idle.check_in(slot)
        super()._drop(slot)

    def _outdated(self, slot: Slot) -> tuple[Slot, str] | None:
        now = slot.used
        if now < self._look_at:
            return None
        found = self._idle.find(lambda each: self._unwanted(each, now))
        if found is None:
            self._look_at = now + LOOK_EVERY
        return found


def checked(arguments: Any, allowed: set[str], refused: Mapping[str, str]) -> dict[str, Any]:
    """The given options of the library itself. Raises ConfigError for those that would break a guarantee."""
    given = arguments() if callable(arguments) else arguments
    for name in given:
        if name in refused:
            raise ConfigError(f"strategy_args: {name} cannot be given; {refused[name]}", entry="config-contradiction")
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise ConfigError(
                f"strategy_args: this strategy does not take {name!r}; it takes {known}", entry="config-contradiction"
            )
    return dict(given)
