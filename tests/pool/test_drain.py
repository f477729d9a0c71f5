"""drain(): the connections that are open are replaced, spread in time, and each of them once."""

from __future__ import annotations

import logging
import math
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from strategies.kit import KEEPING, Worker, in_child
from strategies.test_interrupts import at_line
from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import ConfigError, Database, DatabaseUnavailable
from wsgidb.pool.cleaner import Cleaner
from wsgidb.pool.connector import Connector
from wsgidb.pool.engine import Engine
from wsgidb.pool.process import Process
from wsgidb.pool.releasing import Releasing
from wsgidb.pool.renewal import Drain, drain, trim, warm
from wsgidb.pool.snapshot import snapshot
from wsgidb.strategies import Slot
from wsgidb.strategies.pooled import Pooled
from wsgidb.strategies.queued import Queued

SIZE = 8
DOWN = FakeDB.OperationalError("down")


@pytest.fixture
def database(fakedb: FakeDB, clock: Clock) -> Iterator[Database]:
    with Database(creator=fakedb.connect, clock=clock, pool_size=SIZE, ping_after=None) as made:
        yield made


def use(database: Database) -> int:
    """One request; the number of its connection."""
    with database.connection() as conn:
        number: int = conn.number
        return number


def use_all(database: Database, count: int = SIZE) -> set[int]:
    """So many requests at the same time."""
    with ExitStack() as stack:
        return {stack.enter_context(database.connection()).number for _ in range(count)}


def drained(database: Database) -> int:
    return database.stats().retirements.get("drained", 0)


def test_spread_in_time(database: Database, clock: Clock) -> None:
    """One connection of eight is replaced in each eighth of the time, though one request at a time uses one of them
    only. None is replaced twice, and none that was opened later."""
    leases = [database.lease() for _ in range(SIZE)]
    for lease in leases:
        lease.close()
        clock.advance(1)
    assert database.drain(over=80) == SIZE
    for number in range(1, SIZE + 1):
        use(database)
        assert drained(database) == number - 1
        clock.advance(10)
        use(database)
        assert drained(database) == number
    use_all(database)
    for _ in range(100):
        clock.advance(10)
        use_all(database)
    stats = database.stats()
    assert (stats.retirements, stats.discards, stats.open, stats.connects) == ({"drained": SIZE}, {}, SIZE, 2 * SIZE)


def test_busy_pool(database: Database, clock: Clock) -> None:
    """Where all connections are in use all the time, each is closed as it is given back, at its own moment."""
    use_all(database)
    database.drain(over=80)
    for number in range(1, SIZE + 1):
        clock.advance(10)
        use_all(database)
        assert drained(database) == number


@pytest.mark.parametrize("strategy", KEEPING)
def test_every_strategy(fakedb: FakeDB, clock: Clock, strategy: Any) -> None:
    """When the time is over, no request gets a connection from before; once it has another one, it keeps that."""
    with Database(creator=fakedb.connect, clock=clock, strategy=strategy) as database:
        assert use(database) == 1
        assert database.drain(over=5) == 1
        clock.advance(5)
        assert [use(database) for _ in range(3)] == [2, 2, 2]
        clock.advance(100)
        assert use(database) == 2
        assert database.stats().retirements == {"drained": 1}


def test_given_back(database: Database, fakedb: FakeDB) -> None:
    """A connection whose moment is over is closed when it is given back, though others are idle for a longer time."""
    with database.connection() as conn:
        use_all(database, 2)
        database.drain(over=0)
        number = conn.number
    assert [conn.closed for conn in fakedb.connections].index(True) == number - 1
    assert drained(database) == 1


@pytest.mark.parametrize("strategy", KEEPING)
def test_given_back_with_every_strategy(fakedb: FakeDB, clock: Clock, strategy: Any) -> None:
    """It does not wait for another request, which may be long in coming."""
    with Database(creator=fakedb.connect, clock=clock, strategy=strategy) as database:
        use(database)  # idle connections are looked at only now and then, and have just been
        with database.connection():
            database.drain(over=0)
            clock.advance(0.1)
        assert [conn.closed for conn in fakedb.connections] == [True]
        assert drained(database) == 1


