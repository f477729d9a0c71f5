"""The end of a lease: its session is made fit for the next request, or it is told why it cannot be."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from ..config.settings import Settings
from ..drivers.base import Driver
from ..drivers.states import CLEAN, DIRTY, State
from ..strategies import Slot, named
from ..strategies.base import ON_LEASE

log = logging.getLogger("wsgidb")


class Cleaner:
    """Ends the cursors of a lease, and cleans its session. Whoever calls it owns the slot, and holds no lock."""

    def __init__(self, settings: Settings, driver: Driver, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._driver = driver
        self._clock = clock
        self._reset = driver.reset if settings.reset == "session" else driver.rollback

    def clean(self, slot: Slot, state: State | str, rollback_expected: bool) -> str | None:
        """Make a session in this state fit for the next request. A str: why it cannot be. Raises what that fails
        with."""
        if slot.activity.lost is not None:
            with slot.process.lock:
                slot.process.totals.lost += 1
        if state is not CLEAN and not rollback_expected:
            self._warn_of_loss(slot)
        if slot.undo is not None and ON_LEASE in slot.undo:
            return self._clean_after_hook(slot, state, slot.undo.pop(ON_LEASE))
        return self._restore(slot, state)

    def _restore(self, slot: Slot, state: State | str) -> str | None:
        if isinstance(state, str):
            return state
        if state is DIRTY:
            self._reset(slot.raw, self._clock() + self._settings.ping_timeout)
        if slot.undo is not None:
            undo, slot.undo = slot.undo, None
            self._driver.put_back(slot.raw, undo, self._clock() + self._settings.ping_timeout)
        return None

    def _clean_after_hook(self, slot: Slot, state: State | str, ending: Any) -> str | None:
        """The same where on_lease has a second half: it is run on the clean session, and what it leaves is cleaned."""
        try:
            reason = self._restore(slot, state)
            if reason is not None:
                return reason
            try:
                ending.run(slot, self._clock() + self._settings.ping_timeout)
            except Exception as error:  # noqa: BLE001 - the application's code may raise anything
                whose = named(slot.request)
                log.warning("%s: on_lease failed at the end of %s: %r", self._settings.address, whose, error)
                return "on_lease failed"
            return self.end_cursors(slot) or self._restore(slot, CLEAN)
        finally:
            ending.close()

    def end_cursors(self, slot: Slot) -> str | None:
        """Invalidate the cursors that the lease has left. A str: why the connection cannot be kept."""
        fault = None
        for reference in list(slot.cursors.values()):
            cursor = reference()
            if cursor is None:
                continue
            try:
                fault = self._driver.retire_cursor(cursor) or fault
            except Exception as error:  # a class of the handler's, say
                log.debug("%s: a cursor could not be closed", self._settings.address, exc_info=error)
                fault = "a cursor could not be closed"
        slot.cursors.clear()
        return fault

    def _warn_of_loss(self, slot: Slot) -> None:
        try:
            rows = self._driver.rows_written(slot.raw)
        except Exception:  # noqa: BLE001 - a connection that was closed or broken may not tell any more
            return
        if rows > 0:
            with slot.process.lock:
                slot.process.totals.rolled_back += 1
            log.warning("%s: rolled back an uncommitted write of %d row(s)", named(slot.request), rows)
