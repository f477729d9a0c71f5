"""max_idle: what remains idle after a burst is closed, even if a few requests use one connection only."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from strategies.kit import PER_THREAD, Worker
from strategies.test_interrupts import at_line
from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import Database
from wsgidb.strategies.pooled import Pooled
from wsgidb.strategies.thread_local import ThreadLocal


def use(database: Database) -> int:
    with database.connection() as conn:
        number: int = conn.number
        return number


def burst(database: Database, count: int) -> None:
    with ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(database.connection())


def unused(database: Database) -> int:
    return database.stats().retirements.get("unused", 0)


def test_pooled(fakedb: FakeDB, clock: Clock) -> None:
    """Each request that ends closes one, the one that was not used for the longest time; the one in use stays."""
    with Database(creator=fakedb.connect, clock=clock, pool_size=6, max_idle=60) as database:
        burst(database, 6)
        for _ in range(5):
            clock.advance(11)
            hot = use(database)
        assert unused(database) == 0
        clock.advance(5)  # since the burst it is a minute
        for number in range(1, 6):
            assert use(database) == hot
            assert unused(database) == number
        assert use(database) == hot
        assert (unused(database), database.stats().open, fakedb.open_now) == (5, 1, 1)


def test_no_requests_at_all(fakedb: FakeDB, clock: Clock) -> None:
    """Nothing happens, as nobody is there to do it; trim() closes them. A health check counts as a request."""
    with Database(creator=fakedb.connect, clock=clock, pool_size=3, max_idle=60) as database:
        burst(database, 3)
        clock.advance(1000)
        assert fakedb.open_now == 3
        assert database.probe()
        assert (fakedb.open_now, fakedb.opened, unused(database)) == (2, 4, 2)
        assert database.trim() == 2


@pytest.mark.parametrize("strategy", ["dbutils-pooled", "sqlalchemy"])
def test_pool_of_a_library(fakedb: FakeDB, clock: Clock, strategy: Any) -> None:
    """The library hands out its connections in turn. A request that gets an unused one replaces it, and one more is
    closed when it ends; so what a few requests do not need is gone after some of them."""
    with Database(creator=fakedb.connect, clock=clock, strategy=strategy, pool_size=6, max_idle=60) as database:
        burst(database, 6)
        clock.advance(60)
        left = []
        for _ in range(5):
            use(database)
            left.append(database.stats().open)
            clock.advance(60)
        assert left == [5, 4, 3, 2, 1]


@pytest.mark.parametrize("strategy", ["dbutils-pooled", "sqlalchemy"])
def test_library_is_looked_through_once_a_second(fakedb: FakeDB, clock: Clock, strategy: Any) -> None:
    """While there is nothing to close, requests of the same second do not look again."""
    with Database(creator=fakedb.connect, clock=clock, strategy=strategy, pool_size=3, max_idle=60) as database:
        burst(database, 3)
        store: Any = database._engine.process.store
        find, looked = store._idle.find, []

        def found(unwanted: Any) -> Any:
            looked.append(clock.now)
            return find(unwanted)

        store._idle.find = found
        for _ in range(5):
            use(database)
        clock.advance(1)
        for _ in range(5):
            use(database)
        assert len(looked) == 1


@pytest.mark.parametrize("strategy", PER_THREAD)
def test_threads_are_looked_through_once_a_second(fakedb: FakeDB, clock: Clock, strategy: Any) -> None:
    """Likewise."""
    with Database(creator=fakedb.connect, clock=clock, strategy=strategy, max_idle=60) as database:
        store: Any = database._engine.process.store
        looked, unwanted = [], store._unwanted

        def counted(slot: Any, now: float) -> Any:
            looked.append(now)
            return unwanted(slot, now)

        store._unwanted = counted
        for _ in range(5):
            use(database)
        clock.advance(1)
        for _ in range(5):
            use(database)
        assert looked == [1000.0, 1001.0]


@pytest.mark.parametrize("strategy", PER_THREAD)
def test_threads_without_requests(fakedb: FakeDB, clock: Clock, strategy: Any) -> None:
    """The connections of threads that serve none are closed by a thread that does, one for each request that ends.
    Such a thread opens another one when it has a request again."""
    with Database(creator=fakedb.connect, clock=clock, strategy=strategy, max_idle=60) as database:
        used, again = threading.Semaphore(0), threading.Event()

        def thread() -> list[int]:
            first = use(database)
            used.release()
            assert again.wait(30)
            return [first, use(database)]

        others = [Worker(thread) for _ in range(3)]
        for _ in others:  # a connection that was just opened counts as idle, too, before its request has it
            assert used.acquire(timeout=30)
        assert database.stats().idle == 3
        for _ in range(4):
            clock.advance(14)
            use(database)
        assert unused(database) == 0
        clock.advance(4)
        for number in range(1, 4):
            assert use(database) == 4
            assert unused(database) == number
        use(database)
        assert (unused(database), fakedb.open_now) == (3, 1)
        again.set()
        told = [other.outcome() for other in others]
        assert {first for first, _ in told} == {1, 2, 3}
        assert {second for _, second in told} == {5, 6, 7}


def test_pool_in_use_meanwhile(fakedb: FakeDB, clock: Clock) -> None:
    """Where another request has replaced the unused connection just before, the new one is not closed."""
    number, reached = 0, True
    while reached:
        number += 1
        with Database(creator=fakedb.connect, clock=clock, pool_size=3, max_idle=60) as database:
            burst(database, 2)
            clock.advance(30)
            use(database)
            clock.advance(30)
            reached = at_line(number, (Pooled._outdated,), partial(burst, database, 2), partial(use, database))
            assert unused(database) == 1, f"line {number}"
    assert number > 3, "that many lines were tried"


def test_thread_in_use_meanwhile(fakedb: FakeDB, clock: Clock) -> None:
    """The same with a connection of another thread."""
    number, reached = 0, True
    while reached:
        number += 1
        with Database(creator=fakedb.connect, clock=clock, strategy="thread-local", max_idle=60) as database:
            turns, done, ended = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

            def thread(database: Database = database, turns: Any = turns, done: Any = done, ended: Any = ended) -> None:
                while turns.acquire(timeout=30) and not ended.is_set():
                    use(database)
                    done.release()

            def turn(turns: Any = turns, done: Any = done) -> None:
                turns.release()
                assert done.acquire(timeout=30)

            other = Worker(thread)
            turn()
            clock.advance(30)
            use(database)
            clock.advance(30)
            reached = at_line(number, (ThreadLocal._outdated,), turn, partial(use, database))
            assert unused(database) == 1, f"line {number}"
            ended.set()
            turns.release()
            other.outcome()
    assert number > 3, "that many lines were tried"
