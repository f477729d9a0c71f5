"""S6: a forked child starts empty, and the parent's sockets stay untouched."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import wsgidb
from strategies.conftest import MakeDatabase
from strategies.kit import AFTER, BEFORE, WiredBank, Worker, in_child, run, session_of
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import ConnectionReturned, Database, DatabaseUnavailable, TransactionLost, forks
from wsgidb.lease.proxy import settle

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
    """S6: the mark tells, and not only at acquire: a child's first act may be a release, stats() or close()."""
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


Child = Callable[[Callable[[], Any]], Any]


@contextmanager
def pid_of(pid: int) -> Iterator[None]:
    """Inside of it wsgidb finds this pid to be its own."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "getpid", lambda: pid)
        patched.setattr(forks, "getpid", lambda: pid)
        yield


@pytest.fixture(params=["page", "pid"])
def mark(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """By what a fork is noticed: a page that the kernel clears, or, where it does not do that, the pid."""
    if request.param == "pid":
        monkeypatch.setattr(forks, "_page", lambda: None)
    elif forks._page() is None:
        pytest.skip("this kernel does not clear pages at a fork (Linux does since 4.14)")
    return str(request.param)


@pytest.fixture(params=[1, -1], ids=["greater", "smaller"])
def child(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, mark: str) -> Child:
    """Runs a function in a forked child whose pid is greater than its parent's, or smaller, as pids begin anew at some
    time. No fork hooks run there, as on uWSGI."""
    monkeypatch.setattr(forks, "_told", weakref.WeakSet())
    parent = os.getpid()

    def child(function: Callable[[], Any]) -> Any:
        def run() -> Any:
            with pid_of(parent + int(request.param)):
                return function()

        return in_child(run)

    return child


def number(database: Database) -> int:
    with database.connection() as conn:
        return int(conn.number)


class TestWithoutHooks:
    """S6, by whatever mark, whichever of the two pids is greater, and whatever the child does first."""

    def test_acquire_first(self, fake: MakeDatabase, keeping: str, child: Child) -> None:
        """A child opens its own connection, and keeps that; the parent goes on with what it had."""
        database = fake(strategy=keeping)
        assert number(database) == 1

        def first() -> list[int]:
            return [number(database), number(database), database.stats().connects, database.stats().acquires]

        assert child(first) == [2, 2, 1, 2]
        assert number(database) == 1
        assert (database.stats().connects, database.stats().acquires) == (1, 2)

    def test_stats_first(self, fake: MakeDatabase, child: Child) -> None:
        """A child has done nothing yet, and nothing changes for the parent."""
        database = fake()
        assert number(database) == 1
        assert child(lambda: [database.stats().connects for _ in range(3)]) == [0, 0, 0]
        assert database.stats().connects == 1

    def test_close_first(self, fake: MakeDatabase, fakedb: FakeDB, child: Child) -> None:
        """A child's close() says no goodbye for its parent. It closes the child's own, so that it opens no more."""
        database = fake()
        assert number(database) == 1

        def first() -> list[Any]:
            database.close()
            with pytest.raises(DatabaseUnavailable, match="closed"):
                database.check()
            return fakedb.calls

        assert child(first) == [list(call) for call in fakedb.calls]
        assert number(database) == 1

    def test_release_first(self, fake: MakeDatabase, fakedb: FakeDB, child: Child) -> None:
        """A child that ends a lease of its parent's does nothing to its connection."""
        database = fake()
        lease = database.lease()

        def first() -> list[Any]:
            lease.close()
            return [len(fakedb.calls), database.stats().open]

        assert child(first) == [len(fakedb.calls), 0]
        assert database.stats().leased == 1

    def test_commit_first(self, fake: MakeDatabase, fakedb: FakeDB, child: Child) -> None:
        """TransactionLost: a child commits nothing for its parent."""
        database = fake(transaction="request")
        lease = database.lease()

        def first() -> int:
            with pytest.raises(TransactionLost, match="cannot commit: the transaction is another process's"):
                settle(lease, success=True)
            return len(fakedb.calls)

        assert child(first) == len(fakedb.calls)

    def test_lease_after_the_fork_was_noticed(self, fake: MakeDatabase, fakedb: FakeDB, child: Child) -> None:
        """Once a child has its own connection, a lease of its parent's is refused, and stays unharmed."""
        database = fake()
        lease = database.lease()

        def first() -> list[int]:
            own = number(database)
            with pytest.raises(ConnectionReturned, match="forked child"):
                lease.cursor()
            return [own, fakedb.count("cursor")]

        assert child(first) == [2, fakedb.count("cursor")]
        assert lease.cursor() is not None

    def test_thread_that_ends_first(self, fake: MakeDatabase, fakedb: FakeDB, child: Child) -> None:
        """In a child all other threads have ended, which costs the parent no connection."""
        database = fake(strategy="thread-local")
        ready, done = threading.Event(), threading.Event()

        def other() -> None:
            number(database)
            ready.set()
            assert done.wait(10)

        worker = Worker(other)
        assert ready.wait(10)
        homes = list(database._engine.process.store._homes)  # type: ignore[attr-defined]

        def first() -> int:
            for home in homes:
                home.__del__()  # as the end of its thread would, or the interpreter's exit
            return fakedb.count("close")

        assert child(first) == 0
        assert database.stats().open == 1
        done.set()
        worker.outcome()


@pytest.mark.usefixtures("mark")
@pytest.mark.parametrize("used", [True, False], ids=["used", "unused"])
def test_pid_of_an_ancestor(fake: MakeDatabase, keeping: str, used: bool) -> None:
    """S6: a descendant whose pid was an ancestor's, as pids begin anew at some time, does not take over that one's
    state, whether or not the process in between has used the Database."""
    database = fake(strategy=keeping, pool_size=1, acquire_timeout=1)
    mine = number(database)
    lease = database.lease()  # the only place of the pool
    ancestor = os.getpid()

    def grandchild() -> list[int]:
        with pid_of(ancestor):
            return [number(database), database.stats().connects]

    def child() -> list[int]:
        if used:
            number(database)
        return list(in_child(grandchild))

    assert in_child(child) == [mine + 1 + used, 1]
    lease.close()
    assert number(database) == mine


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
