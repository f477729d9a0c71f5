"""The second half of the engine: how a lease ends, and where its connection goes then.

    commit ──── the lease's calls and cursors end ── driver.commit                         TransactionLost
    release ─ the lease's calls and cursors end ─ driver.inspect ─ cleaner.clean ─ driver.rollback or reset
       ├ clean: store.put ── it may return another slot, which is too old: connector.retire ── store.put
       └ else: connector.discard ── store.put, empty

Everything that talks to a server here does it while no lock is held.
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable

from ..config.settings import Settings
from ..drivers.base import Driver
from ..drivers.states import CLEAN
from ..errors import TransactionLost
from ..strategies import Slot
from .cleaner import Cleaner
from .connector import Connector
from .durations import BOUNDS
from .process import Process

log = logging.getLogger("wsgidb")

BUSY = "in the middle of a statement"
"""The reason for which a connection is discarded while a thread that the request left behind still uses it."""


class Releasing:
    """The part of the engine that commits leases and takes their connections back."""

    _connector: Connector
    _trusted: float
    """For how many seconds of idling the free check alone is enough."""

    def __init__(self, settings: Settings, driver: Driver, clock: Callable[[], float]) -> None:
        self.settings = settings
        self.driver = driver
        self.clock = clock
        """Monotonic seconds."""
        cleaner = Cleaner(settings, driver, clock)
        self._inspect = driver.inspect
        self._end_cursors = cleaner.end_cursors
        self._clean = cleaner.clean

    def commit(self, slot: Slot) -> None:
        """Commit what the lease did; if that is nothing, nothing is sent. `release` must follow in every case.

        The lease's cursors end first. Blocks as long as a statement may. Raises the driver's error, or
        TransactionLost. Then nothing is committed, unless the connection was lost while COMMIT was under way: only
        the server knows what became of that."""
        if not slot.process.mark[0]:
            raise TransactionLost("cannot commit: the transaction is another process's")
        if slot.activity.end_lease():
            slot.fault = slot.fault or BUSY
        if slot.fault is not None:
            raise TransactionLost(f"cannot commit: {slot.fault}")
        if slot.cursors:
            slot.fault = self._end_cursors(slot)  # it costs the connection, but not what was done
        try:
            self.driver.commit(slot.raw)
        except BaseException as error:
            if not self.driver.commit_was_refused(error):
                slot.fault = "commit failed"
            raise

    def release(self, slot: Slot, rollback_expected: bool = False) -> None:
        """Take a connection back: what is not committed is rolled back, and what cannot be cleaned is discarded.

        Blocks for that rollback or reset only, up to ping_timeout. Never raises because of the connection, or because
        of what a handler left behind. Rows that are rolled back are logged as a warning, unless the caller says that
        the rollback is expected: this is the commonest way to lose a write.
        """
        process: Process = slot.process
        if not process.mark[0]:
            return  # it is a parent's, which `process` keeps
        seen = slot.activity
        reason: str | None = "interrupted"
        try:
            lease = seen.lease
            seen.lease = None  # as `Activity.end_lease` does it: no call of the lease can begin from here on
            busy = seen.users and (lease is None or lease in seen.users)
            fault = self._end_cursors(slot) if slot.cursors else None
            fault = slot.fault or (BUSY if busy else fault or seen.unfit)
            try:
                state = fault or self._inspect(slot.raw)
                clean = state is CLEAN and slot.undo is None
                reason = None if clean else self._clean(slot, state, rollback_expected)
            except Exception as error:
                log.debug("%s: reset failed", self.settings.address, exc_info=error)
                reason = fault or "reset failed"
        finally:
            now = self.clock()  # from now on the connection is idle
            if slot.since is not None:
                lasted = now - slot.since
                slot.busy += lasted
                if slot.durations is not None:
                    slot.durations[bisect_left(BOUNDS, lasted)] += 1
            slot.since = None
            slot.seen = seen.statements
            slot.uses += 1
            slot.used = now
            slot.good_until = now + self._trusted
            while slot.good_until > slot.expires:  # looked at again, as a drain may set both times meanwhile
                slot.good_until = slot.expires
            if reason is not None:
                self.discard(process, slot, reason)
            slot.request = None
        if reason is None:
            if slot.good_until <= now and (outlived := slot.outlived(now)) is not None:
                return self.retire(process, slot, outlived)
            unwanted = process.store.put(slot)
            if unwanted is not None:
                self.retire(process, *unwanted)

    def discard(self, process: Process, slot: Slot, reason: str) -> None:
        """Drop the connection as bad and free its place."""
        try:
            self._connector.discard(slot, reason)
        finally:
            process.store.put(slot)

    def retire(self, process: Process, slot: Slot, reason: str) -> None:
        """Close a good connection and free its place."""
        try:
            self._connector.retire(slot, reason)
        finally:
            process.store.put(slot)  # even if closing was interrupted

    def _lost(self, process: Process, slot: Slot) -> None:
        """Close the connection of a slot that the store has dropped, as its thread ended. In a forked child all threads
        of the parent have ended, which is no reason to do anything."""
        if not process.mark[0]:
            return
        try:
            if slot.raw is not None:
                self._connector.retire(slot, "thread ended")
        finally:
            process.store.put(slot)
