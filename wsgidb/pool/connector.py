"""Physical connections: how they are opened and closed, and counted; and who may try a server that fails."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from math import inf
from typing import Any

from ..config.settings import Settings
from ..drivers.base import Driver
from ..errors import ConfigError, DatabaseUnavailable
from ..strategies import Slot
from .process import Process

log = logging.getLogger("wsgidb")

JITTER = 0.1
"""Share by which max_lifetime varies, so that connections opened together do not retire together."""

ENOUGH = 0.9
"""Share of the time that a request may give to connecting: with less, running out of it says nothing of the server."""


class Connector:
    """Fills and empties the slots of one Database. Whoever calls it owns the slot."""

    def __init__(self, settings: Settings, driver: Driver, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._driver = driver
        self._clock = clock
        self._patience = ENOUGH * min(settings.connect_timeout, settings.acquire_timeout)

    def open(self, slot: Slot, engine: Any, process: Process, deadline: float) -> None:
        """Put a new connection of the engine's into an empty slot. Blocks up to connect_timeout, and no longer than
        the deadline. Raises DatabaseUnavailable, at once in back-off after a failure."""
        with process.lock:
            probe = process.backoff.begin()
            cause = process.backoff.cause
        if probe is None:
            raise DatabaseUnavailable(f"not connecting again yet; last failure to connect: {cause}")
        raw, judged = None, False  # the latter: whether the back-off knows what became of this try
        try:
            began = self._clock()
            until = min(began + self._settings.connect_timeout, deadline)
            try:
                raw = self._driver.connect(until)
                if raw is None:
                    raise ConfigError(f"driver {self._driver.name}: connect() returned None")
            except Exception as error:
                cut_short = until - began < self._patience and self._clock() >= until
                self._note_failure(process, probe, error, cut_short)
                judged = True
                raise DatabaseUnavailable(f"cannot connect: {_text(error)}") from error
            now = self._clock()
            lifetime = self._settings.max_lifetime
            expires = inf if lifetime is None else now + lifetime * random.uniform(1 - JITTER, 1 + JITTER)
            slot.fill(raw, engine, process, born=began, now=now, expires=expires)
            with process.lock:
                process.open.add(slot)
                process.totals.connects += 1
                recovered = process.backoff.succeeded()
                judged = True
        finally:
            if not judged:  # interrupted
                with process.lock:
                    process.totals.connect_failures += 1
                    process.backoff.cut_short(probe)
                if raw is not None and slot.raw is None:
                    self._driver.abandon(raw)
        if recovered:
            log.info("%s: connected again", self._settings.address)

    def _note_failure(self, process: Process, probe: bool, error: Exception, cut_short: bool) -> None:
        with process.lock:
            process.totals.connect_failures += 1
            if cut_short:
                return process.backoff.cut_short(probe)
            begins = process.backoff.failed(probe, _text(error))
        if begins:
            log.warning("%s: cannot connect: %s", self._settings.address, _text(error))

    def discard(self, process: Process, slot: Slot, reason: str, error: BaseException | None = None) -> None:
        """Close the slot's connection, if it has one, because it is bad. Never blocks."""
        if slot.raw is None:
            return
        log.warning("%s: connection discarded: %s%s", self._settings.address, reason, f": {error}" if error else "")
        self._close(process, slot, self._driver.abandon)
        with process.lock:
            process.totals.discards[reason] += 1

    def retire(self, process: Process, slot: Slot, reason: str) -> None:
        """Close the slot's connection because it is old or not needed. May block briefly."""
        self._close(process, slot, self._driver.close)
        with process.lock:
            process.totals.retirements[reason] += 1

    def _close(self, process: Process, slot: Slot, how: Callable[[Any], None]) -> None:
        raw, slot.raw, slot.check, slot.maker = slot.raw, None, None, None
        slot.good_until = 0.0
        try:
            how(raw)
        except Exception as error:
            log.debug("%s: close failed", self._settings.address, exc_info=error)
        finally:
            with process.lock:
                process.open.discard(slot)
                process.totals.leases += slot.uses
                process.totals.seconds_leased += slot.busy
                process.totals.seconds_open += self._clock() - slot.born
                process.totals.statements += slot.activity.statements
                process.totals.seconds_executing += slot.activity.seconds


def _text(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
