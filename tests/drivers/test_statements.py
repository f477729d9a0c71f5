"""What stats() tells of statements: the handlers' own, all of them, and no others."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.constants.FIELD_TYPE import LONG
from pymysql.converters import conversions
from pymysql.cursors import SSCursor

from strategies.kit import together
from support.clock import Clock
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from wsgidb import Database

TICK = 1 / 1024
"""Exact in binary, so that sums are."""


class Ticking(Clock):
    """Time goes on by one tick at each look at it: so each statement takes one."""

    def __call__(self) -> float:
        return self.advance(TICK)


class Source:
    """Makes Databases of one driver, on a table `n` with the rows 1 and 2."""

    def __init__(self, clock: Clock, **options: Any) -> None:
        self.clock, self.options = clock, options
        self.slow = "SELECT slow()"
        """A statement that takes 2 seconds."""

    def database(self, **options: Any) -> Database:
        options = {**self.options, "pool_size": 1, **options}
        return Database(options.pop("url", None), clock=self.clock, **options)


@pytest.fixture(params=["sqlite", "creator", pytest.param("pymysql", marks=pytest.mark.server)])
def source(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Source]:
    if request.param == "pymysql":
        mariadb: MariaDB = request.getfixturevalue("mariadb")
        mariadb.execute("CREATE TABLE n (n INT PRIMARY KEY) SELECT 1 AS n UNION SELECT 2")
        made = Source(clock, url=mariadb.url())
        made.slow = "SELECT n FROM n WHERE n = 2"
        conv = {**conversions, LONG: lambda text: clock.advance(2) if text == "2" else int(text)}
        made.options["connect_args"] = {"conv": conv}
        yield made
        mariadb.execute("DROP TABLE n")
        return
    with closing(sqlite3.connect(tmp_path / "n.db")) as conn:
        conn.executescript("CREATE TABLE n (n INTEGER PRIMARY KEY); INSERT INTO n VALUES (1), (2)")
    if request.param == "sqlite":
        yield Source(clock, url=f"sqlite:///{tmp_path}/n.db")
    else:
        yield Source(clock, creator=lambda: sqlite3.connect(tmp_path / "n.db", check_same_thread=False))


def make_slow(conn: Any, clock: Clock) -> None:
    if isinstance(conn, sqlite3.Connection):
        conn.create_function("slow", 0, lambda: clock.advance(2))


def execute(conn: Any) -> object:
    return conn.cursor().execute("SELECT 1")


def fetch(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.execute("SELECT n FROM n WHERE n < 2")
    assert list(cursor.fetchall()) == [(1,)]
    assert cursor.fetchone() is None


def executemany(conn: Any) -> object:
    mark = "%s" if isinstance(conn, pymysql.connections.Connection) else "?"
    return conn.cursor().executemany(f"INSERT INTO n VALUES ({mark})", [(3,), (4,)])


def fail(conn: Any) -> None:
    with pytest.raises((sqlite3.Error, pymysql.err.Error)):
        conn.cursor().execute("SELECT nonsense FROM n")


HANDLERS: list[tuple[Callable[[Any], Any], int]] = [
    (lambda conn: None, 0),
    (lambda conn: conn.cursor(), 0),
    (execute, 1),
    (fetch, 1),
    (executemany, 1),
    (fail, 1),
    (lambda conn: (execute(conn), conn.commit()), 2),
    (lambda conn: (execute(conn), conn.rollback(), execute(conn)), 3),
    (lambda conn: (executemany(conn), conn.close()), 1),
]


@pytest.mark.parametrize(("handler", "count"), HANDLERS)
def test_the_handlers_statements_count(source: Source, handler: Callable[[Any], Any], count: int) -> None:
    """Each execute, executemany, commit and rollback, failed ones too; what cleans up behind a handler does not."""
    source.clock = Ticking()
    with source.database() as database:
        for leases in (1, 2):
            with database.connection() as conn:
                handler(conn)
            assert (database.stats().statements, database.stats().seconds_executing) == (
                count * leases,
                count * leases * TICK,
            )
    assert database.stats().statements == 2 * count, "not forgotten with the connection"


@pytest.mark.parametrize("transaction", ["manual", "request"])
def test_wsgidbs_own_statements_do_not_count(source: Source, transaction: str) -> None:
    """Connecting with init_sql, pings, health checks, and the end of a lease are nobody's statements; only the
    commit of transaction=request is the request's."""
    init = ["SELECT 1", "SELECT 2"]
    with source.database(ping_after=0, init_sql=init, transaction=transaction) as database:
        database.check()
        for _ in range(3):
            with database.connection() as conn:
                conn.cursor()
        # A driver of which nothing is known cannot tell that there is nothing to commit.
        commits = 3 if transaction == "request" and "creator" in source.options else 0
        assert (database.stats().pings, database.stats().statements) == (3, commits)
    with source.database(ping_after=0, ping_query="SELECT 3", init_sql=init) as database:
        database.check()
        with database.connection() as conn:
            execute(conn)
        with database.connection():
            pass
        assert (database.stats().pings, database.stats().statements) == (2, 1)


def test_the_commit_of_a_request_counts(source: Source) -> None:
    """With transaction=request the COMMIT is the request's own work, and takes its time."""
    source.clock = Ticking()
    with source.database(transaction="request") as database:
        with database.connection() as conn:
            executemany(conn)
        assert (database.stats().statements, database.stats().seconds_executing) == (2, 2 * TICK)


