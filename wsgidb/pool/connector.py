"""Physical connections: how one is opened and closed, and how that is counted."""

from __future__ import annotations

import logging
import random
import sys
from collections.abc import Callable
from math import inf
from traceback import clear_frames
from typing import Any

from ..config.settings import Settings
from ..drivers.base import Driver
from ..drivers.hooks import HookError
from ..errors import ConfigError, DatabaseUnavailable, WsgiDBError, plain
from ..strategies import Slot, named
from .backoff import Attempt
from .process import Process, doubtful

log = logging.getLogger("wsgidb")

JITTER = 0.1
"""The share by which max_lifetime varies, so that connections that were opened together do not retire together."""

FAIR_SHARE = 0.9
"""A time-out after less than this share of the time that a request may give to connecting is not counted as a failure
of the server."""


class Connector:
    """Opens and closes the connection of a slot.

    Whoever calls it owns the slot, and holds no lock. A slot that has a connection knows its process; for an empty one
    the caller tells it.
    """

    def __init__(self, engine: Any, settings: Settings, driver: Driver, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._settings = settings
        self._driver = driver
        self._clock = clock
        self._fair_time = FAIR_SHARE * min(settings.connect_timeout, settings.acquire_timeout)

    # -- open

    def open(self, slot: Slot, process: Process, deadline: float) -> None:
        """Open a connection for an empty slot. Blocks up to connect_timeout, but not beyond the deadline.

        Raises DatabaseUnavailable, and does so at once during the back-off after a failure."""
        attempt = Attempt()
        try:
            with process.lock:
                if not process.backoff.begin(attempt):
                    raise process.backoff.refusal()
            self._connect(slot, process, deadline, attempt)
        finally:  # also if it was interrupted: else no other attempt would ever be made
            with process.lock:
                process.backoff.ended(attempt)

    def _connect(self, slot: Slot, process: Process, deadline: float, attempt: Attempt) -> None:
        raw = None
        drain = process.drain
        handled = sys.exc_info()[1]
        began = self._clock()
        until = min(began + self._settings.connect_timeout, deadline)
        try:
            raw = self._driver.connect(until)
            if raw is None:
                raise ConfigError(f"driver {self._driver.name}: connect() returned None", entry="config-own-classes")
            now = self._clock()
            lifetime = self._settings.max_lifetime
            expires = inf if lifetime is None else now + lifetime * random.uniform(1 - JITTER, 1 + JITTER)
            slot.fill(raw, self._engine, process, drain=drain, born=began, now=now, expires=expires)
        except Exception as error:
            self._drop(raw)
            _forget_locals(error, handled)
            cut_short = until - began < self._fair_time and self._clock() >= until
            blameless = isinstance(error, DatabaseUnavailable)  # so a driver tells that it is not the server's fault
            text = f"cannot connect: {plain(error) if blameless else _text(error)}"
            self._note_failure(process, attempt, None if cut_short or blameless else _text(error))
            if blameless:
                self._warn_at_times(process, text)
            raise DatabaseUnavailable(text, entry=error.entry if isinstance(error, WsgiDBError) else None) from error
        except BaseException as error:  # it was interrupted, which says nothing about the server
            if slot.raw is None:  # else the slot has it, which the engine closes
                self._drop(raw)
            _forget_locals(error, handled)
            self._note_failure(process, attempt, None)
            raise
        with process.lock:
            process.open.add(slot)
            if slot.born < process.doubted:
                slot.check = doubtful
            process.totals.connects += 1
            if self._settings.telemetry:
                process.creates.add(now - began)
            outage = process.backoff.succeeded()
            if process.drain is not drain:  # it came while this connected, and has perhaps not seen the slot
                process.drain.mark(slot, random.random())
        log.debug("%s: connection opened in %.3f s%s", self._settings.address, now - began, _at_host(slot))
        if outage is not None:
            log.warning("%s: connected again after %.1f s (failed attempts: %d)", self._settings.address, *outage)
            process.note("recovery", "connected again after {:.1f} s (failed attempts: {})".format(*outage))
            process.store.wake()

    def _drop(self, raw: Any) -> None:
        """Close a connection that did not get into a slot, if there is one."""
        try:
            if raw is not None:
                self._driver.abandon(raw)
        except Exception as error:
            log.debug("%s: close failed", self._settings.address, exc_info=error)

    def _note_failure(self, process: Process, attempt: Attempt, cause: str | None) -> None:
        """Count a failure. Without a `cause` it says nothing about the server."""
        with process.lock:
            process.totals.connect_failures += 1
            changed = cause is not None and cause != process.backoff.cause
            begins = cause is not None and process.backoff.failed(attempt, cause)
        if changed and not begins:  # such as a wrong password, once the server is up again
            self._warn_at_times(process, f"cannot connect: {cause}")
        if begins:
            log.warning("%s: cannot connect: %s", self._settings.address, cause)
            process.note("outage", f"cannot connect: {cause}")

    def _warn_at_times(self, process: Process, text: str) -> None:
        """Log what happens to each request, but not once for each."""
        with process.lock:
            ending = process.connect_log.due(self._clock())
        if ending is not None:
            log.warning("%s: %s%s", self._settings.address, text, ending)

    # -- close

    def discard(self, slot: Slot, reason: str, error: BaseException | str | None = None) -> None:
        """Close a connection, if there is one, because it is broken or may be. Never blocks."""
        if slot.raw is None:
            return
        process: Process = slot.process
        whose = "" if slot.request is None else f" after {named(slot.request)}"
        because = "" if error is None else f": {error}"
        because += _at_host(slot)
        log.warning("%s: connection discarded%s: %s%s", self._settings.address, whose, reason, because)
        process.note("discard", f"connection discarded{whose}: {reason}{because}")
        self._close(slot, self._driver.abandon)
        with process.lock:
            process.totals.discards[reason] += 1

    def retire(self, slot: Slot, reason: str) -> None:
        """Close a good connection, because it is old or not needed. May block briefly."""
        process: Process = slot.process
        line = "%s: connection retired: %s; it was open for %.1f s and used %d times"
        log.debug(line, self._settings.address, reason, self._clock() - slot.born, slot.uses)
        self._close(slot, self._driver.close)
        with process.lock:
            process.totals.retirements[reason] += 1

    def _close(self, slot: Slot, close: Callable[[Any], None]) -> None:
        process: Process = slot.process
        raw, slot.raw, slot.check, slot.maker = slot.raw, None, None, None
        slot.good_until = 0.0
        try:
            close(raw)
        except Exception as error:
            log.debug("%s: close failed", self._settings.address, exc_info=error)
        finally:
            with process.lock:
                process.open.discard(slot)
                process.totals.leases += slot.uses
                process.totals.seconds_leased += slot.busy
                if slot.durations is not None:
                    if slot.uses == 1 and slot.busy:
                        process.uses.add(slot.busy)  # it does the same, at a tenth of the cost
                    else:
                        process.uses.merge(slot.durations, slot.busy)
                process.totals.seconds_open += self._clock() - slot.born
                process.totals.statements += slot.activity.statements
                process.totals.errors += slot.activity.errors
                process.totals.seconds_executing += slot.activity.seconds
                drained = None if slot.drain is process.drain else process.drain.ended(process.open)
            if drained is not None:
                log.warning("%s: drained: the connections from before are closed (%d)", self._settings.address, drained)
                process.note("drain", f"drained: the connections from before are closed ({drained})")


def _at_host(slot: Slot) -> str:
    """The end of a log line that names the connection's host, if the url has several."""
    return f" (host {slot.activity.host})" if slot.activity.host else ""


def _forget_locals(error: BaseException, handled: BaseException | None) -> None:
    """Empty the local variables of the frames that a failed connect has left: the password is in some of them, and
    error trackers and debug pages show them.

    The frames of `handled`, the error that the application was handling when it asked for a connection, are its own."""
    done = [handled]
    left: list[BaseException | None] = [error]
    while left:
        each = left.pop()
        if each is None or any(each is one for one in done):
            continue
        done.append(each)
        clear_frames(each.__traceback__)
        left += [each.__cause__, each.__context__, *getattr(each, "exceptions", ())]


def _text(error: BaseException) -> str:
    if isinstance(error, HookError):
        return str(error)
    return f"{type(error).__name__}: {plain(error)}"
