"""S1: whatever one connection is waiting for, other threads acquire and release undisturbed."""

from __future__ import annotations

import threading
from contextlib import nullcontext

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import POOLS, Worker, run
from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import Database, DatabaseUnavailable


def lease(database: Database) -> int:
    with database.connection() as conn:
        run(conn, "SELECT 1")
        return int(conn.number)


# The call that hangs, and how long the connection idles between two leases: nothing, or until it is pinged or retired.
HANGS = {
    "connect": ("connect", 1, 0.0),
    "cursor": ("cursor", 1, 0.0),
    "statement": ("execute", 1, 0.0),
    "rollback": ("rollback", 1, 0.0),
    "ping": ("execute", 2, 2.0),
    "close": ("close", 1, 10_000.0),
}


@pytest.mark.parametrize("hang", HANGS)
def test_blocked_call_delays_nobody_else(
    fake: MakeDatabase, fakedb: FakeDB, strategy: str, hang: str, clock: Clock
) -> None:
    """S1: while a connect, cursor, ping, rollback or close hangs, other threads acquire, release and look at stats."""
    name, n, idle = HANGS[hang]
    database = fake(strategy=strategy, pool_size=2, acquire_timeout=60, clock=clock)
    gate = fakedb.block(name, n)

    def two_leases() -> None:
        lease(database)
        clock.advance(idle)
        lease(database)

    blocked = Worker(two_leases)
    try:
        assert gate.entered.wait(10), f"{name} was never called"
        for _ in range(3):
            assert Worker(lambda: lease(database)).outcome() > 1, "another connection"
        assert Worker(database.stats).outcome().waiting == 0
        assert blocked.is_alive()
    finally:
        gate.open()
    blocked.outcome()


def test_closing_delays_nobody(fake: MakeDatabase, fakedb: FakeDB, keeping: str) -> None:
    """S1: while close() says goodbye to a connection that hangs, leases end, and new ones are refused, at once."""
    database = fake(strategy=keeping)
    go_on = threading.Event()
    leased = threading.Event()

    def hold() -> None:
        with database.connection():
            leased.set()
            assert go_on.wait(10)

    lease(database)  # connection 1, at rest
    holder = Worker(hold)
    with database.connection() if keeping in POOLS else nullcontext():
        assert leased.wait(10)
    gate = fakedb.block("close")
    closing = Worker(database.close)
    try:
        assert gate.entered.wait(10)
        go_on.set()
        holder.outcome()
        with pytest.raises(DatabaseUnavailable, match="closed"):
            Worker(lambda: lease(database)).outcome()
    finally:
        gate.open()
    closing.outcome()
    assert (fakedb.opened, fakedb.open_now) == (2, 0)
