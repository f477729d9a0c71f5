"""S7 and S8: connections end with their thread, their Database and the interpreter; and no thread is ever started."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

import wsgidb
from strategies.conftest import MakeDatabase
from strategies.kit import PER_THREAD, Bank, WiredBank, Worker, run
from support.clock import Clock
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import Database, DatabaseUnavailable

PACKAGE = str(Path(wsgidb.__file__).parents[1])


def lease(database: Database) -> None:
    with database.connection() as conn:
        run(conn, "SELECT 1")


def fill(database: Database, connections: int = 3) -> None:
    """Open some, and give them back."""
    with ExitStack() as stack:
        for _ in range(connections):
            run(stack.enter_context(database.connection()), "SELECT 1")


def test_thread_takes_its_connection_with_it(fake: MakeDatabase, fakedb: FakeDB, per_thread: str) -> None:
    """S7: a thread that ends takes its thread-local connection with it, closed politely; other threads' stay."""
    database = fake(strategy=per_thread)
    lease(database)
    for _ in range(3):
        Worker(lambda: lease(database)).outcome()
    gc.collect()
    assert (fakedb.opened, fakedb.open_now, fakedb.count("close")) == (4, 1, 3)
    assert (database.stats().open, database.stats().retirements) == (1, {"thread ended": 3})


@pytest.mark.server
def test_thread_takes_its_session_with_it(make: MakeDatabase, networked: WiredBank, per_thread: str) -> None:
    """S7: the same on the server: no session is left, and none was aborted."""
    database = make(networked.url, strategy=per_thread)
    aborted = networked.aborted()
    for _ in range(3):
        Worker(lambda: lease(database)).outcome()
    gc.collect()
    until(lambda: not networked.server.processes("guest"), what="the sessions to end")
    assert networked.aborted() == aborted


def test_thread_that_ends_before_its_lease(fake: MakeDatabase, fakedb: FakeDB, per_thread: str) -> None:
    """S7: a lease that outlives the thread it began in (a body iterated elsewhere) keeps its connection to its end."""
    database = fake(strategy=per_thread)
    conn = Worker(database.lease).outcome()
    gc.collect()
    assert run(conn, "SELECT 1") == [(1,)]
    conn.close()
    gc.collect()
    assert (fakedb.opened, fakedb.open_now, database.stats().open) == (1, 0, 0)


def test_close_closes_idle_connections(make: MakeDatabase, bank: Bank, strategy: str) -> None:
    """S7: close() closes idle ones, leased ones as they come back, and refuses who comes later; twice is the same."""
    database = make(bank.url, strategy=strategy)
    fill(database)
    with database.connection() as conn:
        database.close()
        assert run(conn, "SELECT 1") == [(1,)]
        assert (database.stats().open, database.stats().leased) == (1, 1)
        with pytest.raises(DatabaseUnavailable, match="Database is closed"), database.connection():
            pass
    database.close()
    stats = database.stats()
    assert (stats.open, sum(stats.retirements.values()), stats.discards) == (0, stats.connects, {})
    with pytest.raises(DatabaseUnavailable, match="closed"):
        database.check()


def test_close_reaches_every_threads_connection(fake: MakeDatabase, fakedb: FakeDB, per_thread: str) -> None:
    """S7: close() closes what other threads have at rest, too; and what its own thread has leased when it is back."""
    database = fake(strategy=per_thread)
    ready, closed = threading.Event(), threading.Event()

    def other() -> None:
        lease(database)
        ready.set()
        assert closed.wait(10)

    worker = Worker(other)
    assert ready.wait(10)
    with database.connection():
        database.close()
        assert (fakedb.opened, fakedb.open_now) == (2, 1)
    assert fakedb.open_now == 0
    closed.set()
    worker.outcome()


