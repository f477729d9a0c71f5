"""S6: a forked child starts empty, and the parent's sockets stay untouched."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

import wsgidb
from strategies.conftest import MakeDatabase
from strategies.kit import AFTER, BEFORE, WiredBank, Worker, in_child, run, session_of
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import Database, TransactionLost
from wsgidb.lease.proxy import settle
from wsgidb.pool import engine

PACKAGE = str(Path(wsgidb.__file__).parents[1])

TAKE = "UPDATE account SET balance = balance - 10 WHERE id = 1"
GIVE = "UPDATE account SET balance = balance + 10 WHERE id = 2"
NOTE = "INSERT INTO transfer VALUES (10)"


def session(database: Database) -> int:
    with database.connection() as conn:
        return session_of(conn)


def in_the_child(database: Database) -> dict[str, Any]:
    """What a child sees: it starts with nothing, opens its own, and closes that."""
    number = session(database)  # first: it is acquire that must notice
    after = database.stats()
    again = session(database)
    database.close()
    gc.collect()
    return {"connects": after.connects, "acquires": after.acquires, "session": number, "again": again}


@pytest.mark.server
def test_child_starts_empty_and_leaves_idle_connections_alone(
    make: MakeDatabase, networked: WiredBank, strategy: str
) -> None:
    """S6: idle connections are the parent's alone: not used, not closed and not talked to by a child."""
    database = make(networked.url, strategy=strategy, ping_after=None)
    before = session(database)
    child = in_child(lambda: in_the_child(database))
    assert (child["connects"], child["acquires"]) == (1, 1)
    assert child["session"] != before
    assert (child["again"] == child["session"]) is (strategy != "per-request")
    if strategy != "per-request":
        with networked.proxy.counting() as seen:
            assert session(database) == before, "the parent goes on with what it had"
        assert seen == [*networked.begins, f"QUERY {networked.session_sql}", "QUERY ROLLBACK"]
        assert database.stats().connects == 1


@pytest.mark.server
def test_child_leaves_a_lease_alone(make: MakeDatabase, networked: WiredBank, strategy: str) -> None:
    """S6: a lease open at the fork is the parent's: whatever the child does with its copy, the transfer is whole."""
    database = make(networked.url, strategy=strategy)

    def child() -> bool:
        conn.close()  # it ends the child's lease, and not the transaction
        database.close()
        gc.collect()
        return True

    with database.connection() as conn:
        run(conn, TAKE)
        with networked.proxy.counting() as seen:
            assert in_child(child) is True
        assert seen == []
        run(conn, GIVE)
        assert networked.state == BEFORE
        run(conn, NOTE)
        conn.commit()
    assert networked.state == AFTER
    assert database.stats().discards == {}


@pytest.mark.server
def test_fork_while_another_thread_holds_every_lock(make: MakeDatabase, networked: WiredBank, strategy: str) -> None:
    """S6: locks that another thread held at the moment of the fork, for ever locked in the child, hold up nobody."""
    database = make(networked.url, strategy=strategy)
    before = session(database)
    process = database._engine.process
    locks = [process.lock, *filter(None, [getattr(process.store, "_lock", None)])]
    holding, done = threading.Event(), threading.Event()

    def hold() -> None:
        for lock in locks:
            lock.acquire()
        holding.set()
        assert done.wait(30)
        for lock in locks:
            lock.release()

    holder = Worker(hold)
    assert holding.wait(10)
    try:
        child = in_child(lambda: in_the_child(database))
    finally:
        done.set()
    holder.outcome()
    assert child["connects"] == 1
    assert child["session"] != before


