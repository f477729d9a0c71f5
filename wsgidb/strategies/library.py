"""What the stores on top of a library's pool have in common: the library keeps our slots in place of connections.

A slot may be empty, so the library never connects, checks, pings or rolls back: none of that happens under its locks.
Its own failover, ping and reset are switched off; wsgidb decides validity, transactions and failure.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigError
from .base import Slot
from .pooled import Pooled


class LibrarySlot(Slot):
    """A slot, as far as a library must see a DB-API connection in it."""

    threadsafety = 1

    def __init__(self, closed: Callable[[Slot], None] | None = None) -> None:
        """`closed` is called when the library closes it."""
        super().__init__()
        self._closed = closed

    def cursor(self) -> Any:
        raise TypeError("a library's pool only keeps slots")

    def commit(self) -> None:
        """Nothing is in it to commit."""

    rollback = commit

    def close(self) -> None:
        if self._closed is not None:
            self._closed(self)


class LibraryPool(ABC):
    """A library's pool in place of `Pooled`'s deque; it holds empty slots too."""

    def __init__(self) -> None:
        self._connected = 0  # slots at rest with a connection

    @abstractmethod
    def check_out(self) -> Slot:
        """Any slot at rest, or a new one. Never blocks: there are never more than pool_size."""

    @abstractmethod
    def check_in(self, slot: Slot) -> None: ...

    def append(self, slot: Slot, /) -> None:
        self.check_in(slot)
        self._connected += 1

    def pop(self) -> Slot:
        if not self._connected:
            raise IndexError("no slot is at rest")
        self._connected -= 1
        return self._pick(lambda slot: slot.raw is not None)

    def empty(self) -> Slot:
        return self._pick(lambda slot: slot.raw is None)

    def _pick(self, wanted: Callable[[Slot], bool]) -> Slot:
        """A slot of the wanted kind, though the library may offer others first. It ends, as the library is bounded."""
        others = []
        while not wanted(slot := self.check_out()):
            others.append(slot)
        for other in others:
            self.check_in(other)
        return slot


class LibraryPooled(Pooled):
    """A library's pool behind our own queue: in order, with a deadline. The library itself never waits."""

    takes_args = True
    _idle: LibraryPool

    def take(self) -> Slot | None:
        with self._lock:
            return self._take()

    def _create(self) -> Slot:
        return self._idle.empty()

    def _remove(self, slot: Slot) -> None:
        self._idle.check_in(slot)

    def _too_old(self, slot: Slot) -> tuple[Slot, str] | None:
        return None  # the library hands its slots out in turn, and taking one tells its age


def checked(arguments: Any, allowed: set[str], refused: Mapping[str, str]) -> dict[str, Any]:
    """The library's own options that were given. Raises ConfigError for those that would break a guarantee."""
    given = arguments() if callable(arguments) else arguments
    for name in given:
        if name in refused:
            raise ConfigError(f"strategy_args: {name} cannot be given; {refused[name]}")
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise ConfigError(f"strategy_args: {name!r} is none of this strategy's arguments; takes {known}")
    return dict(given)
