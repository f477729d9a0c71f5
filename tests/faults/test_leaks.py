"""Leaks: a lease that is held for too long is reported, with the calls that acquired it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from support.clock import Clock
from support.fakedb import FakeDB
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware, PoolOverloaded
from wsgidb.pool.engine import Engine

LIMIT = 10.0

Make = Callable[..., Database]
Lines = Callable[[], list[str]]


@pytest.fixture(params=["per-request", "thread-local", "pooled"])
def make(request: pytest.FixtureRequest, fakedb: FakeDB, clock: Clock) -> Iterator[Make]:
    with ExitStack() as stack:

        def make(**options: Any) -> Database:
            made = Database(creator=fakedb.connect, strategy=request.param, clock=clock, **options)
            return stack.enter_context(made)

        yield make


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    """The log's lines about leases held for too long."""

    def lines() -> list[str]:
        assert {record.levelno for record in caplog.records} <= {logging.WARNING}
        return [text for record in caplog.records if "has held" in (text := record.getMessage())]

    return lines


def streaming(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    environ["db.conn"].cursor().execute("SELECT 1")
    yield b"a"
    yield b"b"


def touch(database: Database) -> None:
    with database.connection():
        pass


def test_a_lease_held_for_too_long_is_logged_once(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: the next acquire reports it; the line has method, path, seconds, and the stack that acquired."""
    database = make(leak_after=LIMIT)
    call = Call(DatabaseMiddleware(streaming, database), "/report", REQUEST_METHOD="POST")
    clock.advance(LIMIT)
    for _ in range(3):
        touch(database)
        clock.advance(LIMIT / 2)
    (line,) = lines()
    assert line.startswith("POST /report: has held a connection of creator for 10.0 s; acquired here:\n")
    assert "in test_a_lease_held_for_too_long_is_logged_once" in line
    assert 'Call(DatabaseMiddleware(streaming, database), "/report"' in line, "the source, too"
    assert line.endswith("self._engine.acquire()"), "the most recent call last"
    call.read()
    assert len(lines()) == 1


def test_one_that_comes_back_late_reports_itself(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: a lease that is overdue when it ends is reported then, though no other request came meanwhile."""
    clock.now = 3.0
    database = make(leak_after=LIMIT)
    with database.connection():
        clock.advance(LIMIT)
    (line,) = lines()
    assert line.startswith("outside of a request: has held a connection of creator for 10.0 s; ")


def test_one_that_comes_back_in_time_is_not_logged(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: a lease that ends in time is never reported, nor is the next one because of its time."""
    database = make(leak_after=LIMIT)
    for _ in range(3):
        with database.connection():
            clock.advance(LIMIT - 0.1)
    clock.advance(LIMIT)
    touch(database)
    assert lines() == []


def test_a_first_use_counts_from_then_on(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: a request that has no connection yet holds none; the stack is that of the first use."""
    database = make(leak_after=LIMIT)
    call = Call(DatabaseMiddleware(streaming, database, acquire="first-use"), "/late")
    clock.advance(LIMIT - 0.1)
    touch(database)
    assert lines() == []
    clock.advance(0.1)
    touch(database)
    (line,) = lines()
    assert line.startswith("GET /late: ")
    assert "in streaming" in line
    call.read()


def test_an_exhausted_pool_tells_who_has_it(fakedb: FakeDB, clock: Clock, lines: Lines) -> None:
    """leak_after: requests that are refused because of leaks report each of them once, as it becomes one."""
    with Database(creator=fakedb.connect, clock=clock, pool_size=2, max_waiting=0, leak_after=LIMIT) as database:
        calls = []
        for path in ("/one", "/two"):
            calls.append(Call(DatabaseMiddleware(streaming, database), path))
            clock.advance(1)
        clock.advance(LIMIT - 2)
        told = []
        for _ in range(3):
            with pytest.raises(PoolOverloaded), database.connection():
                pass
            told.append([line.partition(":")[0] for line in lines()])
            clock.advance(1)
        assert told == [["GET /one"], ["GET /one", "GET /two"], ["GET /one", "GET /two"]]
        for call in calls:
            call.read()


def test_many_threads_report_it_once(make: Make, clock: Clock, lines: Lines) -> None:
    """leak_after: a lease is reported once, however many threads look at the same moment."""
    database = make(leak_after=LIMIT)
    start = threading.Barrier(8, timeout=10)

    def look() -> None:
        start.wait()
        for _ in range(20):
            touch(database)

    with database.connection():
        clock.advance(LIMIT)
        threads = [threading.Thread(target=look) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(lines()) == 1


def test_off_it_is_in_nobodys_way(make: Make) -> None:
    """leak_after: without the option, acquire and release are the plain engine's."""
    assert type(make(telemetry=False)._engine) is Engine
    assert type(make(telemetry=False, leak_after=None)._engine) is Engine
    assert type(make(telemetry=False, leak_after=1)._engine) is not Engine