def test_a_mark_that_comes_too_late(database: Database) -> None:
    """Where a drain meant the connection that was in the same place before, the new one is kept."""
    use(database)
    database.drain(over=0)
    assert use(database) == 2
    process: Any = database._engine.process
    (slot,) = process.open
    process.drain.mark(slot, 0.0)
    assert [use(database), use(database)] == [2, 2]


@pytest.mark.parametrize("strategy", KEEPING)
def test_leased_connections_are_not_closed(fakedb: FakeDB, clock: Clock, strategy: Any) -> None:
    """The request goes on, however long it takes. Its connection is closed when it is given back."""
    with Database(creator=fakedb.connect, clock=clock, strategy=strategy) as database:
        with database.connection() as conn:
            assert database.drain(over=5) == 1
            clock.advance(50)
            conn.cursor().execute("SELECT 1")
            assert drained(database) == 0
        assert (drained(database), fakedb.open_now) == (1, 0)
        assert use(database) == 2


def test_at_once(database: Database) -> None:
    """With over=0 no request gets a connection from before."""
    use_all(database)
    database.drain(over=0)
    assert use_all(database) == {SIZE + number for number in range(1, SIZE + 1)}
    assert drained(database) == SIZE


@pytest.mark.parametrize("over", [-1, math.nan, math.inf, "soon"])
def test_bad_number(database: Database, over: Any) -> None:
    """It is refused, and nothing is replaced."""
    use(database)
    with pytest.raises(ConfigError, match=f"over: takes a number >= 0 and <= .*, got {over!r}"):
        database.drain(over)
    assert use(database) == 1


def test_connecting_meanwhile(database: Database, fakedb: FakeDB, clock: Clock) -> None:
    """A connection that was being opened, perhaps with the former password, is replaced like the others."""
    gate = fakedb.block("connect")
    worker = Worker(partial(use, database))
    gate.entered.wait(10)
    assert database.drain(over=5) == 0
    gate.open()
    assert worker.outcome() == 1
    clock.advance(5)
    assert use(database) == 2
    assert database.stats().retirements == {"drained": 1}


def test_a_second_drain(database: Database, clock: Clock) -> None:
    """It replaces those that the first one has opened, too; what is due earlier stays so."""
    use_all(database, 3)
    database.drain(over=0)
    assert use(database) == 4
    assert database.drain(over=100) == 2
    assert use(database) == 4
    clock.advance(100)
    assert use(database) == 5
    assert database.stats().retirements == {"drained": 4}


def test_age_goes_first(fakedb: FakeDB, clock: Clock) -> None:
    """A connection that becomes too old before its moment is retired by its age, once."""
    with Database(creator=fakedb.connect, clock=clock, max_lifetime=10) as database:
        use(database)
        database.drain(over=1e6)
        clock.advance(11)
        use(database)
        assert database.stats().retirements == {"age": 1}


def test_while_the_server_refuses(database: Database, fakedb: FakeDB, clock: Clock) -> None:
    """A connection that is open is worth more than one that cannot be opened: no request fails for the lack of it."""
    use_all(database, 3)
    database.drain(over=0)
    fakedb.fail("connect", DOWN)
    for _ in range(5):
        assert use(database) in (1, 2, 3)
    stats = database.stats()
    assert (stats.open, stats.retirements, stats.connect_failures) == (2, {"drained": 1}, 1)
    clock.advance(60)
    assert use_all(database, 2) == {5, 6}
    assert drained(database) == 3


def test_an_existing_engine(fakedb: FakeDB) -> None:
    """What its pool keeps is its own."""
    from sqlalchemy import create_engine, pool

    engine = create_engine("sqlite://", creator=fakedb.connect, poolclass=pool.QueuePool, _initialize=False)
    with Database(creator=engine, strategy="sqlalchemy") as database:
        with database.connection():
            assert database.drain(over=0) == 0
        assert (database.stats().retirements, fakedb.open_now) == ({"given back to the Engine": 1}, 1)
    engine.dispose()


