"""S9: what a pool does in an overload. The rules by themselves are in test_overload.py."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import POOLS, Worker
from support.clock import Clock
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.waiting import until
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware, PoolOverloaded
from wsgidb.strategies.overload import DOUBT

OVERLOADED = (
    r"^the pool has been overloaded for {} s \(queue_target\): 2 of 2 connections are leased or being opened; "
    r"requests waiting already: 1; held by .*; raise pool_size, or set leak_after to see what they do [(]"
)


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four requests in a row are enough for an overload."""
    monkeypatch.setattr("wsgidb.strategies.overload.SERVED", 4)


class Queue:
    """Requests of which each waits in a thread of its own, and holds its connection until it is told to end."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self.leases = [Worker(database.lease).outcome() for _ in range(2)]
        self._database, self._clock = database, clock
        self.waiting: list[Worker] = []

    def add(self, count: int) -> None:
        for number in range(count):
            before = self._database.stats().waiting
            self.waiting.append(Worker(partial(self._database.lease, ("GET", "/shop", f"/{number}"))))
            until(lambda before=before: self._database.stats().waiting == before + 1, what="it to wait")  # type: ignore[misc]

    def hand_over(self) -> None:
        """One request ends, and the first one that waits is served."""
        self.leases.pop(0).close()
        self.leases.append(self.waiting.pop(0).outcome())

    def end(self) -> None:
        for lease in self.leases:
            lease.close()
        for waiter in self.waiting:
            waiter.outcome().close()


def overload(database: Database, clock: Clock) -> tuple[Queue, Worker]:
    """Hand over connections until an overload begins, with the usual options. Returns the requests, of which one is
    waiting, and the one that is refused then."""
    queue = Queue(database, clock)
    queue.add(6)
    for seconds in (0.2, 0.0, 5.0, 0.0):
        clock.advance(seconds)
        queue.hand_over()
    return queue, queue.waiting.pop(0)


def overloaded(database: Database, clock: Clock) -> Queue:
    """Let an overload begin. One request is waiting, and one has told that it was refused: only then is it counted."""
    queue, refused = overload(database, clock)
    with pytest.raises(PoolOverloaded, match=OVERLOADED.format("0.0")):
        refused.outcome()
    return queue


@pytest.mark.usefixtures("few")
class TestOverload:
    @pytest.fixture(params=POOLS)
    def database(self, request: pytest.FixtureRequest, fake: MakeDatabase, clock: Clock) -> Database:
        return fake(strategy=request.param, pool_size=2, acquire_timeout=60, clock=clock)

    def test_beginning(self, database: Database, clock: Clock) -> None:
        """Those that have waited longest are refused at once, until half as many wait as there are connections."""
        queue = overloaded(database, clock)
        stats = database.stats()
        assert (stats.waiting, stats.refusals, stats.timeouts) == (1, 1, 0)
        queue.end()

    def test_refusal(self, database: Database, clock: Clock) -> None:
        """A request that comes while enough are waiting is refused at once; one that comes after it may wait again."""
        queue = overloaded(database, clock)
        clock.advance(2.5)
        with pytest.raises(PoolOverloaded, match=OVERLOADED.format("2.5")):
            database.lease()
        queue.hand_over()
        queue.add(1)
        queue.hand_over()
        assert database.stats().refusals == 2
        queue.end()

    def test_end(self, database: Database, clock: Clock) -> None:
        """When connections come back unawaited for a while, requests wait as before."""
        queue = overloaded(database, clock)
        queue.end()
        for _ in range(DOUBT):
            database.check()
        queue = Queue(database, clock)
        queue.add(4)
        assert (database.stats().waiting, database.stats().refusals) == (4, 1)
        for _ in range(4):
            queue.hand_over()
        queue.end()

    def test_connections_that_are_awaited_do_not_end_it(self, database: Database, clock: Clock) -> None:
        """It lasts while somebody is waiting whenever a connection comes back."""
        queue = overloaded(database, clock)
        for _ in range(DOUBT):
            queue.hand_over()
            queue.add(1)
        with pytest.raises(PoolOverloaded):
            database.lease()
        queue.end()

    def test_an_empty_queue(self, database: Database, clock: Clock) -> None:
        """If the queue was empty for a moment, the interval begins anew."""
        queue = Queue(database, clock)
        for _ in range(2):
            queue.add(2)
            for seconds in (0.2, 4.9):
                clock.advance(seconds)
                queue.hand_over()
        queue.add(3)
        assert (database.stats().waiting, database.stats().refusals) == (3, 0)
        for _ in range(3):
            queue.hand_over()
        queue.end()

    def test_discarded_connections_come_back_too(self, database: Database, clock: Clock, fakedb: FakeDB) -> None:
        """A connection that fails is one that nobody waits for, as the next request opens another."""
        queue = overloaded(database, clock)
        queue.end()
        for _ in range(DOUBT):
            fakedb.fail("rollback", FakeDB.OperationalError("no"))
            with database.connection() as conn:
                conn.cursor().execute("SELECT 1")
        assert database.stats().discards == {"reset failed": DOUBT}
        queue = Queue(database, clock)
        queue.add(2)
        assert database.stats().refusals == 1
        queue.hand_over()
        queue.hand_over()
        queue.end()

    def test_events(self, database: Database, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
        """The status page and the log tell of the refusals: one line in ten seconds, however many there are."""
        queue = overloaded(database, clock)
        for _ in range(3):
            with pytest.raises(PoolOverloaded):
                database.lease()

        def lines() -> int:
            return len([record for record in caplog.records if "overloaded" in record.getMessage()])

        until(lambda: len(database.stats().events) == 4 and lines() == 1, what="the first to be told")
        assert [event.kind for event in database.stats().events] == ["refusal"] * 4
        assert (database.stats().refusals, lines()) == (4, 1)
        queue.end()


def test_a_larger_pool(fake: MakeDatabase, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three may wait for six connections, and four times as many connections must come back unawaited."""
    monkeypatch.setattr("wsgidb.strategies.overload.SERVED", 4)
    database = fake(pool_size=6, acquire_timeout=60, clock=clock)
    others = [Worker(database.lease).outcome() for _ in range(4)]
    queue, first = overload(database, clock)
    queue.add(1)
    with pytest.raises(PoolOverloaded, match=r"6 of 6 connections .* requests waiting already: 3"):
        database.lease()
    for lease in others:
        lease.close()
    first.outcome().close()
    queue.end()
    store: Any = database._engine.process.store
    returned = 6
    while store._overload.shedding:
        database.check()
        returned += 1
    assert returned == 4 * 6


