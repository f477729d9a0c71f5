"""The strategy per-request: a new connection for every request."""

from __future__ import annotations

from .base import Slot, Store


class PerRequest(Store):
    """Keeps nothing: every lease gets an empty slot, and its connection is closed at the end."""

    def take(self) -> Slot:
        self._refuse_closed()
        return Slot()

    def put(self, slot: Slot) -> tuple[Slot, str] | None:
        return (slot, "request ended") if slot.raw is not None else None

    def close(self) -> list[Slot]:
        self.closed = True
        return []
