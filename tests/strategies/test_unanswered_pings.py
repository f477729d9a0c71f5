"""C2: a ping that nobody answers speaks for all that idled then: what the network forgot costs one ping_timeout."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import WiredBank, Worker, limited, run
from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import Database

PING_TIMEOUT = 2.0
IDLE = "idle when a ping was not answered"


class Forgetful(FakeDB):
    """Between it and its clients is a network that forgot the connections of `forgotten`: a ping takes `patience`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.patience = clock, PING_TIMEOUT
        self.forgotten: set[int] = set()

    def call(self, number: int, name: str, sql: str | None = None) -> None:
        super().call(number, name, sql)
        if number in self.forgotten and name == "execute":
            self.clock.advance(self.patience)
            raise FakeDB.OperationalError("timed out")


@pytest.fixture
def server(clock: Clock) -> Forgetful:
    return Forgetful(clock)


@pytest.fixture
def database(make: MakeDatabase, server: Forgetful, clock: Clock) -> Database:
    return make(creator=server.connect, strategy="pooled", pool_size=4, ping_timeout=PING_TIMEOUT, clock=clock)


def idle(database: Database, clock: Clock, connections: int = 4) -> None:
    """So many connections, which are due for a ping."""
    with ExitStack() as stack:
        for _ in range(connections):
            stack.enter_context(database.connection())
    clock.advance(60)


@pytest.mark.parametrize("late", [0, 0.25])
def test_one_ping_speaks_for_all(database: Database, server: Forgetful, clock: Clock, late: float) -> None:
    """C2: of four that were forgotten the first costs ping_timeout, the others nothing, and none an error."""
    idle(database, clock)
    server.forgotten, server.patience = {1, 2, 3, 4}, PING_TIMEOUT + late
    began = clock()
    idle(database, clock)
    stats = database.stats()
    assert clock() - began == PING_TIMEOUT + late + 60
    assert (stats.pings, stats.pings_failed) == (1, 1)
    assert (stats.connects, stats.discards) == (8, {"ping failed": 1, IDLE: 3})
    idle(database, clock)
    assert (database.stats().pings, database.stats().connects) == (5, 8), "the new ones are trusted, and asked"


def test_what_was_heard_since_is_asked(database: Database, server: Forgetful, clock: Clock) -> None:
    """C2: a connection that came back since the ping began, be it at that very moment, is no suspect."""
    with database.connection(), ExitStack() as stack:
        stack.enter_context(database.connection())
        idle(database, clock, 1)
        server.forgotten = {3}
        gate = server.block("execute")
        worker = Worker(lambda: idle(database, clock, 1))
        assert gate.entered.wait(10)
        stack.close()
        gate.open()
        worker.outcome()
    clock.advance(60)
    idle(database, clock, 3)
    stats = database.stats()
    assert (stats.discards, stats.pings, stats.connects) == ({"ping failed": 1}, 4, 4)


@pytest.mark.parametrize("fails", ["at once", "at its caller's deadline"])
def test_other_failures_speak_for_themselves(make: MakeDatabase, server: Forgetful, clock: Clock, fails: str) -> None:
    """C2: a ping that fails before ping_timeout is over, also as its caller has no more time, tells nothing of
    others."""
    limit = PING_TIMEOUT if fails == "at once" else PING_TIMEOUT - 0.5
    database = make(
        creator=server.connect, strategy="pooled", pool_size=2,
        ping_timeout=PING_TIMEOUT, acquire_timeout=limit, clock=clock,
    )  # fmt: skip
    idle(database, clock, 2)
    server.forgotten = {1}  # which is the first to be asked
    server.patience = PING_TIMEOUT - 0.5
    idle(database, clock, 2)
    stats = database.stats()
    assert (stats.discards, stats.pings, stats.connects) == ({"ping failed": 1}, 2, 3)


@pytest.mark.server
def test_forgotten_by_the_network(make: MakeDatabase, networked: WiredBank) -> None:
    """C2: so it is with each driver: of three that the network forgot one is asked, and waited for."""
    database = make(networked.url, strategy="pooled", ping_after=0)
    with ExitStack() as stack:
        for _ in range(3):
            stack.enter_context(database.connection())
    networked.proxy.forget()
    with ExitStack() as stack:
        with limited(database, ping_timeout=networked.shortest):
            leases = [stack.enter_context(database.connection()) for _ in range(3)]
        for conn in leases:
            run(conn, "SELECT 1")
    stats = database.stats()
    assert (stats.pings, stats.discards, stats.connects) == (1, {"ping failed": 1, IDLE: 2}, 6)
