"""Validation: whether an idle connection for which the free check alone is not enough may be used."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from ..config.settings import Settings
from ..drivers.base import Driver
from ..strategies import Slot
from .connector import Connector
from .process import Process, doubtful


class Validator:
    """Checks the connection of a slot. Whoever calls it owns the slot, and holds no lock."""

    def __init__(self, settings: Settings, driver: Driver, connector: Connector, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._driver = driver
        self._connector = connector
        self._clock = clock
        self._max_idle = inf if settings.max_idle is None else settings.max_idle
        self._ping_after = inf if settings.ping_after is None else settings.ping_after
        self.trusted = min(self._max_idle, self._ping_after)
        """For how many seconds of idling the free check alone is enough, if the connection is not too old."""

    def validate(self, slot: Slot, deadline: float, ping: bool = False) -> None:
        """Check a connection for which the free check alone is not enough. Leaves the slot empty if it must not be
        used.

        May ping, and does so in any case with `ping`. Where it is in doubt whether the server is fit, asks for that
        instead. Either blocks up to ping_timeout, but not beyond the deadline."""
        process: Process = slot.process
        now = self._clock()
        outlived = slot.outlived(now)
        if outlived is not None:
            return self._connector.retire(slot, outlived)
        if now >= slot.used + self._max_idle:
            return self._connector.retire(slot, "unused")
        in_doubt = slot.check is doubtful
        if in_doubt:  # before the server is asked, so that what comes meanwhile counts
            slot.check = self._driver.watch(slot.raw)
        readable = slot.check(0)
        if readable and self._driver.readable_is_dead(slot.raw):
            with process.lock:
                process.totals.checks_failed += 1
            return self._connector.discard(slot, "check failed")
        if slot.used < process.unanswered:
            return self._connector.discard(slot, "idle when a ping was not answered")
        if in_doubt:
            self._ask(slot, process, now, deadline, self._driver.fitness)
        elif ping or readable or now >= slot.used + self._ping_after:
            self._ask(slot, process, now, deadline, self._driver.ping)

    def _ask(
        self, slot: Slot, process: Process, now: float, deadline: float, question: Callable[[Any, float], str | None]
    ) -> None:
        """Make one round trip, which proves the connection alive, and may tell why its server is not fit any more."""
        limit = now + self._settings.ping_timeout
        with process.lock:
            process.totals.pings += 1
        try:
            unfit = question(slot.raw, min(limit, deadline))
        except Exception as error:  # noqa: BLE001 - whatever it is, the ping did not prove the connection alive
            with process.lock:
                process.totals.pings_failed += 1
                # What does not answer on this connection will not answer on others that were idle at the time. They are
                # discarded without a ping each, which would take as long.
                if self._clock() >= limit:
                    process.unanswered = now
            return self._connector.discard(slot, "ping failed", error)
        if unfit is not None:
            self._connector.discard(slot, "no longer fit", unfit)