@pytest.mark.server
def test_fork_without_fork_hooks(
    make: MakeDatabase, networked: WiredBank, keeping: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S6: the pid tells, and not only at acquire: a child's first act may be a release, stats() or close()."""
    database = make(networked.url, strategy=keeping)
    lease = Worker(database.lease).outcome()  # of a thread of its own, so that this one's is at rest
    mine = session_of(lease)
    idle = session(database)
    assert database.stats().idle == 1

    def first_release() -> list[int]:
        lease.close()
        return [database.stats().open, database.stats().idle]

    def first_close() -> list[int]:
        database.close()
        return [database.stats().open, database.stats().idle]

    with networked.proxy.counting() as seen:
        assert in_child(first_release) == [0, 0]
        assert in_child(first_close) == [0, 0]
    assert seen == []
    assert session_of(lease) == mine
    assert session(database) == idle
    lease.close()


@pytest.mark.server
def test_grandchild(make: MakeDatabase, networked: WiredBank, keeping: str) -> None:
    """S6: a child's child starts empty, too, and all three keep their own."""
    database = make(networked.url, strategy=keeping)
    mine = session(database)

    def child() -> list[int]:
        own = session(database)
        grandchild = in_child(lambda: session(database))
        return [own, grandchild, session(database)]

    own, grandchild, after = in_child(child)
    assert own == after
    assert len({mine, own, grandchild}) == 3
    assert session(database) == mine


@pytest.mark.server
def test_child_that_exits_properly_ends_only_its_own(networked: WiredBank, keeping: str) -> None:
    """S6: a child's exit handlers and garbage collection close its own connections politely, and none of the parent's:
    none aborted, and the parent's session is alive."""
    code = f"""
import os, sys
sys.path.insert(0, {PACKAGE!r})
from wsgidb import Database
database = Database({networked.url!r}, strategy={keeping!r})
def session():
    with database.connection() as conn, conn.cursor() as cursor:
        cursor.execute({networked.session_sql!r})
        return cursor.fetchone()[0]
mine, held = session(), database.lease()
if (pid := os.fork()) == 0:
    own = session()
    assert own != mine
    del held
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
held.close()
assert session() == mine
assert database.stats().connects == 1
"""
    aborted = networked.aborted()
    with networked.proxy.counting() as seen:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        until(lambda: not networked.server.processes("guest"), what="all sessions to end")
    assert seen.count(networked.goodbye) == 2
    assert networked.aborted() == aborted


Child = Callable[[], AbstractContextManager[None]]


@pytest.fixture(params=[1, -1], ids=["greater", "smaller"])
def child(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Child:
    """Inside of it wsgidb finds itself in a child without fork hooks, whose pid is greater than its parent's; or
    smaller, as pids begin anew at some time."""
    real = os.getpid

    def pid() -> int:
        return real() + int(request.param)

    @contextmanager
    def child() -> Iterator[None]:
        with monkeypatch.context() as patched:
            patched.setattr(os, "getpid", pid)
            patched.setattr(engine, "getpid", pid)
            yield

    return child


def number(database: Database) -> int:
    with database.connection() as conn:
        return int(conn.number)


class TestAnyPid:
    """S6, whichever of the two pids is greater, and whatever the child does first."""

    def test_acquire_first(self, fake: MakeDatabase, keeping: str, child: Child) -> None:
        """A child opens its own connection, and keeps that; the parent goes on with what it had."""
        database = fake(strategy=keeping)
        assert number(database) == 1
        with child():
            assert [number(database), number(database)] == [2, 2]
            assert (database.stats().connects, database.stats().acquires) == (1, 2)
        assert number(database) == 1
        assert (database.stats().connects, database.stats().acquires) == (1, 2)

    def test_stats_first(self, fake: MakeDatabase, child: Child) -> None:
        """A child has done nothing yet; asking for that, however often, keeps nothing."""
        database = fake()
        assert number(database) == 1
        kept = len(engine._parents)
        for _ in range(3):
            assert database.stats().connects == 1
        assert len(engine._parents) == kept
        with child():
            assert database.stats().connects == 0
        assert database.stats().connects == 1

    def test_close_first(self, fake: MakeDatabase, fakedb: FakeDB, child: Child) -> None:
        """A child's close() says no goodbye for its parent."""
        database = fake()
        assert number(database) == 1
        with child():
            database.close()
            assert fakedb.count("close") == 0
        assert number(database) == 1

    def test_release_first(self, fake: MakeDatabase, fakedb: FakeDB, child: Child) -> None:
        """A child that ends a lease of its parent's does nothing to its connection."""
        database = fake()
        lease = database.lease()
        calls = list(fakedb.calls)
        with child():
            lease.close()
            assert (fakedb.calls, database.stats().open) == (calls, 0)
        assert database.stats().leased == 1

    def test_commit_first(self, fake: MakeDatabase, fakedb: FakeDB, child: Child) -> None:
        """TransactionLost: a child commits nothing for its parent."""
        database = fake(transaction="request")
        lease = database.lease()
        calls = list(fakedb.calls)
        with child():
            with pytest.raises(TransactionLost, match="cannot commit: the transaction is another process's"):
                settle(lease, success=True)
            assert fakedb.calls == calls

    def test_thread_that_ends_first(self, fake: MakeDatabase, fakedb: FakeDB, child: Child) -> None:
        """In a child all other threads have ended, which costs the parent no connection."""
        database = fake(strategy="thread-local")
        ready, forked = threading.Event(), threading.Event()

        def other() -> None:
            number(database)
            ready.set()
            assert forked.wait(10)

        worker = Worker(other)
        assert ready.wait(10)
        with child():
            forked.set()
            worker.outcome()
            del worker
            gc.collect()
            assert fakedb.count("close") == 0
        assert database.stats().open == 1


@pytest.mark.parametrize("closed", [False, True])
def test_child_that_drops_its_database(tmp_path: Path, keeping: Any, closed: bool) -> None:
    """S6: the parent's connections are not collected with it: a driver may end their sessions then."""
    made = [Database(f"sqlite:///{tmp_path}/fork.db", strategy=keeping)]
    with made[0].connection() as conn:
        kept = weakref.ref(conn.driver_connection)

    def drop() -> bool:
        database = made.pop()
        if closed:
            database.close()
        else:
            database.check()
        del database
        gc.collect()
        return kept() is not None

    assert in_child(drop) is True
    made[0].close()
