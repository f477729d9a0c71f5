"""What the pool logs: which request a line is about, and how many lines were left out."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable
from typing import Any

import pytest

from support.clock import Clock
from support.fakedb import FakeDB
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware, DatabaseUnavailable
from wsgidb.pool.exhausted import QUIET

Lines = Callable[[], list[str]]


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Lines:
    def lines() -> list[str]:
        found = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return found

    return lines


def handle(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["db.conn"].cursor().execute("SELECT 1")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b""]


def test_a_discard_names_the_request_that_caused_it(fakedb: FakeDB, lines: Lines) -> None:
    """A WARNING for each discard, with method and path; with nothing that could forge another line."""
    with Database(creator=fakedb.connect) as database:
        app = DatabaseMiddleware(handle, database)
        for path, shown in (("/shop/7", "/shop/7"), ("/a\nERROR b", r"/a\nERROR b")):
            fakedb.fail("rollback", FakeDB.OperationalError("gone"))
            Call(app, path, REQUEST_METHOD="POST").read()
            assert lines() == [f"creator: connection discarded after POST {shown}: reset failed"]


def test_a_discard_of_an_idle_connection_names_nobody(fakedb: FakeDB, clock: Clock, lines: Lines) -> None:
    """A connection that broke while it was idle names no request: neither the one before, nor the one that finds it."""
    with Database(creator=fakedb.connect, clock=clock) as database:
        app = DatabaseMiddleware(handle, database)
        Call(app, "/before").read()
        clock.advance(5)
        fakedb.fail("execute", FakeDB.OperationalError("gone"))
        Call(app, "/after").read()
        assert lines() == ["creator: connection discarded: ping failed: gone"]


def test_a_slow_callable_is_logged_now_and_then(fakedb: FakeDB, clock: Clock, lines: Lines) -> None:
    """A callable of connect_args that is always too slow fails every request; one line in a while counts them."""

    def arguments() -> dict[str, Any]:
        clock.advance(QUIET / 4)
        return {}

    with Database(creator=fakedb.connect, connect_args=arguments, acquire_timeout=1, clock=clock) as database:
        for _ in range(9):
            with pytest.raises(DatabaseUnavailable):
                database.lease()
        found = lines()
        assert len(found) == 3
        text = "creator: cannot connect: the callable of connect_args took 2.5 s"
        assert all(line.startswith(text) for line in found)
        assert [line.endswith(" (3 more since the last such line)") for line in found] == [False, True, True]


def test_opening_and_retiring_are_seen_at_debug_only(
    fakedb: FakeDB, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """DEBUG tells the life of each connection: how long connecting took, why it was closed, how much it was used."""
    gc.collect()  # else an earlier test's connection may be collected, and retired, meanwhile
    caplog.set_level(logging.DEBUG, "wsgidb")

    def connect() -> Any:
        clock.advance(0.25)
        return fakedb.connect()

    with Database(creator=connect, clock=clock, max_idle=60) as database:
        for _ in range(3):
            with database.connection():
                clock.advance(2)
        clock.advance(60)
        with database.connection():
            pass
    opened = ("DEBUG", "creator: connection opened in 0.250 s")
    retired = "creator: connection retired: {}; it was open for {} s and used {} times"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        opened,
        ("DEBUG", retired.format("unused", "66.2", 3)),
        opened,
        ("DEBUG", retired.format("closed", "0.2", 1)),
    ]


def test_nothing_is_logged_per_request(fakedb: FakeDB, caplog: pytest.LogCaptureFixture) -> None:
    """Not even at DEBUG: a request that finds its connection in the pool leaves no line."""
    with Database(creator=fakedb.connect) as database:
        app = DatabaseMiddleware(handle, database)
        Call(app).read()
        gc.collect()  # else an earlier test's connection may be collected, and retired, meanwhile
        caplog.set_level(logging.DEBUG, "wsgidb")
        for _ in range(10):
            Call(app).read()
        assert caplog.records == []
