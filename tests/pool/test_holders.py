"""stats() tells who has the connections, who waits for one, and what happened lately."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from strategies.kit import STRATEGIES
from support.clock import Clock
from support.fakedb import FakeDB
from support.waiting import until
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware, DatabaseUnavailable


@pytest.mark.parametrize("acquire", ["request", "first-use"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_who_holds_a_connection(fakedb: FakeDB, strategy: Any, acquire: Any) -> None:
    """Method and path, the thread, since when, and what it did."""
    clock = Clock()
    with Database(creator=fakedb.connect, strategy=strategy, clock=clock) as database:

        def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            environ["db.conn"].cursor().execute("SELECT 1")
            clock.advance(3)
            (holder,) = database.stats().holders
            assert (holder.request, holder.thread) == ("GET /slow", threading.current_thread().name)
            assert (holder.seconds, holder.statements, holder.executing) == (3.0, 1, False)
            start_response("200 OK", [])
            return [b""]

        wrapped = DatabaseMiddleware(application, database, acquire=acquire)
        for _ in range(2):  # the second request begins to count at zero
            assert Call(wrapped, PATH_INFO="/slow").status == "200 OK"
        stats = database.stats()
        assert (stats.holders, stats.waiters, stats.pid) == ((), (), os.getpid())


def test_a_lease_outside_of_a_request(fakedb: FakeDB) -> None:
    """It is called what the log calls it. The oldest lease comes first."""
    clock = Clock()
    with Database(creator=fakedb.connect, clock=clock) as database, database.connection():
        clock.advance(1)
        with database.connection():
            held = [(holder.request, holder.seconds) for holder in database.stats().holders]
    assert held == [("outside of a request", 1.0), ("outside of a request", 0.0)]


def test_who_waits(fakedb: FakeDB) -> None:
    """A request in the queue is named, and no longer once it is served."""
    with Database(creator=fakedb.connect, pool_size=1, acquire_timeout=30) as database:
        lease = database.lease()
        thread = threading.Thread(
            target=lambda: database.lease(("GET", "", "/report")).close(), name="worker-7"
        )
        thread.start()
        until(lambda: database.stats().waiters)
        (waiter,) = database.stats().waiters
        assert (waiter.request, waiter.thread, waiter.seconds >= 0) == ("GET /report", "worker-7", True)
        lease.close()
        thread.join(30)
        assert database.stats().waiters == ()


def test_a_request_that_waited_in_vain_is_forgotten(fakedb: FakeDB) -> None:
    """It waits no longer, and is an event that names it."""
    with Database(creator=fakedb.connect, pool_size=1, acquire_timeout=0.05) as database, database.connection():
        with pytest.raises(DatabaseUnavailable):
            database.lease(("GET", "", "/report"))
        stats = database.stats()
        assert stats.waiters == ()
        (event,) = stats.events
        assert (event.kind, event.text.startswith("GET /report: no connection became free")) == ("timeout", True)


def test_events(fakedb: FakeDB) -> None:
    """A discard, an outage and the recovery, with their ages."""
    clock = Clock()
    with Database(creator=fakedb.connect, clock=clock) as database:
        with database.connection():
            fakedb.fail("rollback", FakeDB.OperationalError("no"))
        clock.advance(10)
        fakedb.fail("connect", FakeDB.OperationalError("down"))
        with pytest.raises(DatabaseUnavailable):
            database.lease()
        clock.advance(5)
        database.lease().close()
        told = [(event.seconds, event.kind) for event in database.stats().events]
        assert told == [(15.0, "discard"), (5.0, "outage"), (0.0, "recovery")]


def test_names_are_told_apart(fakedb: FakeDB) -> None:
    """Two Databases of one name are two on every page, until one is gone."""
    first = Database(creator=fakedb.connect, name="told-apart")
    second = Database(creator=fakedb.connect, name="told-apart")
    assert (first.name, second.name) == ("told-apart", "told-apart#2")
    del first
    gc.collect()
    third = Database(creator=fakedb.connect, name="told-apart")
    assert third.name == "told-apart"


def test_lost_writes_and_failed_statements_are_counted(tmp_path: Path) -> None:
    """Rows that were rolled back at the end of a request, and statements that failed."""
    with Database(f"sqlite:///{tmp_path / 'x.db'}") as database:
        with database.connection() as conn:
            conn.execute("CREATE TABLE t (a)")
            with pytest.raises(Exception, match="no such table"):
                conn.execute("SELECT * FROM missing")
            conn.execute("INSERT INTO t VALUES (1)")
        stats = database.stats()
        assert (stats.rolled_back, stats.errors, stats.statements) == (1, 1, 3)
