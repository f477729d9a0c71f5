"""S3: callers that wait for a connection are served in order, and nothing that is handed over gets lost."""

from __future__ import annotations

import signal
import threading
from collections import deque
from functools import partial
from typing import Any

import pytest

import wsgidb.strategies.queued
from strategies.conftest import MakeDatabase
from strategies.kit import Worker, run
from support.clock import Clock
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import Database, DatabaseUnavailable, PoolOverloaded, PoolTimeout


class Interrupted(BaseException):
    """Stands for a worker's timeout that is raised while its thread waits."""


def queue_up(database: Database, number: int, served: list[int]) -> Worker:
    """Start a thread, and return when it waits behind all others."""

    def request() -> None:
        with database.connection() as conn:
            served.append(number)
            run(conn, "SELECT 1")

    before = database.stats().waiting
    worker = Worker(request)
    until(lambda: database.stats().waiting == before + 1, what="a thread to wait")
    return worker


def test_waiters_are_served_in_order(fake: MakeDatabase) -> None:
    """S3: first come, first served."""
    database = fake(pool_size=1, acquire_timeout=60)
    served: list[int] = []
    with database.connection():
        workers = [queue_up(database, number, served) for number in range(6)]
    for worker in workers:
        worker.outcome()
    assert served == list(range(6))
    assert (database.stats().waits, database.stats().connects) == (6, 1)


def test_newcomer_does_not_barge_in(fake: MakeDatabase) -> None:
    """S3: a thread that releases and asks again at once comes after those that wait already."""
    database = fake(pool_size=1, acquire_timeout=60)
    served: list[int] = []
    with database.connection():
        waiter = queue_up(database, 1, served)
    with database.connection():
        served.append(2)
    waiter.outcome()
    assert served == [1, 2]


def test_discarded_connection_makes_room_for_the_first_waiter(fake: MakeDatabase, fakedb: FakeDB) -> None:
    """S3: a connection that is discarded at release frees its place, and the first waiting caller opens a new one."""
    database = fake(pool_size=1, acquire_timeout=60)
    served: list[int] = []
    fakedb.fail("rollback", FakeDB.OperationalError("no"))
    with database.connection():
        workers = [queue_up(database, number, served) for number in range(2)]
    for worker in workers:
        worker.outcome()
    assert (served, fakedb.opened) == ([0, 1], 2)


