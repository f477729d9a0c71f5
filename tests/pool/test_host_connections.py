"""S10, host_connections: all processes of a host together never have more, whatever becomes of one of them."""

from __future__ import annotations

import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from strategies.kit import Worker, in_child, limited
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.waiting import until
from wsgidb import ConfigError, Database, DatabaseUnavailable, PoolTimeout
from wsgidb.pool import sharing
from wsgidb.pool.tokens import Wanted, tokens

WORKER = Path(__file__).with_name("host_worker.py")
Make = Callable[..., Database]


@pytest.fixture
def make(fakedb: FakeDB, tmp_path: Path) -> Iterator[Make]:
    """Makes a Database of the same host as the others; on the fake driver."""
    with ExitStack() as stack:

        def make(**options: Any) -> Database:
            given = {"board": str(tmp_path / "board"), "name": "shop", "host_connections": 2, "acquire_timeout": 0.3}
            return stack.enter_context(Database(creator=fakedb.connect, **{**given, **options}))

        yield make


def leases(database: Database, count: int) -> list[Any]:
    return [database.lease() for _ in range(count)]


class Processes:
    """Workers on a server whose user may have no more connections than the host."""

    def __init__(self, server: MariaDB, board: Path, most: int) -> None:
        self.server, self.board, self.most = server, board, most
        self.running: list[subprocess.Popen[str]] = []
        # All of a process that is killed, and of those that come in its place, may be counted for a moment.
        server.execute(f"CREATE USER few@'%' WITH MAX_USER_CONNECTIONS {2 * most}")
        server.execute("GRANT ALL ON test.* TO few@'%'")
        self._killed: dict[int, float] = {}

    def start(self, count: int, seconds: float, threads: int = 3, **options: Any) -> list[subprocess.Popen[str]]:
        given = json.dumps({"host_connections": self.most, "pool_size": 10, "acquire_timeout": 20, **options})
        url = self.server.url("few")
        command = [sys.executable, str(WORKER), url, str(self.board), given, str(threads), str(seconds)]
        made = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]
        self.running += made
        return made

    def kill(self, process: subprocess.Popen[str]) -> None:
        """Let a process end without a word, and wait until it has."""
        self._killed[process.pid] = time.monotonic()
        process.kill()
        process.wait(30)

    def most_at_once(self) -> int:
        """How many connections the processes that have ended had together, as they know it themselves. The server may
        still count one that was closed a moment ago."""
        changes = sorted(change for process in self.running for change in self._changes(process.pid))
        return max(itertools.accumulate(change for _, change in changes))

    def _changes(self, pid: int) -> list[tuple[float, int]]:
        lines = Path(f"{self.board}.{pid}").read_text().splitlines()
        end = self._killed.get(pid, math.inf)
        changes = [(float(at), int(change)) for at, change in map(str.split, lines) if float(at) < end]
        return [*changes, (end, -sum(change for _, change in changes))]

    @staticmethod
    def told(process: subprocess.Popen[str]) -> dict[str, Any]:
        assert process.stdout is not None
        told: dict[str, Any] = json.loads(process.stdout.read().splitlines()[-1])
        return told


@pytest.fixture
def processes(mariadb: MariaDB, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Processes]:
    made = Processes(mariadb, tmp_path / "board", request.param)
    yield made
    for process in made.running:
        process.kill()
        process.communicate()
    until(lambda: not mariadb.processes("few"), what="the sessions to end")
    mariadb.execute("DROP USER few@'%'")


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("processes", [2, 5], indirect=True)
@pytest.mark.parametrize("strategy", ["pooled", "thread-local", "per-request"])
def test_never_more_and_nobody_starves(processes: Processes, strategy: str) -> None:
    """S10: together they never have more, even where one process is killed and another one comes, and all are
    served."""
    first, *others = processes.start(3, 2.5, strategy=strategy)
    assert first.stdout is not None
    assert first.stdout.readline() == "began\n"
    processes.kill(first)
    others += processes.start(1, 1.5, strategy=strategy)
    told = [processes.told(process) for process in others]
    assert 0 < processes.most_at_once() <= processes.most
    assert [(each["errors"], each["failures"]) for each in told] == [([], 0)] * 3
    assert all(each["done"] >= 10 for each in told), told
    assert all(least > 0 for each in told for least in each["by_thread"]), told


