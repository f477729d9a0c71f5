"""Checks of a store that an application brings, so that a mistake in it is a clear error and not a hang or a lost
write."""

from __future__ import annotations

import threading
from typing import Any

from ..errors import WsgiDBError
from .base import Slot, Store


def checked(store: type[Store]) -> type[Store]:
    """A subclass of the store that checks every slot that it hands out or returns."""

    class Checked(store):  # type: ignore[misc, valid-type]
        def _setup(self) -> None:
            super()._setup()
            self.__guard = threading.RLock()
            self.__out: set[Slot] = set()

        def take(self) -> Slot | None:
            slot = super().take()
            return None if slot is None else self.__lend("take", slot)

        def wait(self, deadline: float) -> Slot:
            return self.__lend("wait", super().wait(deadline))

        def claim(self) -> Slot | None:
            slot = super().claim()
            return None if slot is None else self.__lend("claim", slot)

        def take_idle(self, keep: int) -> list[Slot]:
            return [self.__lend("take_idle", slot) for slot in super().take_idle(keep)]

        def put(self, slot: Slot) -> tuple[Slot, str] | None:
            with self.__guard:
                self.__out.discard(slot)
            unwanted: Any = super().put(slot)
            if unwanted is None:
                return None
            try:
                other, reason = unwanted
            except (TypeError, ValueError):
                raise _broken(store, "put", repr(unwanted)) from None
            if not isinstance(other, Slot) or other.raw is None or not isinstance(reason, str):
                raise _broken(store, "put", repr(unwanted))
            return other, reason

        def __lend(self, method: str, slot: Any) -> Slot:
            if not isinstance(slot, Slot):
                raise _broken(store, method, repr(slot))
            with self.__guard:
                if slot in self.__out:
                    raise _broken(store, method, "a slot that is leased already")
                self.__out.add(slot)
            return slot

    Checked.__name__ = Checked.__qualname__ = store.__name__
    return Checked


def _broken(store: type[Store], method: str, returned: str) -> WsgiDBError:
    return WsgiDBError(
        f"strategy {store.__name__} breaks the contract of a store: {method}() returned {returned}",
        entry="config-own-classes",
    )