def test_time_is_executing_held_idle_or_dead(source: Source, clock: Clock) -> None:
    """Connection-seconds are split exactly: in a statement, held without one, and open but not leased."""
    with source.database(ping_after=None) as database:
        with database.connection():
            pass
        clock.advance(10)
        with database.connection() as conn:
            make_slow(conn, clock)
            clock.advance(3)
            cursor = conn.cursor()
            cursor.execute(source.slow)
            clock.advance(1)
            stats = database.stats()
        assert (stats.seconds_open, stats.seconds_leased, stats.seconds_executing) == (16, 6, 2)
        assert (stats.dead_time, stats.held_idle_time) == (10 / 16, 4 / 16)
        assert stats.statements == 1
    assert database.stats().seconds_executing == 2


def test_a_statement_that_takes_longer_than_the_clock_has_run(source: Source, clock: Clock) -> None:
    """Where the clock began does not matter: soon after a start of the machine it may show next to nothing."""
    clock.now = 1.0
    with source.database() as database, database.connection() as conn:
        make_slow(conn, clock)
        conn.cursor().execute(source.slow)
        assert database.stats().seconds_executing == 2


def test_what_fails_counts(fakedb: FakeDB, clock: Clock) -> None:
    """So do a commit and a rollback that failed."""
    with Database(creator=fakedb.connect, clock=clock) as database:
        for name in ("execute", "commit", "rollback"):
            fakedb.fail(name, FakeDB.OperationalError())
            with database.connection() as conn, pytest.raises(FakeDB.OperationalError):
                conn.cursor().execute("x") if name == "execute" else getattr(conn, name)()
        assert database.stats().statements == 3


@pytest.mark.parametrize("strategy", ["pooled", "thread-local", "per-request"])
def test_counts_are_exact_under_threads(source: Source, strategy: str) -> None:
    """Each connection counts for itself, in whatever thread it is: nothing is lost, though nothing is locked."""
    threads, leases = 6, 20
    with source.database(strategy=strategy, pool_size=3) as database:

        def work() -> None:
            for _ in range(leases):
                with database.connection() as conn:
                    execute(conn)
                    fetch(conn)
                    conn.rollback()

        together([work] * threads)
        assert database.stats().statements == 3 * threads * leases
        assert database.stats().acquires == threads * leases
    assert database.stats().statements == 3 * threads * leases


@pytest.mark.server
class TestPyMySQL:
    """Ways to run a statement that only PyMySQL has."""

    @pytest.mark.parametrize(
        ("handler", "count"),
        [
            (lambda conn: conn.query("SELECT 1"), 1),
            (lambda conn: conn.query(b"SELECT 1", unbuffered=False), 1),
            (lambda conn: conn.cursor(SSCursor).execute("SELECT 1 UNION SELECT 2"), 1),
            (lambda conn: conn.cursor().executemany("SET @x = %s", [(1,), (2,), (3,)]), 3),
            (lambda conn: conn.ping(reconnect=False), 1),
            (lambda conn: conn.select_db("test"), 1),
            (lambda conn: conn.begin(), 1),
        ],
    )
    def test_statements(self, mariadb: MariaDB, handler: Callable[[Any], Any], count: int) -> None:
        """Each command is one; conn.query() goes past cursors, executemany() of no INSERT is a command for each row."""
        clock = Ticking()
        with Database(mariadb.url(), clock=clock) as database:
            with database.connection() as conn:
                handler(conn)
            assert (database.stats().statements, database.stats().seconds_executing) == (count, count * TICK)

    def test_a_session_reset_does_not_count(self, mariadb: MariaDB) -> None:
        """It is wsgidb's, with all that it re-applies."""
        init = ["SET @mine = 1", "SET time_zone = '+01:00'"]
        url = mariadb.url(sql_mode="ANSI", init_command="SET @first = 1")
        with Database(url, reset="session", init_sql=init) as database:
            for _ in range(2):
                with database.connection() as conn:
                    execute(conn)
            assert database.stats().statements == 2


class TestSQLite:
    """Ways to run a statement that only sqlite3 has."""

    @pytest.mark.parametrize(
        ("handler", "count"),
        [
            (lambda conn: conn.execute("SELECT 1"), 1),
            (lambda conn: conn.executemany("DELETE FROM n WHERE n = ?", [(1,), (2,)]), 1),
            (lambda conn: conn.executescript("SELECT 1; SELECT 2"), 1),
            (lambda conn: conn.cursor().executescript("SELECT 1; SELECT 2"), 1),
            (lambda conn: conn.cursor(sqlite3.Cursor).execute("SELECT 1"), 1),
            (lambda conn: conn.__enter__() and conn.__exit__(None, None, None), 1),
        ],
    )
    def test_statements(self, tmp_path: Path, handler: Callable[[Any], Any], count: int) -> None:
        """Shortcuts of the connection, scripts, and the commit at the end of a with block."""
        with closing(sqlite3.connect(tmp_path / "n.db")) as conn:
            conn.execute("CREATE TABLE n (n)")
        with Database(f"sqlite:///{tmp_path}/n.db", clock=Ticking()) as database:
            with database.connection() as conn:
                handler(conn)
            assert (database.stats().statements, database.stats().seconds_executing) == (count, count * TICK)


def test_two_threads_of_one_request(tmp_path: Path) -> None:
    """A statement in a handler's helper thread counts like any other."""
    with Database(f"sqlite:///{tmp_path}/n.db") as database, database.connection() as conn:
        thread = threading.Thread(target=execute, args=(conn,))
        thread.start()
        thread.join(10)
        assert database.stats().statements == 1
