"""Validation of an idle connection beyond the free look that every acquire takes."""

from __future__ import annotations

from collections.abc import Callable
from math import inf

from ..config.settings import Settings
from ..drivers.base import Driver
from ..strategies import Slot
from .connector import Connector
from .process import Process


class Validator:
    """Judges what was idle for long, is old, or made a sound; its engine calls it outside every lock."""

    def __init__(self, settings: Settings, driver: Driver, connector: Connector, clock: Callable[[], float]) -> None:
        self._driver = driver
        self._connector = connector
        self._clock = clock
        self._max_idle = inf if settings.max_idle is None else settings.max_idle
        self._ping_after = inf if settings.ping_after is None else settings.ping_after
        self._ping_timeout = settings.ping_timeout
        self.trusted = min(self._max_idle, self._ping_after)
        """How long idle until acquiring takes a closer look."""

    def validate(self, process: Process, slot: Slot, deadline: float) -> None:
        """Leave the slot with a connection that works, or empty."""
        now = self._clock()
        if now >= slot.expires:
            return self._connector.retire(process, slot, "age")
        if now >= slot.used + self._max_idle:
            return self._connector.retire(process, slot, "unused")
        heard = slot.check(0)
        if heard and self._driver.readable_is_dead(slot.raw):
            with process.lock:
                process.totals.checks_failed += 1
            return self._connector.discard(process, slot, "check failed")
        if slot.used < process.unanswered:
            return self._connector.discard(process, slot, "idle when a ping was not answered")
        if heard or now >= slot.used + self._ping_after:
            self._ping(process, slot, now, deadline)

    def _ping(self, process: Process, slot: Slot, now: float, deadline: float) -> None:
        limit = now + self._ping_timeout
        with process.lock:
            process.totals.pings += 1
        try:
            self._driver.ping(slot.raw, min(limit, deadline))
        except Exception as error:  # noqa: BLE001 - whatever it is, the ping did not prove the connection alive
            with process.lock:
                process.totals.pings_failed += 1
                # What forgot this one forgot the others that idled: they are not waited for as long, one by one.
                if self._clock() >= limit:
                    process.unanswered = now
            self._connector.discard(process, slot, "ping failed", error)
