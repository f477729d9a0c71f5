"""The engine: everything that touches a server between two requests is done here, and no lock is held then.

    acquire ── store.take ── used lately, and the free check finds nothing ─────────────────────────── the slot
       └ _acquire ─ repeated while the server refuses new connections, but others may come back:
           ├ _wait ── store.wait ────────── the queue of the pool, up to the deadline        PoolTimeout, PoolOverloaded
           ├ validator.validate ─────────── age, free check, ping; empties a slot that fails
           └ connector.open ─ backoff.begin ─ driver.connect ─ slot.fill, into an empty slot     DatabaseUnavailable

    probe ───── store.take ── validator.validate or open ── store.put, for health checks   DatabaseUnavailable

The store keeps the slots and decides who gets one. The connector opens and closes the connection of one slot; the
validator finds out whether it may be used. The process has the store, the back-off and the counters; a forked child has
its own. The other half of the engine, which ends leases, is `Releasing`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from threading import get_ident
from typing import ClassVar

from ..config.settings import Settings
from ..drivers.activity import Activity
from ..drivers.base import Driver
from ..drivers.states import NOT_WRITABLE
from ..errors import DatabaseUnavailable, PoolOverloaded, PoolTimeout
from ..forks import tell_of_forks
from ..strategies import Request, Slot, named
from .connector import Connector
from .durations import BUCKETS
from .exhausted import describe
from .names import claim, give_up
from .probe import probe
from .process import Process, Waiting
from .releasing import Releasing
from .validation import Validator

log = logging.getLogger("wsgidb")


class Engine(Releasing):
    """Leases validated connections of one Database, in whatever process it is used."""

    _connector_class: ClassVar[type[Connector]] = Connector
    _process_class: ClassVar[type[Process]] = Process

    def __init__(self, settings: Settings, driver: Driver, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(settings, driver, clock)
        self._connector = self._connector_class(self, settings, driver, clock)
        validator = Validator(settings, driver, self._connector, clock)
        self._validate = validator.validate
        self.commits = settings.transaction == "request"
        """Whether leases that end well are committed."""
        self.name = claim(settings.pool_name, self)
        """The name of the pool, which no other one in this process has."""
        self.timed = settings.telemetry
        """Whether it is counted how long leases wait and last."""
        self.open = self._connector.open
        """Opens a connection for an empty slot that the caller has taken."""
        self._trusted = validator.trusted
        self._process = self._new_process()
        tell_of_forks(self)

    # -- processes

    def _new_process(self) -> Process:
        return self._process_class(self.settings, self._lost, self.clock)

    @property
    def process(self) -> Process:
        """The state of this very process. A fork shows by its mark, as not every server runs fork hooks."""
        while not (process := self._process).mark[0]:
            process.leave_to_parent()
            self._process = process.successor(self._new_process)
        return process

    def forked(self) -> None:
        """In a forked child: let no call begin on the connections of the parent, and never close them. Never blocks."""
        self._process.leave_to_parent()

    def new_durations(self) -> list[int] | None:
        """What a new connection counts the durations of its leases in, if it does."""
        return [0] * BUCKETS if self.timed else None

    # -- acquire

    def acquire(self, request: Request | None = None, deadline: float | None = None) -> Slot:
        """A slot with a connection that is known to work. It is the caller's until `release`. Log lines name `request`.

        A connection that was used lately costs only the free check. Blocks up to acquire_timeout, for waiting,
        connecting and validating together, or until the deadline. Raises DatabaseUnavailable.
        """
        process = self._process
        if not process.mark[0]:
            process = self.process
        slot = process.store.take()
        now = self.clock()
        if slot is not None and now < slot.good_until and not slot.check(0):
            slot.since = now
            slot.thread = get_ident()
            slot.request = request
            return slot
        if deadline is None:
            deadline = now + self.settings.acquire_timeout
        slot = self._acquire(process, slot, now, deadline, request)
        if self.timed:
            with process.lock:
                process.waits.add(self.clock() - now)
        return slot

    def _acquire(
        self, process: Process, slot: Slot | None, began: float, deadline: float, request: Request | None
    ) -> Slot:
        while True:
            if slot is None:
                slot = self._wait(process, began, deadline, request)
            try:
                if slot.raw is not None:
                    self._validate(slot, deadline)
                if slot.raw is None:
                    self._connector.open(slot, process, deadline)
                slot.since = self.clock()
                slot.thread = get_ident()
                slot.request = request
                return slot
            except DatabaseUnavailable:
                process.store.put(slot)
                # The back-off is not asked, as its time may have passed by now, or another connect have succeeded.
                if not (process.store.shared and (process.shortage or (process.open and self.clock() < deadline))):
                    raise
                slot = None  # the server grants some connections: wait for one of those
            except BaseException:
                self.discard(process, slot, "interrupted")
                raise

    def _wait(self, process: Process, began: float, deadline: float, request: Request | None) -> Slot:
        """Wait for a slot in the store's queue. Raises DatabaseUnavailable, with all that is known about the reason."""
        waiting = Waiting(request, get_ident(), self.clock())
        process.waiting[waiting] = None
        try:
            return process.store.wait(deadline)
        except (PoolTimeout, PoolOverloaded) as error:
            raise self.refusal(error, request, began) from None
        finally:
            process.waiting.pop(waiting, None)
            with process.lock:
                process.queued.add(self.clock() - waiting.since)

    def refusal(self, error: DatabaseUnavailable, request: Request | None, began: float) -> DatabaseUnavailable:
        """Make the error of a request that gets no connection, with all that is known about the reason, from the one
        that gives the reason alone. Counts and logs it. Never blocks."""
        process = self.process
        now = self.clock()
        timeout = isinstance(error, PoolTimeout)
        with process.lock:
            process.totals.timeouts += timeout
            process.totals.refusals += not timeout
            ending = process.exhaustion_log.due(now)
            slots, cause = list(process.open), process.backoff.cause
        text = describe(error, slots, process.shortage, cause, waited=now - began, now=now, thread=get_ident())
        process.note("timeout" if timeout else "refusal", f"{named(request)}: {text}")
        if ending is not None:
            log.warning("%s: %s%s", self.settings.address, text, ending)
        return type(error)(text)

    # -- while it is leased

    def classify(self, activity: Activity, error: BaseException) -> str | None:
        """What `Driver.unfit` says of an error of this connection. Where it is a sign for all connections, their
        servers are to be asked. Never blocks."""
        reason = self.driver.unfit(error)
        if reason == NOT_WRITABLE and self.driver.can_ask and self._process.doubt(activity):
            self.driver.doubt(error)
        return reason

    # -- health checks

    def probe(self) -> bool:
        """Find out whether the database answers, by an idle connection or, where there is a place for one, by a new
        one. Never waits for a connection that others use. Returns False if all of them are in use, which is no bad
        sign.

        A connection that was used within ping_after is proof enough, unless connecting fails at present. Blocks up to
        ping_timeout or connect_timeout, whichever is longer. Raises DatabaseUnavailable, and does so at once during the
        back-off."""
        return probe(self, self._validate, self._connector.open)

    def close(self) -> None:
        """Close idle connections politely, and fail waiting callers. Leased connections are closed as they come
        back."""
        for slot in self.process.store.close():
            if slot.raw is not None:
                self._connector.retire(slot, "closed")
        give_up(self.name, self)
