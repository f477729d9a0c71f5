"""C2 and C5: what happens to connections between requests costs none an error, and what hangs costs bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any, TypeAlias

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import PER_THREAD, ConnectorBank, MySQLClientBank, WiredBank, get, limited, run, session_of
from support.clock import Clock
from support.mariadb import MariaDB
from support.ports import connected
from support.postgresql import PostgreSQL
from support.waiting import until
from wsgidb import Database, DatabaseMiddleware

pytestmark = pytest.mark.server

Server: TypeAlias = MariaDB | PostgreSQL
TIME_LIMIT = {MariaDB: "SET wait_timeout = 1", PostgreSQL: "SET idle_session_timeout = 1000"}
SLACK = 1.0
"""Seconds that a busy machine may add to a deadline."""


def session(database: Database) -> int:
    """The server's number of the connection that a request gets."""
    with database.connection() as conn:
        return session_of(conn)


def warm_up(database: Database, connections: int, last: str) -> None:
    """Have so many connections, of which each runs this statement right before it comes back."""
    with ExitStack() as stack:
        leases = [stack.enter_context(database.connection()) for _ in range(connections)]
        for conn in leases:
            run(conn, "SELECT 1")
        for conn in leases:
            run(conn, last)
            conn.close()


def restart(server: Server) -> None:
    server.restart()


def crash(server: Server) -> None:
    server.kill()
    server.start()


def kill(server: Server) -> None:
    server.kill_connections("guest")


def time_out(server: Server) -> None:
    """The server's time limit for idle sessions passes, which is the one thing here that takes real time: a second."""
    until(lambda: not server.processes("guest"), what="the time limit to end idle sessions")


BY = {"mysqlclient": MySQLClientBank, "connector": ConnectorBank}


@pytest.fixture(params=["own_mariadb", *BY, "own_postgresql"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue("own_mariadb" if request.param in BY else request.param)
    return found


@pytest.fixture
def address(server: Server, request: pytest.FixtureRequest) -> str:
    """The server's url, for the driver that is asked for."""
    by = request.node.callspec.params["server"]
    return BY[by].by_driver(server.url()) if by in BY else server.url()


@pytest.mark.parametrize("end", [restart, crash, kill, time_out])
def test_ended_while_idle_costs_no_error(
    make: MakeDatabase, server: Server, address: str, strategy: str, clock: Clock, end: Callable[[Server], None]
) -> None:
    """C2: idle connections that the server ended are seen by the free check alone, without a ping, and replaced."""
    # The time limit is theirs alone: what is not idle yet, or what replaces them, may be slow on a busy machine.
    last, transaction = (TIME_LIMIT[type(server)], "autocommit") if end is time_out else ("SELECT 1", "manual")
    database = make(address, strategy=strategy, ping_after=None, clock=clock, transaction=transaction)
    warm_up(database, 3, last)
    idle = database.stats().idle
    assert idle == 0 if strategy == "per-request" else 1 if strategy in PER_THREAD else 3
    end(server)
    until(lambda: not connected(server.port), what="the ends of the connections to arrive")
    app = DatabaseMiddleware(answer, database)
    with ExitStack() as stack:
        for _ in range(2):
            run(stack.enter_context(database.connection()), "SELECT 1")
        assert get(app).data == b"1"
    assert database.stats().discards == ({"check failed": idle} if idle else {})
    assert database.stats().pings == 0


def answer(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    rows = run(environ["db.conn"], "SELECT 1")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(rows[0][0]).encode()]


def test_forgotten_by_the_network_costs_no_error(
    make: MakeDatabase, networked: WiredBank, keeping: str, clock: Clock
) -> None:
    """C2: a half-open connection looks alive to the free check; after ping_after a ping finds out."""
    database = make(networked.url, strategy=keeping, clock=clock)
    before = session(database)
    networked.proxy.forget()
    clock.advance(1)
    with limited(database, ping_timeout=0.1):
        conn = database.lease()
    assert session_of(conn) != before
    conn.close()
    assert (database.stats().pings_failed, database.stats().discards) == (1, {"ping failed": 1})


def test_hung_ping_is_over_at_its_deadline(make: MakeDatabase, networked: WiredBank, keeping: str) -> None:
    """C5: a ping that hangs is over at ping_timeout, and the request gets another connection."""
    database = make(networked.url, strategy=keeping, ping_after=0)
    before = session(database)
    networked.proxy.forget()
    began = time.monotonic()
    with limited(database, ping_timeout=0.2):
        conn = database.lease()
    assert 0.2 <= time.monotonic() - began < 0.2 + SLACK
    assert session_of(conn) != before
    conn.close()
    assert database.stats().discards == {"ping failed": 1}


@pytest.mark.parametrize("short", ["acquire_timeout", "connect_timeout"])
def test_hung_connect_is_over_at_its_deadline(
    make: MakeDatabase, networked: WiredBank, strategy: str, short: str
) -> None:
    """C5: a server that accepts and never greets costs a request acquire_timeout or connect_timeout, then a 503."""
    limit = networked.shortest
    database = make(networked.url, strategy=strategy, **{"acquire_timeout": 60, "connect_timeout": 60, short: limit})
    networked.proxy.deaf()
    began = time.monotonic()
    assert get(DatabaseMiddleware(answer, database)).status_code == 503
    assert limit - 0.05 <= time.monotonic() - began < limit + SLACK
    assert (database.stats().connects, database.stats().open) == (0, 0)
    networked.proxy.hear()


def test_hung_ping_and_connect_share_one_deadline(make: MakeDatabase, networked: WiredBank, keeping: str) -> None:
    """C5: acquire_timeout covers the ping that hangs and the connect after it together."""
    database = make(networked.url, strategy=keeping, ping_after=0, connect_timeout=60)
    session(database)
    networked.proxy.deaf()
    began = time.monotonic()
    with limited(database, ping_timeout=0.2, acquire_timeout=0.4):
        assert get(DatabaseMiddleware(answer, database)).status_code == 503
    assert 0.4 <= time.monotonic() - began < 0.4 + SLACK
    assert database.stats().pings_failed == 1
    networked.proxy.hear()


def test_hung_ping_is_over_at_acquire_timeout(make: MakeDatabase, networked: WiredBank, keeping: str) -> None:
    """C5: where ping_timeout would be later, a ping that hangs is over at acquire_timeout."""
    database = make(networked.url, strategy=keeping, ping_after=0, ping_timeout=60)
    session(database)
    networked.proxy.deaf()
    began = time.monotonic()
    with limited(database, acquire_timeout=0.2):
        assert get(DatabaseMiddleware(answer, database)).status_code == 503
    assert 0.2 <= time.monotonic() - began < 0.2 + SLACK
    assert database.stats().pings_failed == 1
    networked.proxy.hear()


def test_hung_rollback_is_over_at_its_deadline(make: MakeDatabase, networked: WiredBank, strategy: str) -> None:
    """C5: a rollback that hangs after a request costs it ping_timeout, not its answer; the connection is discarded."""
    database = make(networked.url, strategy=strategy)

    def handle(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        body = answer(environ, start_response)
        networked.proxy.forget()
        return body

    began = time.monotonic()
    with limited(database, ping_timeout=0.2):
        response = get(DatabaseMiddleware(handle, database))
    assert 0.2 <= time.monotonic() - began < 0.2 + SLACK
    assert (response.status_code, response.data) == (200, b"1")
    assert (database.stats().open, database.stats().discards) == (0, {"reset failed": 1})
    assert get(DatabaseMiddleware(answer, database)).status_code == 200