@pytest.mark.server
@pytest.mark.parametrize("processes", [1], indirect=True)
def test_one_connection_for_two_processes(processes: Processes) -> None:
    """host_connections: they take turns, though each always has requests waiting."""
    started = processes.start(2, 1.5)
    told = [processes.told(process) for process in started]
    assert processes.most_at_once() == 1
    assert [(each["errors"], each["failures"]) for each in told] == [([], 0)] * 2
    assert all(each["done"] >= 5 for each in told), told


class TestCounting:
    def test_pools_of_one_name_count_together(self, make: Make, fakedb: FakeDB) -> None:
        """S2: two Databases of one name in a process have one budget, and one of another name has its own."""
        one, other, apart = make(), make(), make(name="another")
        kept = [*leases(one, 1), *leases(other, 1)]
        with pytest.raises(PoolTimeout):
            one.lease()
        kept += leases(apart, 2)
        assert (one.stats().open, other.stats().open, apart.stats().open) == (1, 1, 2)

    def test_a_failed_connect_gives_its_token_back(self, make: Make, fakedb: FakeDB) -> None:
        """S2: a token is held for as long as a connection is, or is being opened, and no longer."""
        database = make(host_connections=1)
        fakedb.fail("connect", FakeDB.OperationalError("down"))
        with pytest.raises(DatabaseUnavailable, match="down"):
            database.lease()
        until(lambda: _serves(database))

    def test_an_interrupted_connect_gives_its_token_back(self, make: Make, fakedb: FakeDB) -> None:
        """S2: whatever ends it."""
        database = make(host_connections=1)
        fakedb.fail("connect", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            database.lease()
        assert _serves(database)

    @pytest.mark.parametrize("strategy", ["thread-local", "per-request"])
    def test_strategies_without_a_queue(self, make: Make, strategy: str) -> None:
        """host_connections: a request waits up to its deadline, and is told why it got nothing."""
        database = make(strategy=strategy)
        kept = leases(database, 2)
        with pytest.raises(PoolTimeout, match=r"all 2 connections of this host are in use \(host_connections\)"):
            database.lease()
        with limited(database, acquire_timeout=30):
            waiting = Worker(database.lease)
            kept.pop().close()
            kept.append(waiting.outcome())
        assert database.stats().open == 2

    def test_the_error_names_the_option(self, make: Make) -> None:
        """host_connections: the error of a request that waited in vain says that pool_size was not the limit."""
        one, other = make(), make()
        kept = leases(one, 2)
        limit = r"all 2 connections of this host are in use \(host_connections\)"
        with pytest.raises(PoolTimeout, match=limit) as caught:
            other.lease()
        assert "raise pool_size" not in str(caught.value)
        assert other.probe() is False, "it is no bad sign"
        del kept


def _serves(database: Database) -> bool:
    with suppress(DatabaseUnavailable), database.connection():
        return True
    return False


class TestProcesses:
    def test_a_forked_child_has_none_of_its_parents(self, make: Make) -> None:
        """S6: the child's connections count beside its parent's, whose own are not given up by the child's end."""
        database = make()
        kept = leases(database, 1)

        def child() -> list[int]:
            own = leases(database, 1)
            with pytest.raises(PoolTimeout):
                database.lease()
            return [database.stats().open, len(own)]

        assert in_child(child) == [1, 1]
        kept += leases(database, 1)
        with pytest.raises(PoolTimeout):
            database.lease()

    def test_what_a_killed_process_had_is_free(self, tmp_path: Path) -> None:
        """host_connections: the kernel gives up a dead process's tokens, though a child of it lives on."""
        own = tokens(str(tmp_path), "shop")
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:  # a process with a child of its own, which has inherited its descriptors
            try:
                if tokens(str(tmp_path), "shop").take("parent", 1):
                    if os.fork() == 0:
                        os.write(writing, b"%d" % os.getpid())
                    signal.pause()
            finally:
                os._exit(1)
        os.close(writing)  # so that the end of both children ends the read
        grandchild = int(os.read(reading, 20))
        try:
            assert not own.take("test", 1)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            assert own.take("test", 1)
        finally:
            os.kill(grandchild, signal.SIGKILL)
            own.give("test")
            os.close(reading)


class TestMakingRoom:
    @pytest.fixture(autouse=True)
    def another(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Another process, as far as this one can tell: what it has noted in the file, which counts until `stale`."""
        self.tokens = tokens(str(tmp_path / "board"), "shop")
        monkeypatch.setattr("wsgidb.pool.tokens.FRESH", 60.0)

    @pytest.fixture
    def stale(self, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
        return lambda: monkeypatch.setattr("wsgidb.pool.tokens.FRESH", 0.0)

    def wants(self, has: int, granted: bool = False) -> None:
        self.tokens.want(Wanted(has, time.monotonic(), granted))

    @pytest.mark.parametrize(("has", "open_then"), [(0, 2), (1, 2), (2, 3), (3, 3)])
    def test_a_pool_with_two_more_gives_one(self, make: Make, has: int, open_then: int) -> None:
        """host_connections: so shares become equal, and no connection is moved back and forth."""
        database = make(host_connections=9)
        kept = leases(database, 3)
        self.wants(has)
        kept.pop().close()
        assert database.stats().open == open_then
        assert database.stats().retirements == ({sharing.ANOTHER: 1} if open_then == 2 else {})
        wanted = self.tokens.wanted()
        assert wanted is not None
        assert wanted.granted is (open_then == 2)

    def test_only_one_gives_for_one(self, make: Make) -> None:
        """host_connections: for a note that was answered nobody closes another one."""
        database = make(host_connections=9)
        kept = leases(database, 3)
        self.wants(0, granted=True)
        kept.pop().close()
        assert database.stats().open == 3

    def test_a_richer_pool_takes_no_token_meanwhile(self, make: Make, stale: Callable[[], None]) -> None:
        """host_connections: a token that was given up goes to the pool that asked for it, for as long as that waits."""
        database = make(host_connections=9)
        kept = leases(database, 1)
        self.wants(0, granted=True)
        with pytest.raises(PoolTimeout):
            database.lease()
        stale()
        kept += leases(database, 1)

    def test_a_stale_note_is_none(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        """host_connections: who died waiting stops nobody for long."""
        monkeypatch.setattr("wsgidb.pool.tokens.FRESH", 0.1)
        self.wants(0)
        until(lambda: self.tokens.wanted() is None)
        assert len(leases(make(), 2)) == 2

    def test_idle_connections_leave_a_token(self, make: Make) -> None:
        """host_connections: a pool that falls silent keeps no more than others can do without."""
        database = make(host_connections=3)
        for conn in leases(database, 3):
            conn.close()
        assert database.stats().retirements == {sharing.SPARE: 1}
        assert database.stats().open == 2
        assert self.tokens.any_free(3)


def test_a_board_that_cannot_be_used(fakedb: FakeDB, tmp_path: Path) -> None:
    """host_connections: what cannot be counted is not opened."""
    (tmp_path / "file").touch()
    with (
        Database(creator=fakedb.connect, board=str(tmp_path / "file"), host_connections=2) as database,
        pytest.raises(DatabaseUnavailable, match=r"host_connections cannot be counted in .*: .*exists"),
    ):
        database.lease()


def test_it_needs_a_board(fakedb: FakeDB) -> None:
    """host_connections: without a directory the processes could not find each other; an Engine counts for itself."""
    with pytest.raises(ConfigError, match="host_connections: needs board"):
        Database(creator=fakedb.connect, host_connections=2)


def test_without_it_nothing_is_loaded() -> None:
    """host_connections: what is off costs nothing."""
    code = "import sys, wsgidb; wsgidb.Database('sqlite:///a.db'); print('wsgidb.pool.sharing' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