def test_waiter_that_could_not_connect_keeps_its_turn(
    fake: MakeDatabase, fakedb: FakeDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3: a waiter that is handed a place, fails to connect and must wait again is served before later ones."""
    for name in ("FIRST", "LAST"):  # else it may connect before anybody has seen it wait
        monkeypatch.setattr(f"wsgidb.pool.backoff.{name}", 60.0)
    database = fake(pool_size=2, acquire_timeout=60)
    served: list[int] = []
    keeper, broken = database.lease(), database.lease()
    workers = [queue_up(database, number, served) for number in range(3)]
    fakedb.fail("rollback", FakeDB.OperationalError("no"))
    fakedb.fail("connect", FakeDB.OperationalError("no"))
    broken.close()  # its place goes to the first waiter, who cannot connect and has to wait for the keeper
    until(lambda: database.stats().connect_failures == 1 and database.stats().waiting == 3, what="it to wait again")
    keeper.close()
    for worker in workers:
        worker.outcome()
    assert served == [0, 1, 2]


def test_waiters_are_served_by_deadline(fake: MakeDatabase, clock: Clock) -> None:
    """S3: the caller with the earlier deadline is served first; of equal ones, the one that came first."""
    database = fake(pool_size=1, clock=clock)
    store = database._engine.process.store
    served: list[int] = []

    def wait(number: int, patience: float) -> None:
        slot = store.wait(clock() + patience)
        served.append(number)
        store.put(slot)

    slot = store.take()
    assert slot is not None
    workers = []
    for number, patience in enumerate((60, 60, 90, 60, 30, 120, 75)):
        workers.append(Worker(partial(wait, number, patience)))
        until(lambda: store.waiting == len(workers), what="a thread to wait")
    store.put(slot)
    for worker in workers:
        worker.outcome()
    assert served == [4, 0, 1, 3, 6, 2, 5]


def test_wait_is_over_at_acquire_timeout(fake: MakeDatabase) -> None:
    """S3: a caller that waits in vain gets PoolTimeout at its deadline, and leaves the queue."""
    database = fake(pool_size=1, acquire_timeout=0.01)
    with database.connection(), pytest.raises(PoolTimeout), database.connection():
        pass
    assert (database.stats().timeouts, database.stats().waiting) == (1, 0)
    with database.connection():
        assert database.stats().connects == 1


class LastMoment:
    """Replaces a waiter's lock, so that something happens in the very moment in which its waiting ends otherwise."""

    happens: Any = None
    patience = 0.0
    """How long the last waiter would have waited."""

    def acquire(self, timeout: float = -1) -> bool:
        type(self).patience = timeout
        return timeout < 0 or bool(type(self).happens())

    def release(self) -> None:
        """Nobody waits here."""

    def locked(self) -> bool:
        return True


@pytest.fixture
def last_moment(monkeypatch: pytest.MonkeyPatch) -> type[LastMoment]:
    class Waiter(wsgidb.strategies.queued.Waiter):
        def __init__(self, deadline: float) -> None:
            super().__init__(deadline)
            self.turn = LastMoment()  # type: ignore[assignment]

    monkeypatch.setattr(wsgidb.strategies.queued, "Waiter", Waiter)
    return LastMoment


class TestMessages:
    """The error of a request that gets no connection tells why, who has them, and which option to look at."""

    def test_holders(self, fake: MakeDatabase, clock: Clock) -> None:
        """Those that have had one for longest come first, each with method, path and seconds, and no more than five."""
        database = fake(pool_size=7, acquire_timeout=0.001, clock=clock)
        leases = []
        for number in range(6):
            leases.append(Worker(partial(database.lease, ("GET", "/shop", f"/{number}"))).outcome())
            clock.advance(1)
        leases.append(Worker(database.lease).outcome())
        names = ", ".join(f"GET /shop/{number} for {6 - number}.0 s" for number in range(5))
        with pytest.raises(PoolTimeout) as caught:
            database.lease()
        assert caught.value.text == (
            "no connection became free within 0.0 s (acquire_timeout): "
            "7 of 7 connections are leased or being opened; other requests waiting: 0; "
            f"held by {names}, and 2 more; raise pool_size, or set leak_after to see what they do"
        )

    def test_a_holder_outside_of_a_request(self, fake: MakeDatabase, clock: Clock) -> None:
        """A lease of a script or a background job is named as such."""
        database = fake(pool_size=1, acquire_timeout=0.001, clock=clock)
        Worker(database.lease).outcome()
        with pytest.raises(PoolTimeout, match=r"; held by outside of a request for 0\.0 s; raise pool_size, or "):
            database.lease()

    def test_seconds_waited(self, fake: MakeDatabase, clock: Clock, last_moment: type[LastMoment]) -> None:
        """The seconds are those that this request has waited in all."""
        database = fake(pool_size=1, acquire_timeout=7, clock=clock)
        last_moment.happens = staticmethod(lambda: clock.advance(7.25) < 0)
        with database.connection(), pytest.raises(PoolTimeout, match=r"^no connection became free within 7\.2 s \("):
            database.lease()

    def test_own_lease(self, fake: MakeDatabase, clock: Clock) -> None:
        """A thread that waits for its own connection is told so: no option but a larger pool would help."""
        database = fake(pool_size=1, acquire_timeout=0.001, clock=clock)
        with database.connection(), pytest.raises(PoolTimeout) as caught:
            database.lease()
        assert caught.value.text.endswith("; this thread holds one of them itself; use that one, or raise pool_size")

    def test_own_lease_of_a_new_connection(self, fake: MakeDatabase, clock: Clock) -> None:
        """This is known of a connection that was used before, too."""
        database = fake(pool_size=1, acquire_timeout=0.001, clock=clock)
        Worker(database.check).outcome()
        with database.connection(), pytest.raises(PoolTimeout, match="this thread holds one of them itself"):
            database.lease()

    def test_max_waiting(self, fake: MakeDatabase, clock: Clock) -> None:
        """A request that was refused at once is told how many are waiting."""
        database = fake(pool_size=1, max_waiting=0, clock=clock)
        with database.connection(), pytest.raises(PoolOverloaded) as caught:
            database.lease(("GET", "", "/"))
        use = "1 of 1 connections are leased or being opened; requests waiting already: 0"
        assert str(caught.value).startswith(f"no connection is free (max_waiting): {use}; held by ")

    def test_connecting_that_takes_long(self, fake: MakeDatabase, fakedb: FakeDB) -> None:
        """Connections that are still being opened are leased by nobody; the error names the options for connecting."""
        database = fake(pool_size=1, acquire_timeout=0.05)
        gate = fakedb.block("connect")
        connecting = Worker(database.check)
        assert gate.entered.wait(10)
        with pytest.raises(PoolTimeout, match=r"; none of them is open yet; see connect_timeout and connect_args [(]"):
            database.lease()
        gate.open()
        connecting.outcome()

    def test_outage(
        self, fake: MakeDatabase, fakedb: FakeDB, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A pool that cannot grow, as the server refuses connections, names the refusal, and not pool_size."""
        monkeypatch.setattr("wsgidb.pool.backoff.FIRST", 60.0)
        monkeypatch.setattr("wsgidb.pool.backoff.LAST", 60.0)
        database = fake(pool_size=2, acquire_timeout=0.03, clock=clock)  # real time may be over before it waits
        with database.connection():
            fakedb.fail("connect", FakeDB.OperationalError("too many"))
            with pytest.raises(PoolTimeout) as caught:
                database.lease()
        cause = "last failure to connect: OperationalError: too many"
        assert caught.value.text.endswith(f" s; no other can be opened; {cause}")


class Hurrying(Clock):
    """Time goes on at each look at it."""

    def __call__(self) -> float:
        return self.advance(0.3)


def test_wait_that_begins_too_late_is_over_at_once(fake: MakeDatabase) -> None:
    """S3: PoolTimeout where the deadline is over before waiting begins, as on a machine that was suspended."""
    database = fake(pool_size=1, acquire_timeout=0.5, clock=Hurrying())
    with database.connection(), pytest.raises(PoolTimeout), database.connection():
        pass
    assert (database.stats().timeouts, database.stats().waiting) == (1, 0)
def test_exhausted_pool_is_logged_now_and_then(
    fake: MakeDatabase, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """S3: the first request in vain is a WARNING, then one is every 10 seconds, however many there are. The lines that
    were left out are counted in the next one."""
    database = fake(pool_size=1, max_waiting=0, clock=clock)
    lines = []
    with database.connection():
        for step in (0.0, 0.0, 9.5, 0.5, 0.0, 9.5, 30.0, 30.0):
            clock.advance(step)
            caplog.clear()
            with pytest.raises(PoolOverloaded) as caught:
                database.check()
            line = f"creator: {caught.value.text}"
            lines.append([record.getMessage().replace(line, "") for record in caplog.records])
    more = " (2 more since the last such line)"
    assert lines == [[""], [], [], [more], [], [], [more], [""]]


def test_closed_database_is_no_exhausted_pool(fake: MakeDatabase, caplog: pytest.LogCaptureFixture) -> None:
    """S7: a caller that was waiting when the Database was closed is logged as no exhausted pool."""
    database = fake(pool_size=1, acquire_timeout=60)
    with database.connection():
        waiter = queue_up(database, 1, [])
        database.close()
        with pytest.raises(DatabaseUnavailable, match="closed"):
            waiter.outcome()
    assert caplog.records == []


def test_connection_handed_over_is_not_pinged(fake: MakeDatabase, fakedb: FakeDB, clock: Clock) -> None:
    """C4: a caller that waited gets a connection that was used a moment ago, and so needs no ping."""
    database = fake(pool_size=1, acquire_timeout=60, ping_after=1, clock=clock)
    with database.connection():
        waiter = queue_up(database, 1, [])
    waiter.outcome()
    assert (database.stats().pings, database.stats().waits) == (0, 1)


@pytest.mark.parametrize("call", ["connect", "execute"])
def test_interrupted_acquire_frees_its_place(fake: MakeDatabase, fakedb: FakeDB, clock: Clock, call: str) -> None:
    """S2: a thread that is interrupted while it connects or pings leaks neither a place nor a connection."""
    database = fake(pool_size=1, acquire_timeout=0.01, ping_after=1, clock=clock)
    if call == "execute":
        database.check()
        clock.advance(1)
    fakedb.fail(call, Interrupted())
    with pytest.raises(Interrupted), database.connection():
        pass
    assert (database.stats().open, fakedb.open_now) == (0, 0)
    with database.connection() as conn:
        assert conn.number == 2


@pytest.mark.parametrize("now", [0.5, 7.0, 1e6])
def test_wait_lasts_for_acquire_timeout(fake: MakeDatabase, last_moment: type[LastMoment], now: float) -> None:
    """S3: 60 seconds are 60 seconds at any time, also of a machine that has just been started."""
    database = fake(pool_size=1, acquire_timeout=60, clock=Clock(now))
    last_moment.happens = staticmethod(lambda: False)
    with database.connection(), pytest.raises(PoolTimeout), database.connection():
        pass
    assert last_moment.patience == 60


def test_hand_over_in_the_last_moment_is_not_lost(fake: MakeDatabase, last_moment: type[LastMoment]) -> None:
    """S3: a connection handed over between a waiter's timeout and its leaving the queue is taken."""
    database = fake(pool_size=1, acquire_timeout=0.01)
    held = database.lease()

    def release_then_time_out() -> bool:
        held.close()
        return False

    last_moment.happens = staticmethod(release_then_time_out)
    with database.connection() as conn:
        assert conn.number == 1
    with database.connection() as conn:
        assert conn.number == 1
    assert database.stats().timeouts == 0


def test_hand_over_to_an_interrupted_waiter_is_not_lost(fake: MakeDatabase, last_moment: type[LastMoment]) -> None:
    """S3: a connection handed to a waiter whose thread is interrupted in that moment leaves its place free."""
    database = fake(pool_size=1, acquire_timeout=0.01)
    held = database.lease()

    def release_then_interrupt() -> bool:
        held.close()
        raise Interrupted

    last_moment.happens = staticmethod(release_then_interrupt)
    with pytest.raises(Interrupted), database.connection():
        pass
    assert (database.stats().waiting, database.stats().leased) == (0, 0)
    with database.connection() as conn:
        assert run(conn, "SELECT 1") == [(1,)]


def test_connection_that_is_taken_as_it_comes_back(fake: MakeDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3: a connection put back, and taken by another thread in the same moment, is that thread's and nobody else's
    affair."""
    database = fake(pool_size=1)
    store = database._engine.process.store
    taken: list[Any] = []

    class Snatched(deque[Any]):
        def append(self, slot: Any) -> None:
            super().append(slot)
            taken.append(Worker(database.lease).outcome())

    monkeypatch.setattr(store, "_idle", Snatched())
    database.lease().close()
    assert [conn.number for conn in taken] == [1]
    assert (database.stats().leased, database.stats().idle, database.stats().retirements) == (1, 0, {})


def test_interrupted_waiter_leaves_the_queue(fake: MakeDatabase) -> None:
    """S3: a thread interrupted by a signal while it waits is gone from the queue; the next one is served."""
    database = fake(pool_size=1, acquire_timeout=60)
    served: list[int] = []
    lease = database.lease()
    main = threading.get_ident()

    def interrupt(signum: int, frame: object) -> None:
        raise Interrupted

    def when_it_waits() -> None:
        until(lambda: database.stats().waiting == 1, what="the main thread to wait")
        signal.pthread_kill(main, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        interrupter = Worker(when_it_waits)
        with pytest.raises(Interrupted), database.connection():
            pass
    finally:
        signal.signal(signal.SIGUSR1, before)
    interrupter.outcome()
    waiter = queue_up(database, 1, served)
    lease.close()
    waiter.outcome()
    assert (served, database.stats().waiting, database.stats().connects) == ([1], 0, 1)


def test_waiters_fail_when_the_database_is_closed(fake: MakeDatabase) -> None:
    """S7: close() fails waiting callers at once, and later ones; a leased connection is closed as it comes back."""
    database = fake(pool_size=1, acquire_timeout=60)
    served: list[int] = []
    with database.connection():
        waiters = [queue_up(database, number, served) for number in range(3)]
        database.close()
        for waiter in waiters:
            with pytest.raises(DatabaseUnavailable, match="closed"):
                waiter.outcome()
        assert database.stats().open == 1
    assert (served, database.stats().open, database.stats().retirements) == ([], 0, {"closed": 1})
    with pytest.raises(DatabaseUnavailable, match="closed"), database.connection():
        pass
