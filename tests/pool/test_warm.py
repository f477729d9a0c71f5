"""warm() and trim(): connections are opened before they are needed, and idle ones closed at once."""

from __future__ import annotations

import gc
import threading
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.conftest import fake as fake
from strategies.conftest import make as make
from strategies.kit import PER_THREAD, POOLS, Worker, in_child
from strategies.test_interrupts import Timeout
from support.clock import Clock
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import ConfigError, Database, DatabaseUnavailable, WsgiDBError
from wsgidb.strategies import Slot, Store

DOWN = FakeDB.OperationalError("down")


@pytest.fixture(params=POOLS)
def pool(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=PER_THREAD)
def per_thread(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def use(database: Database) -> int:
    with database.connection() as conn:
        number: int = conn.number
        return number


def numbers(database: Database, count: int) -> set[int]:
    with ExitStack() as stack:
        return {stack.enter_context(database.connection()).number for _ in range(count)}


def test_warm_pool(fake: MakeDatabase, fakedb: FakeDB, pool: str) -> None:
    """As many as asked for, else pool_size; what is open counts. Requests then open none."""
    database = fake(strategy=pool, pool_size=4)
    assert (database.warm(0), database.warm(2), database.warm(2), database.warm(1)) == (0, 2, 2, 2)
    assert fakedb.opened == 2
    assert (database.warm(), database.warm(100)) == (4, 4)
    assert numbers(database, 4) == {1, 2, 3, 4}
    assert (database.stats().acquires, fakedb.opened) == (4, 4)


def test_warm_beside_leases(fake: MakeDatabase, fakedb: FakeDB, pool: str) -> None:
    """Connections in use are part of the pool, and stay where they are."""
    database = fake(strategy=pool, pool_size=3)
    with database.connection() as conn:
        assert database.warm() == 3
        assert (conn.number, database.stats().idle) == (1, 2)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(database.connection())
        assert database.warm() == 3
    assert fakedb.most_open == 3


def test_requests_come_meanwhile(fake: MakeDatabase, fakedb: FakeDB, pool: str) -> None:
    """While one connection is being opened, requests use those that are open, and a request for which there is none
    waits for it. pool_size holds."""
    database = fake(strategy=pool, pool_size=2)
    gate = fakedb.block("connect", n=2)
    warming = Worker(database.warm)
    gate.entered.wait(10)
    assert [use(database) for _ in range(3)] == [1, 1, 1]
    with database.connection():
        waiting = Worker(partial(use, database))
        until(lambda: database.stats().waiting == 1)
        gate.open()
        assert waiting.outcome() == 2
    assert warming.outcome() == 2
    assert fakedb.most_open == 2


def test_nothing_is_taken_from_those_that_wait(fake: MakeDatabase, fakedb: FakeDB, clock: Clock) -> None:
    """A place that becomes free belongs to the request that waits for it."""
    database = fake(pool_size=1)
    with database.connection():
        waiting = Worker(partial(use, database))
        until(lambda: database.stats().waiting == 1)
        assert database.warm() == 1
    assert waiting.outcome() == 1


def test_warm_threads(fake: MakeDatabase, fakedb: FakeDB, per_thread: str) -> None:
    """The connection of the calling thread is opened, once, and stays with it."""
    database = fake(strategy=per_thread)
    assert (database.warm(), database.warm(5), use(database)) == (1, 1, 1)
    assert Worker(partial(use, database)).outcome() == 2
    assert fakedb.opened == 2


def test_warm_where_nothing_is_kept(fake: MakeDatabase, fakedb: FakeDB) -> None:
    """With per-request there is nothing to open in advance; an Engine's pool is its own."""
    from sqlalchemy import create_engine, pool

    assert fake(strategy="per-request").warm() == 0
    engine = create_engine("sqlite://", creator=fakedb.connect, poolclass=pool.QueuePool, _initialize=False)
    with Database(creator=engine, strategy="sqlalchemy") as database:
        assert database.warm() == 0
    assert fakedb.calls == []


def test_warm_when_the_server_is_down(fake: MakeDatabase, fakedb: FakeDB, pool: str, clock: Clock) -> None:
    """The first failure ends it; what was opened before stays, and no place is lost."""
    database = fake(strategy=pool, pool_size=4, clock=clock)
    fakedb.fail("connect", DOWN, n=3)
    with pytest.raises(DatabaseUnavailable, match="cannot connect: OperationalError: down"):
        database.warm()
    with pytest.raises(DatabaseUnavailable, match="not connecting again yet"):
        database.warm()
    assert (database.stats().open, fakedb.count("connect")) == (2, 3)
    clock.advance(60)
    assert database.warm() == 4


def test_warm_ends_in_time(fake: MakeDatabase, fakedb: FakeDB, clock: Clock) -> None:
    """After acquire_timeout it begins no further connect, and says how many there are."""

    class Slow(FakeDB):
        def connect(self, *args: Any, **kwargs: Any) -> Any:
            clock.advance(2)
            return super().connect(*args, **kwargs)

    slow = Slow()
    with Database(creator=slow.connect, clock=clock, acquire_timeout=5, pool_size=9) as database:
        assert database.warm() == 3
        assert database.warm() == 6


def test_closed(fake: MakeDatabase, pool: str) -> None:
    """A Database that was closed is not opened again, and has nothing to close."""
    database = fake(strategy=pool)
    database.warm(2)
    database.close()
    with pytest.raises(DatabaseUnavailable, match="closed"):
        database.warm()
    assert database.trim() == 0


def test_warm_in_a_forked_child(fake: MakeDatabase) -> None:
    """It has a pool of its own."""
    database = fake(pool_size=3)
    assert database.warm(2) == 2
    assert in_child(lambda: [database.warm(1), database.trim()]) == [1, 1]
    assert database.stats().open == 2


@pytest.mark.parametrize("value", [-1, 0.5, "many"])
def test_bad_number(fake: MakeDatabase, value: Any) -> None:
    """It is refused, like a bad option."""
    for method, name in (("warm", "n"), ("trim", "keep")):
        with pytest.raises(ConfigError, match=f"{name}: takes a whole number >= 0 and <= 100000, got {value!r}"):
            getattr(fake(), method)(value)


def test_trim_pool(fake: MakeDatabase, fakedb: FakeDB, pool: str) -> None:
    """Idle connections are closed, but for those to keep; a leased one never is. The places are free again."""
    database = fake(strategy=pool, pool_size=4)
    with database.connection() as conn:
        database.warm()
        assert (database.trim(keep=2), database.trim(keep=2), database.trim(keep=5)) == (1, 0, 0)
        assert (database.trim(), database.trim()) == (2, 0)
        conn.cursor().execute("SELECT 1")
    assert (database.stats().retirements, database.stats().open) == ({"trimmed": 3}, 1)
    assert len(numbers(database, 4)) == fakedb.open_now == 4


def test_those_used_last_are_kept(fake: MakeDatabase) -> None:
    """So the next request finds one that was used lately."""
    database = fake(pool_size=4)
    database.warm()
    used = use(database)
    assert database.trim(keep=1) == 3
    assert use(database) == used


@pytest.mark.parametrize("keep", [0, 1])
def test_trim_threads(fake: MakeDatabase, fakedb: FakeDB, per_thread: str, clock: Clock, keep: int) -> None:
    """Any thread closes those of all threads. Each thread opens another one when it needs it."""
    database = fake(strategy=per_thread, clock=clock)
    steps = [threading.Event(), threading.Event()]

    def thread() -> list[int]:
        first = use(database)
        steps[0].set()
        assert steps[1].wait(30)
        return [first, use(database)]

    other = Worker(thread)
    assert steps[0].wait(30)
    clock.advance(1)
    assert use(database) == 2
    assert database.trim(keep) == 2 - keep
    steps[1].set()
    assert other.outcome() == [1, 3]
    assert use(database) == (2 if keep else 4)
    assert database.stats().retirements["trimmed"] == 2 - keep


def test_interrupted(fakedb: FakeDB, make: MakeDatabase, pool: str, clock: Clock) -> None:
    """S2: where a timer strikes while a connection is opened or closed, no place is lost, and no connection."""
    database = make(creator=fakedb.connect, strategy=pool, pool_size=3, acquire_timeout=0.5, clock=clock)
    fakedb.fail("connect", Timeout(), n=2)
    with pytest.raises(Timeout):
        database.warm()
    assert database.stats().open == 1
    assert database.warm() == 3
    fakedb.fail("close", Timeout(), n=2)
    with pytest.raises(Timeout):
        database.trim()
    assert database.stats().open == fakedb.open_now == 1
    assert len(numbers(database, 3)) == 3


def test_a_thread_that_ends_while_its_connection_is_closed(fake: MakeDatabase, fakedb: FakeDB, per_thread: str) -> None:
    """Who has taken it closes it, once."""
    database = fake(strategy=per_thread)
    steps = [threading.Event(), threading.Event()]

    def thread() -> None:
        use(database)
        steps[0].set()
        assert steps[1].wait(30)

    other = Worker(thread)
    assert steps[0].wait(30)
    engine = database._engine
    (slot,) = engine.process.store.take_idle(0)
    steps[1].set()
    other.outcome()
    gc.collect()
    assert fakedb.open_now == 1
    engine.retire(engine.process, slot, "trimmed")
    assert (fakedb.open_now, database.stats().retirements) == (0, {"trimmed": 1})


class Plain(Store):
    """A store of one's own that implements what it must."""

    def _setup(self) -> None:
        self._idle: list[Slot] = []

    def take(self) -> Slot:
        return self._idle.pop() if self._idle else Slot()

    def put(self, slot: Slot) -> tuple[Slot, str] | None:
        if slot.raw is not None:
            self._idle.append(slot)
        return None

    def close(self) -> list[Slot]:
        slots, self._idle = self._idle, []
        return slots


class Willing(Plain):
    """And what it may."""

    def claim(self) -> Slot | None:
        return None if self._idle else Slot()

    def take_idle(self, keep: int) -> list[Slot]:
        slots, self._idle = self._idle, []
        return slots


class Greedy(Willing):
    """And does it wrong."""

    def take_idle(self, keep: int) -> list[Slot]:
        return list(self._idle) * 2


@pytest.mark.parametrize(("store", "told"), [(Plain, [0, 1, 0]), (Willing, [1, 1, 1])])
def test_store_of_ones_own(fake: MakeDatabase, store: Any, told: list[int]) -> None:
    """It takes part as far as it implements these two methods."""
    database = fake(strategy=store)
    assert [database.warm(), use(database), database.trim()] == told


def test_store_that_breaks_the_contract(fake: MakeDatabase) -> None:
    """It is a clear error."""
    database = fake(strategy=Greedy)
    use(database)
    with pytest.raises(WsgiDBError, match=r"take_idle\(\) returned a slot that is leased already"):
        database.trim()