def test_what_is_told(database: Database, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    """An event when it is asked for; an event and one line of the log when the last connection from before is closed,
    for whatever reason."""
    use_all(database, 3)
    database.drain(over=10)
    with caplog.at_level(logging.WARNING, "wsgidb"), database.connection() as conn:
        clock.advance(10)
        conn.driver_connection.close()
        use_all(database, 2)
        assert caplog.messages == []
    assert "drained: the connections from before are closed (3)" in caplog.text
    use_all(database, 3)
    assert len([text for text in caplog.messages if "drained" in text]) == 1
    told = [event.text for event in database.stats().events if event.kind == "drain"]
    assert told == [
        "connections to be replaced within 10 s: 3",
        "drained: the connections from before are closed (3)",
    ]


def test_forked_child(database: Database) -> None:
    """It has nothing to replace before it has a connection of its own, and leaves its parent's as they are."""
    assert use(database) == 1

    def child() -> list[int]:
        before = database.drain(over=0)
        return [before, use(database), database.drain(over=0), use(database)]

    assert in_child(child) == [0, 2, 1, 3]
    assert use(database) == 1
    database.drain(over=0)
    assert in_child(child) == [0, 2, 1, 3]
    assert use(database) == 2


def test_locks_that_others_hold(database: Database) -> None:
    """A drain takes none, so a signal handler never waits for the thread that it has interrupted."""
    use_all(database)
    process: Any = database._engine.process
    with process.lock, process.store._lock:
        assert Worker(partial(database.drain, 5.0)).outcome() == SIZE


def test_as_a_signal_handler(database: Database) -> None:
    """The recipe of the documentation."""
    former = signal.signal(signal.SIGUSR1, lambda *_: database.drain(over=0) and None)
    try:
        assert use(database) == 1
        signal.raise_signal(signal.SIGUSR1)
        assert use(database) == 2
    finally:
        signal.signal(signal.SIGUSR1, former)


def methods(*classes: type) -> Iterator[Any]:
    for each in classes:
        for value in vars(each).values():
            inner = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if hasattr(inner, "__code__"):
                yield inner


def request(database: Database) -> None:
    use_all(database, 2)


def refused(database: Database) -> None:
    with database.connection(), database.connection(), pytest.raises(DatabaseUnavailable):
        use(database)


def broken(database: Database) -> None:
    with database.connection() as conn:
        conn.driver_connection.close()
    use(database)


def upkeep(database: Database) -> None:
    database.trim()
    database.warm()
    database.probe()
    database.stats()


CLASSES = (Engine, Releasing, Connector, Process, Pooled, Queued, Slot, Cleaner, Drain)
ALL = (*methods(*CLASSES), drain, trim, warm, snapshot)
RACES = (Engine.release, Connector._connect, Slot.fill)
"""Where the order of reading and setting decides."""


@pytest.mark.parametrize(
    ("what", "functions", "unit"),
    [
        *((what, ALL, "line") for what in (request, refused, broken, upkeep)),
        (request, RACES, "opcode"),
    ],
)
def test_interrupting_anything(
    fakedb: FakeDB, clock: Clock, what: Callable[[Database], None], functions: tuple[Any, ...], unit: str
) -> None:
    """Whatever line a signal handler interrupts, a drain is over at once, and no later request gets a connection from
    before. The pool stays as large as it is."""
    number = 0
    reached = True
    while reached:
        number += 1
        options: Any = {"pool_size": 2, "acquire_timeout": 0.001, "max_lifetime": 0.6}  # less than ping_after
        with Database(creator=fakedb.connect, clock=clock, **options) as database:
            use_all(database, 2)
            clock.advance(0.1)
            before: set[int] = set()

            def act(database: Database = database, before: set[int] = before) -> None:
                before.update(conn.number for conn in fakedb.connections)
                database.drain(over=0)

            reached = at_line(number, functions, act, partial(what, database), unit)
            assert not before & use_all(database, 2), f"line {number}"
            assert database.stats().open == 2, f"line {number}"
    assert number > 30, "that many lines were tried"