@pytest.mark.usefixtures("few")
def test_off(fake: MakeDatabase, clock: Clock) -> None:
    """With queue_target=None everybody waits up to acquire_timeout."""
    database = fake(pool_size=2, acquire_timeout=60, queue_target=None, clock=clock)
    queue, first = overload(database, clock)
    queue.waiting.insert(0, first)
    queue.add(2)
    assert (database.stats().waiting, database.stats().refusals) == (4, 0)
    for _ in range(4):
        queue.hand_over()
    queue.end()


@pytest.mark.usefixtures("few")
def test_options(fake: MakeDatabase, clock: Clock) -> None:
    """A longer target or a longer interval puts the beginning off."""
    for options in ({"queue_target": 6.0}, {"queue_interval": 5.1}):
        database = fake(pool_size=2, acquire_timeout=60, clock=clock, **options)
        queue, first = overload(database, clock)
        queue.waiting.insert(0, first)
        assert database.stats().refusals == 0
        queue.hand_over()
        queue.hand_over()
        queue.end()


@pytest.mark.usefixtures("few")
def test_a_server_that_grants_few_connections(
    fake: MakeDatabase, fakedb: FakeDB, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S5, S9: what is asked of two connections, as the server grants no more, may be too much as well. Then the error
    names the server's refusal, and not pool_size."""
    for name in ("FIRST", "LAST"):
        monkeypatch.setattr(f"wsgidb.pool.backoff.{name}", 3600.0)
    database = fake(pool_size=3, acquire_timeout=60, clock=clock)
    queue = Queue(database, clock)
    fakedb.fail("connect", FakeDB.OperationalError("too many"))
    queue.add(5)
    for seconds in (0.2, 0.0, 5.0, 0.0):
        clock.advance(seconds)
        queue.hand_over()
    with pytest.raises(PoolOverloaded, match=r"; no other can be opened; last failure to connect: .*: too many [(]"):
        database.lease()
    queue.end()


@pytest.mark.server
def test_sixteen_clients_and_two_connections(mariadb: MariaDB) -> None:
    """S9: while sixteen clients ask without a pause, two connections stay busy, and the rest is answered with 503.
    Afterwards nobody is refused any more."""
    asking = threading.Event()
    asking.set()

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with environ["db.conn"].cursor() as cursor:
            cursor.execute("SELECT SLEEP(0.004)")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    options: dict[str, Any] = {"pool_size": 2, "queue_target": 0.001, "queue_interval": 0.1}
    with Database(mariadb.url(), **options) as database:
        served = DatabaseMiddleware(app, database)
        told: list[str] = []

        def client() -> None:
            while asking.is_set():
                call = Call(served)
                call.read()
                told.append(call.status[:3])

        clients = [Worker(client) for _ in range(16)]
        until(lambda: told[-1000:].count("503") > 500, timeout=60, what="an overload")
        before = told.count("200")
        until(lambda: told.count("200") > before + 100, timeout=60, what="others to be served meanwhile")
        asking.clear()
        for worker in clients:
            worker.outcome()
        assert set(told) == {"200", "503"}
        stats = database.stats()
        assert (stats.refusals, stats.timeouts, stats.open) == (told.count("503"), 0, 2)
        for _ in range(DOUBT):
            assert Call(served).read() == b"done"
        assert database.stats().refusals == stats.refusals
