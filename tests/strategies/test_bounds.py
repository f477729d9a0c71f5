"""S2 and S4: never more connections than allowed, whatever fails, and never one connection for two."""

from __future__ import annotations

import random
import threading
from contextlib import ExitStack
from functools import partial
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import Bank, WiredBank, run, together
from support.clock import Clock
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import Database, DatabaseUnavailable, PoolOverloaded, PoolTimeout
from wsgidb.pool import backoff

THREADS, ROUNDS, SIZE = 8, 60, 3


class Interrupt(BaseException):
    """Stands for gevent's GreenletExit, which is no Exception."""


@pytest.mark.parametrize("seed", range(3))
def test_pool_size_holds_whatever_fails(
    fakedb: FakeDB, make: MakeDatabase, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S2: connects, pings, rollbacks and closes that fail at random, under threads, never make one too many or leak a
    place: afterwards the pool gives out its full size again."""
    database = make(
        creator=fakedb.connect,
        pool_size=SIZE,
        ping_after=0,
        max_lifetime=0.005,
        acquire_timeout=10,
    )
    monkeypatch.setattr(backoff, "FIRST", 0.0002)
    monkeypatch.setattr(backoff, "LAST", 0.001)

    def hammer(number: int) -> int:
        dice = random.Random(f"{seed} {number}")
        served = 0
        for _ in range(ROUNDS):
            name = dice.choice(["connect", "execute", "rollback", "close", "none", "none", "none"])
            if name != "none":
                sudden = name != "execute" and dice.random() < 0.2  # its statement would go on until it is garbage
                error: type[BaseException] = Interrupt if sudden else FakeDB.OperationalError
                fakedb.fail(name, error(name))
            try:
                with database.connection() as conn:
                    run(conn, "SELECT 1")
                    served += 1
            except (DatabaseUnavailable, FakeDB.Error, Interrupt):
                continue
        return served

    served = together([partial(hammer, number) for number in range(THREADS)], timeout=120)
    assert sum(served) > 0, "some of it worked"
    assert 1 <= fakedb.most_open <= SIZE
    with fakedb._lock:
        fakedb._plans.clear()
    until(partial(_works, database), what="the last back-off to pass")
    with ExitStack() as stack:
        leases = [stack.enter_context(database.connection()) for _ in range(SIZE)]
        assert len({id(conn.driver_connection) for conn in leases}) == SIZE
        assert (database.stats().leased, database.stats().waiting, fakedb.open_now) == (SIZE, 0, SIZE)
    database.close()
    assert (database.stats().open, fakedb.open_now) == (0, 0)


def _works(database: Database) -> bool:
    try:
        return database.check() >= 0
    except DatabaseUnavailable:
        return False


def test_large_pool_size_holds(fakedb: FakeDB, fake: MakeDatabase) -> None:
    """S2: a pool of 300 connections opens 300, and no more."""
    database = fake(pool_size=300, acquire_timeout=0.001)
    with ExitStack() as stack:
        for _ in range(300):
            stack.enter_context(database.connection())
        with pytest.raises(PoolTimeout, match="300 of 300 connections are leased"):
            database.lease()
    assert fakedb.opened == 300


def test_pool_size_counts_connections_that_are_opening(fakedb: FakeDB, fake: MakeDatabase) -> None:
    """S2: connections that are still opening count: a third request waits for two that connect."""
    database = fake(pool_size=2, acquire_timeout=0.05)
    gates = [fakedb.block("connect", 1), fakedb.block("connect", 2)]
    threads = [threading.Thread(target=lambda: database.check()) for _ in gates]
    for thread in threads:
        thread.start()
    try:
        for gate in gates:
            assert gate.entered.wait(10)
        with pytest.raises(PoolTimeout, match="2 of 2 connections are leased"), database.connection():
            pass
        assert fakedb.count("connect") == 2
    finally:
        for gate in gates:
            gate.open()
        for thread in threads:
            thread.join(10)


@pytest.mark.server
def test_pool_size_on_the_server(make: MakeDatabase, networked: WiredBank) -> None:
    """S2: a server that grants the user exactly pool_size connections never refuses one."""
    networked.limited_user("bounded", SIZE)
    try:
        database = make(networked.url_of("bounded"), pool_size=SIZE, acquire_timeout=30)

        def requests() -> None:
            for _ in range(40):
                with database.connection() as conn:
                    run(conn, "SELECT 1")

        together([requests] * THREADS)
        stats = database.stats()
        assert (stats.connect_failures, stats.acquires) == (0, THREADS * 40)
        assert networked.proxy.connections == stats.connects <= SIZE
    finally:
        database.close()
        networked.drop_user("bounded")


def test_max_waiting(fake: MakeDatabase) -> None:
    """S2: where max_waiting requests wait already, the next one is refused at once."""
    database = fake(pool_size=1, max_waiting=0, acquire_timeout=60)
    with (
        database.connection(),
        pytest.raises(PoolOverloaded, match=r"1 of 1 connections .*; requests waiting already: 0"),
        database.connection(),
    ):
        pass
    assert (database.stats().refusals, database.stats().timeouts) == (1, 0)


def test_second_lease_is_another_connection(make: MakeDatabase, bank: Bank, strategy: str) -> None:
    """S4: a second lease in the same thread gets a connection of its own, and sees nothing of the first's work."""
    database = make(bank.url, strategy=strategy)
    with database.connection() as first, database.connection() as second:
        assert first.driver_connection is not second.driver_connection
        run(first, "INSERT INTO transfer VALUES (1)")
        assert run(second, "SELECT * FROM transfer") == []
        assert database.stats().leased == 2
    with database.connection() as third, database.connection() as fourth:
        assert third.driver_connection is not fourth.driver_connection


def test_one_connection_for_one_thread_at_a_time(fake: MakeDatabase, strategy: str) -> None:
    """S4: under threads no connection is ever leased twice at once."""
    database = fake(strategy=strategy, pool_size=4, acquire_timeout=30)
    lock, leased = threading.Lock(), set[int]()

    def requests() -> None:
        for _ in range(100):
            with database.connection() as conn:
                number = conn.number
                with lock:
                    assert number not in leased
                    leased.add(number)
                run(conn, "SELECT 1")
                with lock:
                    leased.remove(number)

    together([requests] * THREADS)
    assert database.stats().acquires == THREADS * 100


@pytest.mark.server
def test_replies_never_get_mixed_up(make: MakeDatabase, networked: WiredBank, strategy: str) -> None:
    """S4: under threads each request gets the answer to its own question, connections being killed all along."""
    database = make(networked.url, strategy=strategy, pool_size=4, acquire_timeout=30)
    wrong: list[tuple[int, Any]] = []
    told: tuple[type[Exception], ...] = (*networked.errors, DatabaseUnavailable)  # killed at login, too

    def requests(first: int) -> int:
        errors = 0
        for number in range(first, first + 40):
            try:
                with database.connection() as conn:
                    rows = run(conn, f"SELECT {number}")
                    if rows != [(number,)]:
                        wrong.append((number, rows))
            except told:
                errors += 1
        return errors

    def kill() -> int:
        return sum(networked.server.kill_connections("guest") for _ in range(5))

    together([*[partial(requests, n * 1000) for n in range(THREADS)], kill])
    assert wrong == []


def test_interrupted_goodbye_frees_its_place(fakedb: FakeDB, make: MakeDatabase, clock: Clock) -> None:
    """S2: a thread that is interrupted while it closes an old connection at the end of its lease leaks no place."""
    database = make(creator=fakedb.connect, pool_size=1, max_lifetime=10, clock=clock)
    fakedb.fail("close", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), database.connection():
        clock.advance(20)
    with database.connection() as conn:
        assert run(conn, "SELECT 1") == [(1,)]
    assert fakedb.opened == 2
