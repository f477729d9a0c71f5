"""drain() under load: a changed password and a planned switch-over cost no request an error."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

import wsgidb
from config.test_rotation import USER, Vault, change
from config.test_rotation import rotating as rotating
from faults.conftest import Serve
from faults.load import Ledger
from strategies.kit import KEEPING, PER_THREAD, Worker
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb import Database

ROOT = Path(wsgidb.__file__).parents[1]
THREADS, SIZE = 6, 4


class Requests:
    """What the requests of a load have come to."""

    def __init__(self) -> None:
        self.served = 0
        self.ended = False

    def more(self, count: int = 50) -> None:
        """Wait for so many more."""
        wanted = self.served + count
        until(lambda: self.served >= wanted, 60, f"{count} more requests")


@contextmanager
def load(database: Database) -> Iterator[Requests]:
    """Threads that make one request after the other until the end of the block, none of which may fail."""
    requests = Requests()

    def client() -> None:
        while not requests.ended:
            with database.connection() as conn, closing(conn.cursor()) as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchall()
            requests.served += 1

    threads = [Worker(client) for _ in range(THREADS)]
    try:
        yield requests
    finally:
        requests.ended = True
        for thread in threads:
            thread.outcome(30)


def rotate(database: Database, strategy: str, change: Callable[[], None]) -> None:
    """Change a password and drain, under load: each connection from before is replaced, and no other one."""
    count = THREADS if strategy in PER_THREAD else SIZE
    if strategy not in PER_THREAD:
        assert database.warm() == SIZE
    with load(database) as requests:
        requests.more()
        until(lambda: database.stats().open == count, what="all connections")
        change()
        requests.more()
        assert database.stats().connects == count
        assert database.drain(over=0.5) == count
        until(lambda: database.stats().retirements == {"drained": count}, 30, "the drain")
        until(lambda: database.stats().connects == 2 * count, 30, "a new connection for each")
        requests.more(200)
        stats = database.stats()
    assert (stats.retirements, stats.discards) == ({"drained": count}, {})
    assert (stats.connects, stats.connect_failures, stats.timeouts, stats.errors) == (2 * count, 0, 0, 0)


@pytest.mark.server
@pytest.mark.parametrize("strategy", KEEPING)
def test_password_of_mariadb(mariadb: MariaDB, rotating: Vault, strategy: Any) -> None:
    """A new password, by a callable connect_args: all sessions are replaced, and no request fails."""

    sessions: set[int] = set()

    def new_password() -> None:
        sessions.update(mariadb.processes(USER))
        change(mariadb, "second")
        rotating.password = "second"

    with Database(mariadb.url(USER), connect_args=rotating, strategy=strategy, pool_size=SIZE) as database:
        rotate(database, strategy, new_password)
        assert len(sessions) == (THREADS if strategy in PER_THREAD else SIZE)
        until(lambda: not sessions & set(mariadb.processes(USER)), what="the server to notice")


@pytest.mark.server
def test_password_of_postgresql(own_postgresql: PostgreSQL) -> None:
    """The same."""
    vault = Vault("first")
    own_postgresql.execute("ALTER ROLE app PASSWORD 'first'")

    def new_password() -> None:
        own_postgresql.execute("ALTER ROLE app PASSWORD 'second'")
        vault.password = "second"

    with Database(own_postgresql.url("app"), connect_args=vault, pool_size=SIZE) as database:
        rotate(database, "pooled", new_password)


@pytest.mark.server
def test_wrong_new_password(mariadb: MariaDB, rotating: Vault) -> None:
    """Where the vault has a password that the server does not know yet, sessions that are open go on being used; once
    the server knows it, the rest is replaced. No request fails."""
    with Database(mariadb.url(USER), connect_args=rotating, pool_size=SIZE, acquire_timeout=20) as database:
        database.warm()
        with load(database) as requests:
            requests.more()
            rotating.password = "second"
            database.drain(over=4)
            until(lambda: database.stats().connect_failures, what="a failed connect")
            requests.more()
            change(mariadb, "second")
            until(lambda: database.stats().retirements == {"drained": SIZE}, 30, "the drain")
            requests.more()
        assert database.stats().timeouts == 0


@pytest.mark.server
def test_signals_under_load(mariadb: MariaDB) -> None:
    """A signal handler drains the pool every few milliseconds, wherever the main thread is; other threads use it, too.
    No request fails, and pool_size holds."""
    drains = 0

    def handler(*_: object) -> None:
        nonlocal drains
        drains += 1
        database.drain(over=0.01)

    with Database(mariadb.url(), pool_size=SIZE) as database:
        former = signal.signal(signal.SIGALRM, handler)
        try:
            with load(database) as requests:
                signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
                while drains < 100 or requests.served < 500:
                    with database.connection() as conn, closing(conn.cursor()) as cursor:
                        cursor.execute("SELECT 1")
                    assert database.stats().open <= SIZE
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, former)
        stats = database.stats()
    assert stats.retirements["drained"] > 20
    assert (stats.discards, stats.connect_failures, stats.timeouts) == ({}, 0, 0)


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("strategy", ["pooled", "thread-local"])
def test_planned_switch_over(
    serve: Serve, own_mariadb: MariaDB, primary: MariaDB, tmp_path: Path, strategy: str
) -> None:
    """The address leads to another server, and the processes are drained by the command line. When that is over, the
    old server becomes read-only, and then ends. No payment fails, is lost or is made twice."""
    old, new = Ledger(own_mariadb), Ledger(primary)
    board = str(tmp_path / "board")
    with (
        TCPProxy(own_mariadb.port) as proxy,
        serve(proxy.url_from(own_mariadb.url("app")), strategy=strategy, board=board, name="shop") as site,
    ):
        with site.load("pay") as seen:
            seen.more(count=50)
            proxy.retarget(primary.port)
            command = [sys.executable, "-m", "wsgidb", "drain", board, "--over", "2"]
            done = subprocess.run(command, text=True, cwd=ROOT, timeout=60, capture_output=True)
            assert done.returncode == 0, done.stderr

            def told() -> list[str]:
                return [event["text"] for event in site.stats()["events"] if event["kind"] == "drain"]

            until(lambda: len(told()) == 2, 60, "the end of the drain")
            own_mariadb.execute("SET GLOBAL read_only = 1")
            seen.more(count=50)
            own_mariadb.kill()
            seen.more(count=50)
        stats, (begun, ended) = site.stats(), told()
        own_mariadb.start()
    assert set(seen.kinds) == {"served"}
    count = stats["retirements"]["drained"]
    assert ended == f"drained: the connections from before are closed ({count})"
    told_at_first = re.fullmatch(r"connections to be replaced within 2 s: (\d+)", begun)
    assert told_at_first is not None
    assert 1 <= int(told_at_first[1]) <= count, "one that was being opened at that moment is replaced, too"
    assert (stats["discards"], stats["connect_failures"]) == ({}, 0)
    numbers = [set(ledger.numbers) for ledger in (old, new)]
    assert all(numbers)
    assert not numbers[0] & numbers[1]
    assert numbers[0] | numbers[1] == {answer.number for answer in seen}
    for ledger, part in zip((old, new), numbers, strict=True):
        ledger.agrees_with([answer for answer in seen if answer.number in part])