def test_close_in_the_moment_of_a_return(fake: MakeDatabase, fakedb: FakeDB) -> None:
    """S7: a connection that is back, but not yet looked at again when another thread closes, is closed once."""
    database = fake(strategy="thread-local")

    class Overtaken(list[Any]):
        def append(self, slot: Any) -> None:
            super().append(slot)
            database.close()  # as if by another thread, which has its turn just now

    conn: Any
    with database.connection() as conn:
        conn._wsgidb_slot.handle.idle = Overtaken()
    assert (fakedb.opened, fakedb.count("close")) == (1, 1)


@pytest.mark.server
def test_close_is_polite(make: MakeDatabase, networked: WiredBank, keeping: str) -> None:
    """S7: each connection says goodbye: the server counts none as aborted."""
    database = make(networked.url, strategy=keeping)
    aborted = networked.aborted()
    with networked.proxy.counting() as seen:
        fill(database)
        database.close()
    assert seen.count(networked.goodbye) == database.stats().connects
    until(lambda: not networked.server.processes("guest"), what="the sessions to end")
    assert networked.aborted() == aborted


@pytest.mark.server
def test_database_that_is_collected_closes_its_connections(networked: WiredBank, keeping: Any) -> None:
    """S7: a Database that nobody has any more closes its idle connections, and does so at once."""
    aborted = networked.aborted()
    database = Database(networked.url, strategy=keeping)
    fill(database)
    with networked.proxy.counting() as seen:
        connects = database.stats().connects
        del database
    assert connects - seen.count(networked.goodbye) == (2 if keeping in PER_THREAD else 0)
    until(lambda: not networked.server.processes("guest"), what="the sessions to end")
    assert networked.aborted() == aborted


@pytest.mark.server
def test_lease_keeps_what_it_needs_of_its_database(networked: WiredBank, strategy: Any) -> None:
    """S7: a lease works to its end though its Database is gone, and then its connection is closed."""
    database = Database(networked.url, strategy=strategy)
    conn = database.lease()
    del database
    gc.collect()
    assert run(conn, "SELECT 1") == [(1,)]
    with networked.proxy.counting() as seen:
        conn.close()
    assert seen == ["QUERY ROLLBACK", networked.goodbye]


@pytest.mark.server
@pytest.mark.parametrize("end", ["", "sys.exit(0)", "import os, signal; os.kill(os.getpid(), signal.SIGINT)"])
def test_interpreter_exit_closes_politely(networked: WiredBank, keeping: str, end: str) -> None:
    """S7: at the interpreter's exit, by whatever way it gets there, idle connections are closed politely."""
    code = f"""
import sys
sys.path.insert(0, {PACKAGE!r})
sys.excepthook = lambda *error: None
from wsgidb import Database
database = Database({networked.url!r}, strategy={keeping!r})
with database.connection() as conn, database.connection() as other:
    conn.cursor().execute("SELECT 1")
    other.cursor().execute("SELECT 1")
{end}
"""
    aborted = networked.aborted()
    with networked.proxy.counting() as seen:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
        assert (done.stdout, done.stderr) == ("", "")
        until(lambda: not networked.server.processes("guest"), what="the sessions to end")
    assert seen.count(networked.goodbye) == 2
    assert networked.aborted() == aborted


def test_no_threads_of_its_own(
    fakedb: FakeDB, strategy: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S8: connecting, pinging, retiring, failing, recovering and closing start no thread."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("a thread was started")

    before = {*threading.enumerate()}
    monkeypatch.setattr(threading.Thread, "start", refuse)
    monkeypatch.setattr("_thread.start_new_thread", refuse)
    database = Database(creator=fakedb.connect, strategy=strategy, clock=clock, acquire_timeout=0.01, pool_size=3)
    for seconds in (0, 2, 700, 2000):
        clock.advance(seconds)
        fill(database)
    for name in ("connect", "execute", "rollback", "close"):
        fakedb.fail(name, FakeDB.OperationalError("planned"))
        clock.advance(2000)
        for _ in range(3):
            try:
                lease(database)
            except (DatabaseUnavailable, FakeDB.Error):
                clock.advance(1)
    database.close()
    assert fakedb.pending == []
    assert {*threading.enumerate()} <= before, "an earlier test's may have ended"
