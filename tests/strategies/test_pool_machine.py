"""S2 to S5 of the pool in any order of events: hypothesis drives it, and a model says what must come out."""

from __future__ import annotations

from collections import deque
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from strategies.kit import Worker, run
from support.clock import Clock
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import Database, DatabaseUnavailable

FAULTS = ("connect", "execute", "rollback", "close")
PATIENCE = 3
"""How many may wait at once."""


class Request:
    """An acquire in a thread of its own, which may have to wait. When `done`, `lease` is what it got, or None."""

    def __init__(self, database: Database) -> None:
        self.lease: Any = None
        self._database = database
        self._worker = Worker(self._acquire)

    def _acquire(self) -> None:
        try:
            self.lease = self._database.lease()
        except DatabaseUnavailable:
            pass  # in an outage

    @property
    def done(self) -> bool:
        return not self._worker.is_alive()


class PoolMachine(RuleBasedStateMachine):
    """Requests come, wait, run and go; time passes; calls to the server fail."""

    @initialize(size=st.integers(1, 3))
    def begin(self, size: int) -> None:
        self.size, self.clock, self.fakedb = size, Clock(), FakeDB()
        self.database = Database(
            creator=self.fakedb.connect,
            pool_size=size,
            acquire_timeout=1000,
            max_lifetime=60,
            max_idle=20,
            ping_after=2,
            clock=self.clock,
        )
        self.leased: list[Any] = []
        self.waiting: deque[Request] = deque()
        self.failures = self.served = self.settled_failures = 0
        self.failed_at: float | None = None

    @precondition(lambda self: len(self.waiting) < PATIENCE)
    @rule()
    def request(self) -> None:
        """S3: it waits only where all places are taken, or in an outage."""
        self.clock.advance(0.000_001)  # no two requests come at the very same time
        self.waiting.append(Request(self.database))
        self.settle()

    @precondition(lambda self: self.leased)
    @rule(data=st.data(), ran=st.booleans())
    def release(self, data: st.DataObject, ran: bool) -> None:
        conn = self.leased.pop(data.draw(st.integers(0, len(self.leased) - 1)))
        if ran:
            try:
                run(conn, "SELECT 1")
            except FakeDB.Error:
                pass  # a planned one
        conn.close()
        self.settle()

    @rule(seconds=st.sampled_from([0.01, 0.1, 1.0, 3.0, 25.0, 70.0]))
    def time_passes(self, seconds: float) -> None:
        """S5: who waits in an outage tries to connect once the back-off is over."""
        self.clock.advance(seconds)
        self.database._engine.process.store.wake()  # real time, in which it would look again, does not pass
        self.settle()

    @precondition(lambda self: len(self.fakedb.pending) < 2)
    @rule(name=st.sampled_from(FAULTS), n=st.integers(1, 2))
    def fault(self, name: str, n: int) -> None:
        self.fakedb.fail(name, FakeDB.OperationalError(f"planned: {name}"), n)

    def settle(self) -> None:
        """Wait until each request is served, refused, or known to wait; the longest waiting is served first."""
        until(self._quiet, what="every request to be served or to wait")
        done = [request.done for request in self.waiting]
        failures = self.database.stats().connect_failures
        if failures == self.settled_failures:  # else one had its turn, could not connect, and is waiting again
            assert done == sorted(done, reverse=True), "S3: one who came later was served first"
        self.settled_failures = failures
        for request, is_done in zip(list(self.waiting), done, strict=True):
            if is_done:
                self.waiting.remove(request)
                self._note(request)
        assert self.database.stats().waiting == len(self.waiting)

    def _quiet(self) -> bool:
        """Nobody is on the way, nor would be at the next look: each one that waits looks now and then in an outage."""
        store: Any = self.database._engine.process.store
        with store._lock:
            due = store._waiters and not store._full_until()
        return not due and self.database.stats().waiting == sum(not request.done for request in self.waiting)

    def _note(self, request: Request) -> None:
        if request.lease is None:
            assert self._outage(), "S5: refused, though nothing ever failed to connect"
        else:
            self.served += 1
            self.leased.append(request.lease)

    def _outage(self) -> bool:
        return self.database.stats().connect_failures > 0

    @invariant()
    def places(self) -> None:
        """S2, S4: never more than pool_size, and no connection for two."""
        if not hasattr(self, "database"):
            return
        stats = self.database.stats()
        raws = {id(conn.driver_connection) for conn in self.leased}
        assert len(raws) == len(self.leased) == stats.leased, "S4"
        assert stats.open == stats.leased + stats.idle <= self.size, "S2"
        assert stats.idle == 0 or not self.waiting, "S3: one waits beside an idle connection"
        if self.waiting and not self._outage():
            assert stats.leased == self.size, "S3: one waits beside a free place"

    @invariant()
    def counters(self) -> None:
        """What was opened is open, discarded or retired; and no connect was one too many."""
        if not hasattr(self, "database"):
            return
        stats = self.database.stats()
        ended = sum(stats.discards.values()) + sum(stats.retirements.values())
        assert stats.connects == self.fakedb.opened == stats.open + ended
        assert self.fakedb.count("connect") == stats.connects + stats.connect_failures
        assert stats.acquires == self.served
        if stats.connect_failures > self.failures:  # S5: not before half of the first interval has passed
            assert stats.connect_failures == self.failures + 1
            assert self.failed_at is None or self.clock() > self.failed_at
            self.failures, self.failed_at = stats.connect_failures, self.clock()

    def teardown(self) -> None:
        """S2, S7: in the end every place is free, and every connection closed."""
        if not hasattr(self, "database"):
            return
        self.clock.advance(10)
        while self.leased or self.waiting:
            if self.leased:
                self.leased.pop().close()
            self.settle()
        self.database.close()
        stats = self.database.stats()
        assert (stats.open, stats.leased, stats.waiting) == (0, 0, 0)
        assert self.fakedb.open_now == 0


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=150, stateful_step_count=30, derandomize=True, deadline=None, database=None)
