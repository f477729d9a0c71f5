"""stats(): counters reconcile with the server's own, and with a clock that a test moves."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import asdict
from typing import Any

import pytest

from strategies.kit import STRATEGIES
from support.client import connect
from support.clock import Clock
from support.fakedb import FakeDB
from support.mariadb import MariaDB, end_others
from support.waiting import until
from wsgidb import Database, DatabaseUnavailable, PoolOverloaded, PoolTimeout
from wsgidb.pool.durations import Durations


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def status(mariadb: MariaDB) -> Iterator[Callable[[str], int]]:
    """The server's counters, asked for on one connection that is there all along, and at first is the only one."""
    with closing(connect(mariadb.url("root"))) as connection, connection.cursor() as cursor:

        def rows(sql: str) -> list[tuple[Any, ...]]:
            cursor.execute(sql)
            return list(cursor.fetchall())

        end_others(rows)

        def status(name: str) -> int:
            cursor.execute("SHOW GLOBAL STATUS LIKE %s", (name,))
            row = cursor.fetchone()
            assert row is not None
            return int(row[1])

        yield status


class Slow(FakeDB):
    """A fake driver whose connects and closes take a second each, on the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        self.clock.advance(1)
        return super().connect(*args, **kwargs)

    def ended(self) -> None:
        self.clock.advance(1)
        super().ended()


def lease(database: Database, statement: bool = False) -> None:
    with database.connection() as conn:
        if statement:
            conn.cursor().execute("SELECT 1")


def fill(database: Database, connections: int) -> None:
    with ExitStack() as stack:
        for _ in range(connections):
            stack.enter_context(database.connection())


def test_new_database_has_done_nothing(fakedb: FakeDB, strategy: Any) -> None:
    """All counters begin at zero, and making a Database opens nothing."""
    with Database(creator=fakedb.connect, strategy=strategy) as database:
        done = {name: value for name, value in asdict(database.stats()).items() if value}
        assert (done.pop("name"), done.pop("pid"), done.pop("limit", 10)) == (database.name, os.getpid(), 10)
        for what in ("wait", "queue", "use", "create"):
            assert Durations(**done.pop(f"{what}_times")) == Durations()
        assert done == {}
        assert database.stats().dead_time == 0.0
    assert fakedb.calls == []


@pytest.mark.server
def test_reconciles_with_the_server(mariadb: MariaDB, status: Callable[[str], int], strategy: Any) -> None:
    """connects is what the server counts as Connections, open what it counts as Threads_connected, at every step."""
    with Database(mariadb.url(), strategy=strategy, pool_size=5) as database:
        connections, threads = status("Connections"), status("Threads_connected")

        def reconciled() -> bool:
            stats = database.stats()
            assert status("Connections") - connections == stats.connects
            return status("Threads_connected") - threads == stats.open == stats.idle + stats.leased

        def requests() -> None:
            for _ in range(10):
                lease(database, statement=True)

        with database.connection(), database.connection():
            until(reconciled, what="two leases to be two threads")
            assert database.stats().leased == 2
        until(reconciled, what="the server to see the release")
        workers = [threading.Thread(target=requests) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(30)
        until(reconciled, what="the server to see the load's end")
        assert database.stats().acquires == 82
        database.close()
        until(reconciled, what="the server to see the close")
        assert database.stats().open == 0


@pytest.mark.server
def test_killed_connections_reconcile(mariadb: MariaDB, status: Callable[[str], int]) -> None:
    """Connections that the server killed are checks_failed and discards, each once, and reconnects are connects."""
    with Database(mariadb.url(), ping_after=None) as database:
        connections = status("Connections")
        fill(database, 3)
        mariadb.kill_connections("guest")
        killing = status("Connections") - connections - 3
        fill(database, 3)
        stats = database.stats()
        assert (stats.checks_failed, stats.discards, stats.connects) == (3, {"check failed": 3}, 6)
        assert status("Connections") - connections - killing == 6


def test_seconds_of_a_kept_connection(clock: Clock) -> None:
    """seconds_open runs from the start of connecting, seconds_leased during leases; dead_time is the rest."""
    database = Database(creator=Slow(clock).connect, clock=clock)
    with database.connection():
        clock.advance(3)
        assert (database.stats().seconds_open, database.stats().seconds_leased) == (4, 3)
    clock.advance(4)
    with database.connection():
        clock.advance(2)
    stats = database.stats()
    assert (stats.seconds_open, stats.seconds_leased, stats.dead_time) == (10, 5, 0.5)
    database.close()
    stats = database.stats()
    assert (stats.seconds_open, stats.seconds_leased, stats.acquires) == (11, 5, 2)


def test_set_up_and_tear_down_are_dead_time(clock: Clock) -> None:
    """per-request: a second of connecting and one of closing around two of use are half of the time dead."""
    database = Database(creator=Slow(clock).connect, strategy="per-request", clock=clock)
    for _ in range(3):
        with database.connection():
            clock.advance(2)
        clock.advance(100)  # nothing is open then
    stats = database.stats()
    assert (stats.seconds_open, stats.seconds_leased, stats.dead_time) == (12, 6, 0.5)
    assert stats.retirements == {"request ended": 3}


def test_waits(fakedb: FakeDB, clock: Clock) -> None:
    """A request that had to queue counts as a wait, with its seconds; one that max_waiting refuses, as a refusal."""
    database = Database(
        creator=fakedb.connect, pool_size=1, max_waiting=1, acquire_timeout=5, ping_after=None, clock=clock
    )
    with database.connection():
        waiter = threading.Thread(target=lambda: lease(database))
        waiter.start()
        until(lambda: database.stats().waiting == 1, what="the thread to wait")
        with pytest.raises(PoolOverloaded):
            lease(database)
        clock.advance(3)
    waiter.join(10)
    stats = database.stats()
    assert (stats.waits, stats.seconds_waited, stats.refusals, stats.timeouts) == (2, 3, 1, 0)
    database.close()


def test_seconds_on_a_clock_that_began_just_now(fakedb: FakeDB) -> None:
    """seconds_leased and seconds_waited are right on a machine that was just started, whose clock begins near 0."""
    clock = Clock(2.0)
    database = Database(creator=fakedb.connect, pool_size=1, acquire_timeout=60, ping_after=None, clock=clock)
    with database.connection():
        waiter = threading.Thread(target=lambda: lease(database))
        waiter.start()
        until(lambda: database.stats().waiting == 1, what="the thread to wait")
        clock.advance(3)
    waiter.join(10)
    stats = database.stats()
    assert (stats.waits, stats.seconds_waited, stats.seconds_leased, stats.seconds_open) == (1, 3, 3, 3)
    database.close()
    stats = database.stats()
    assert (stats.open, stats.seconds_leased, stats.seconds_open) == (0, 3, 3)


def test_closing_forgets_nothing(clock: Clock) -> None:
    """What closed connections have done stays in every sum: leases, statements and all seconds."""

    class Takes(FakeDB):
        """A fake driver whose statements take two seconds each."""

        def call(self, number: int, name: str, sql: str | None = None) -> None:
            super().call(number, name, sql)
            if name == "execute":
                clock.advance(2)

    with Database(creator=Takes().connect, clock=clock) as database:
        with ExitStack() as stack:
            for conn in [stack.enter_context(database.connection()) for _ in range(3)]:
                conn.cursor().execute("SELECT 1")
        database.close()
        stats = database.stats()
        assert (stats.open, stats.acquires, stats.connects, stats.retirements) == (0, 3, 3, {"closed": 3})
        assert stats.statements == 3
        assert (stats.seconds_executing, stats.seconds_leased, stats.seconds_open) == (6, 18, 18)


def test_discarded_on_a_clock_that_began_just_now(fakedb: FakeDB, strategy: Any) -> None:
    """On a clock that begins near 0, a slot without a connection is not taken for one that was used lately."""
    with Database(creator=fakedb.connect, strategy=strategy, clock=Clock(0.25)) as database:
        fakedb.fail("rollback", FakeDB.OperationalError("gone"))
        lease(database)
        lease(database)
        assert (database.stats().connects, database.stats().discards) == (2, {"reset failed": 1})


def test_timeouts(fakedb: FakeDB) -> None:
    """A wait in vain until acquire_timeout counts as a wait and as a timeout. The wait begins a moment after the time
    limit does."""
    with Database(creator=fakedb.connect, pool_size=1, acquire_timeout=0.02) as database:
        with database.connection(), pytest.raises(PoolTimeout):
            lease(database)
        stats = database.stats()
        assert (stats.waits, stats.timeouts, stats.refusals, stats.waiting) == (1, 1, 0, 0)
        assert stats.seconds_waited == stats.queue_times.seconds > 0


def test_discards_by_reason(fakedb: FakeDB, clock: Clock, strategy: Any) -> None:
    """Each connection dropped as bad is counted once, by its reason; one that never opened is a connect failure."""
    with Database(creator=fakedb.connect, strategy=strategy, clock=clock) as database:
        fakedb.fail("rollback", FakeDB.OperationalError("gone"))
        lease(database)
        with pytest.raises(KeyboardInterrupt), database.connection():
            raise KeyboardInterrupt
        fakedb.fail("connect", FakeDB.OperationalError("down"))
        with pytest.raises(DatabaseUnavailable):
            lease(database)
        clock.advance(2)
        lease(database)
        stats = database.stats()
        assert stats.discards == {"reset failed": 1, "interrupted": 1}
        assert (stats.connects, stats.connect_failures) == (3, 1)
        assert stats.connects == stats.open + sum(stats.discards.values()) + sum(stats.retirements.values())


def test_pings_that_fail(fakedb: FakeDB, clock: Clock) -> None:
    """A ping that fails is counted, and its connection discarded; the request gets another one."""
    with Database(creator=fakedb.connect, clock=clock) as database:
        lease(database)
        clock.advance(1)
        fakedb.fail("execute", FakeDB.OperationalError("gone"))
        lease(database)
        stats = database.stats()
        assert (stats.pings, stats.pings_failed, stats.discards, stats.connects) == (1, 1, {"ping failed": 1}, 2)


@pytest.mark.parametrize(
    ("ping_after", "idle", "pings"),
    [(0, 0.0, 10), (0, 5.0, 10), (1, 0.0, 0), (1, 0.999, 0), (1, 1.0, 10), (None, 599.0, 0), (30, 31.0, 10)],
)
def test_ping_after(fakedb: FakeDB, clock: Clock, ping_after: float | None, idle: float, pings: int) -> None:
    """ping_after: 0 pings at every acquire, none at no acquire, else only where a connection idled for so long."""
    with Database(creator=fakedb.connect, ping_after=ping_after, max_lifetime=None, clock=clock) as database:
        lease(database)
        for _ in range(10):
            clock.advance(idle)
            lease(database)
        assert (database.stats().pings, fakedb.count("execute"), database.stats().connects) == (pings, pings, 1)


def test_max_lifetime_with_jitter(fakedb: FakeDB, clock: Clock) -> None:
    """max_lifetime: each connection retires between 90 % and 110 % of it, and not all at the same time."""
    with Database(creator=fakedb.connect, pool_size=40, max_idle=None, max_lifetime=1000, clock=clock) as database:
        fill(database, 40)
        clock.advance(899)
        fill(database, 40)
        assert database.stats().retirements == {}
        clock.advance(101)
        fill(database, 40)
        half = database.stats().retirements["age"]
        assert 5 < half < 35
        clock.advance(100)
        fill(database, 40)
        assert database.stats().retirements["age"] >= 40
        assert database.stats().open == 40


def test_max_lifetime_of_a_busy_connection(fakedb: FakeDB, clock: Clock, strategy: Any) -> None:
    """max_lifetime: a connection that is used all the time retires, too, but never during a lease."""
    with Database(creator=fakedb.connect, strategy=strategy, max_lifetime=100, clock=clock) as database:
        with database.connection() as conn:
            for _ in range(300):
                clock.advance(1)
                conn.cursor().execute("SELECT 1")
        assert database.stats().connects == 1
        lease(database)
        assert database.stats().connects == 2
        reason = "request ended" if strategy == "per-request" else "age"
        assert database.stats().retirements[reason] >= 1


def test_max_idle(fakedb: FakeDB, clock: Clock) -> None:
    """max_idle: what was not used for so long is retired; in the pool also while others are in use."""
    with Database(creator=fakedb.connect, max_idle=10, max_lifetime=None, clock=clock) as database:
        fill(database, 3)
        for _ in range(9):
            clock.advance(1)
            lease(database)
        assert database.stats().open == 3
        for _ in range(3):
            clock.advance(1)
            lease(database)
        assert (database.stats().open, database.stats().retirements) == (1, {"unused": 2})
        clock.advance(10)
        lease(database)
        assert (database.stats().open, database.stats().retirements) == (1, {"unused": 3})


@pytest.mark.parametrize(("idle", "retirements"), [(9.999, {}), (10, {"unused": 1})])
def test_max_idle_beside_a_busy_connection(
    fakedb: FakeDB, clock: Clock, idle: float, retirements: dict[str, int]
) -> None:
    """max_idle: a connection at rest is retired, from that very second on, when another one comes back."""
    with Database(creator=fakedb.connect, max_idle=10, max_lifetime=None, clock=clock) as database:
        with database.connection():
            lease(database)
            clock.advance(idle)
            assert database.stats().open == 2
        assert database.stats().retirements == retirements
@pytest.mark.parametrize(("idle", "retirements"), [(9.5, {}), (10.0, {"unused": 1}), (11.0, {"unused": 1})])
def test_max_idle_to_the_second(fakedb: FakeDB, clock: Clock, idle: float, retirements: dict[str, int]) -> None:
    """max_idle: what was idle for so long, or longer, is retired."""
    with Database(creator=fakedb.connect, max_idle=10, max_lifetime=None, ping_after=None, clock=clock) as database:
        lease(database)
        clock.advance(idle)
        lease(database)
        stats = database.stats()
        assert (stats.retirements, stats.connects) == (retirements, 1 + len(retirements))


@pytest.mark.parametrize(
    ("share", "age", "retirements"), [(0.9, 89.5, {}), (0.9, 90, {"age": 1}), (1.1, 109.5, {}), (1.1, 110, {"age": 1})]
)
def test_max_lifetime_to_the_second(
    fakedb: FakeDB, clock: Clock, monkeypatch: pytest.MonkeyPatch, share: float, age: float, retirements: dict[str, int]
) -> None:
    """max_lifetime: a connection's age is over at the very instant, which chance puts between 90 % and 110 %."""
    asked: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        asked.append((low, high))
        return share

    monkeypatch.setattr(random, "uniform", uniform)
    with Database(creator=fakedb.connect, max_lifetime=100, max_idle=None, ping_after=None, clock=clock) as database:
        lease(database)
        clock.advance(age)
        lease(database)
        stats = database.stats()
        assert (stats.retirements, stats.connects) == (retirements, 1 + len(retirements))
        assert set(asked) == {(0.9, 1.1)}
