"""R12, R13 with a creator's driver: what its cursors and a tracing tool's wrappers do belongs to one lease."""

from __future__ import annotations

import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import psycopg
import psycopg.version
import pytest
from opentelemetry.instrumentation.sqlite3 import SQLite3Instrumentor
from sqlalchemy import create_engine

from support.fakedb import FakeDB
from support.postgresql import PostgreSQL
from wsgidb import ConnectionReturned, Database
from wsgidb.lease.proxy import settle

Create = Callable[[], Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "generic.sqlite3"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE kept (n INTEGER)")
        conn.executemany("INSERT INTO kept VALUES (?)", [(1,), (None,), (3,)])
        conn.commit()
    return path


@pytest.fixture(params=["bare", "traced"])
def create(request: pytest.FixtureRequest, path: Path) -> Create:
    """A creator of sqlite3's own connections, or of such as a tracing tool has wrapped."""

    def connect() -> Any:
        conn = sqlite3.connect(path, check_same_thread=False)
        return SQLite3Instrumentor().instrument_connection(conn) if request.param == "traced" else conn

    return connect


@pytest.fixture
def database(create: Create) -> Iterator[Database]:
    with Database(creator=create, pool_size=1) as database:
        yield database


def write_elsewhere(path: Path) -> None:
    """A write of another process; it fails at once where anybody holds a lock."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        other.execute("UPDATE kept SET n = 4 WHERE rowid = 1")


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_it_is_the_drivers(create: Create, acquire: Literal["request", "first-use"]) -> None:
    """The lease and its cursors are of the driver's classes, in whatever a tool has wrapped them. A lease that has not
    acquired yet knows that once there was a connection."""
    with Database(creator=create, pool_size=1, acquire=acquire) as database:
        database.check()
        conn: Any = database.lease()
        assert isinstance(conn, sqlite3.Connection)
        assert isinstance(conn.cursor(), sqlite3.Cursor)
        assert isinstance(conn.execute("SELECT 1"), sqlite3.Cursor)
        conn.close()


CONNECTION = {"commit": (), "rollback": (), "interrupt": (), "cursor": (), "execute": ("SELECT 1",), "iterdump": ()}
CURSOR = {
    "execute": ("DELETE FROM kept",),
    "executemany": ("DELETE FROM kept WHERE n = ?", [(1,)]),
    "executescript": ("DELETE FROM kept",),
    "fetchone": (),
    "fetchmany": (2,),
    "fetchall": (),
    "close": (),
    "__next__": (),
}


@pytest.mark.parametrize("name", CONNECTION)
def test_a_kept_method_of_the_connection_is_refused(database: Database, name: str) -> None:
    """Also where a wrapper passes it on, so that it is bound to what is inside of the wrapper."""
    with database.connection() as conn:
        kept: Any = getattr(conn, name)
    with database.connection(), pytest.raises(ConnectionReturned):
        kept(*CONNECTION[name])


@pytest.mark.parametrize("name", CURSOR)
def test_a_kept_method_of_a_cursor_is_refused(database: Database, name: str) -> None:
    with database.connection() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT n FROM kept")
        kept: Any = getattr(cursor, name)
    with database.connection(), pytest.raises(ConnectionReturned):
        kept(*CURSOR[name])


def test_methods_that_are_closures_enter(fakedb: FakeDB) -> None:
    """Some drivers and wrappers make their cursors' methods when they are asked for."""

    class Closures:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            found = getattr(self._inner, name)
            return (lambda *args: found(*args)) if callable(found) else found

    def create() -> Any:
        conn: Any = fakedb.connect()
        make = conn.cursor
        conn.cursor = lambda: Closures(make())
        return conn

    with Database(creator=create, pool_size=1) as database:
        with database.connection() as conn:
            cursor = conn.cursor()
            cursor.execute("SELECT")
            kept = [cursor.fetchone, cursor.fetchall, cursor.close]
        for method in kept:
            with pytest.raises(ConnectionReturned):
                method()


def test_with_conn_commits_within_the_lease(database: Database, path: Path) -> None:
    """And leaves the connection open."""
    for _ in range(2):
        with database.connection() as conn, conn:
            conn.execute("INSERT INTO kept VALUES (5)")
        with pytest.raises(ConnectionReturned):
            conn.__exit__(None, None, None)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM kept WHERE n = 5").fetchone() == (2,)
    assert database.stats().connects == 1


def test_an_unfinished_select_leaves_no_lock(database: Database, path: Path) -> None:
    """C3: sqlite3's rollback does not end it; that its cursor is let go of does."""
    with database.connection() as conn:
        cursor = conn.execute("SELECT n FROM kept")
        cursor.fetchone()
    write_elsewhere(path)
    with pytest.raises(ConnectionReturned):
        cursor.fetchone()


@pytest.mark.parametrize("sql", ["UPDATE kept SET n = 5 RETURNING n", "SELECT n FROM kept"])
def test_an_unfinished_statement_does_not_decide_the_commit(create: Create, sql: str) -> None:
    """R13: sqlite3 refuses a COMMIT while a RETURNING is half read, so the request's cursors end first."""
    with Database(creator=create, pool_size=1, transaction="request") as database:
        with database.connection() as conn:
            conn.execute("DELETE FROM kept WHERE rowid = 3")
            cursor = conn.execute(sql)
            cursor.fetchone()
        with database.connection() as conn:
            assert conn.execute("SELECT n FROM kept WHERE rowid = 3").fetchall() == []
        with pytest.raises(ConnectionReturned):
            cursor.fetchone()
        assert database.stats().discards == {}


def test_a_row_that_is_none(path: Path) -> None:
    """What a row is the driver decides, and iteration goes on past one that is None."""

    def create() -> Any:
        conn = sqlite3.connect(path, check_same_thread=False)
        conn.row_factory = lambda cursor, row: row[0]
        return conn

    with Database(creator=create) as database, database.connection() as conn:
        assert list(conn.execute("SELECT n FROM kept")) == [1, None, 3]
        cursor = conn.cursor()
        cursor.execute("SELECT n FROM kept")
        assert [row for row in cursor] == [1, None, 3]  # noqa: C416 - how it is iterated is the matter


@pytest.mark.server
def test_a_row_of_psycopg_that_is_none(postgresql: PostgreSQL) -> None:
    """As its scalar_row makes them. Before version 3.2, which has that, psycopg itself stops there."""

    def first_column(cursor: Any) -> Any:
        return lambda values: values[0]

    def create() -> Any:
        return psycopg.connect(
            host="127.0.0.1", port=postgresql.port, user="root", dbname="test", row_factory=first_column
        )

    sql = "VALUES (1), (NULL), (3)"
    with create() as alone:
        drivers = list(alone.execute(sql))
    with Database(creator=create) as database, database.connection() as conn:
        assert list(conn.execute(sql)) == drivers
    if psycopg.version.__version__ >= "3.2":
        assert drivers == [1, None, 3]


def in_a_thread(call: Callable[[], Any], told: list[Any]) -> threading.Thread:
    """Start a thread that goes on when its request is over, and tells what came of its call."""

    def run() -> None:
        try:
            told.append(call())
        except (sqlite3.Error, ConnectionReturned) as error:
            told.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


def test_no_cursor_is_dropped_while_a_thread_uses_the_connection(fakedb: FakeDB) -> None:
    """What a driver does at the end of a cursor may use the connection, too. Nor does a driver's cursor come out."""
    with Database(creator=fakedb.connect, pool_size=1) as database:
        lease: Any = database.lease()
        cursor, idle = lease.cursor(), lease.cursor()
        inner = weakref.ref(object.__getattribute__(idle, "_cursor"))
        gate = fakedb.block("execute")
        told: list[Any] = []
        thread = in_a_thread(lambda: cursor.execute("SELECT"), told)
        assert gate.entered.wait(10)
        settle(lease, success=True)
        assert inner() is not None
        gate.open()
        thread.join(10)
        assert type(told[0]) is ConnectionReturned


def test_a_with_that_closes_leaves_a_traced_connection_open(path: Path) -> None:
    """Its close() is the lease's, as without a tool: the driver's connection serves on."""

    class Closing(sqlite3.Connection):
        def __exit__(self, *error: Any) -> Any:
            self.close()

    def create() -> Any:
        conn = sqlite3.connect(path, check_same_thread=False, factory=Closing)
        return SQLite3Instrumentor().instrument_connection(conn)

    with Database(creator=create, pool_size=1) as database:
        for _ in range(2):
            with database.connection() as conn, conn:
                conn.execute("SELECT 1").fetchall()
        assert (database.stats().connects, database.stats().discards) == (1, {})


def test_an_engines_connection_is_not_closed_under_a_thread_that_uses_it(path: Path) -> None:
    """R12: SQLAlchemy closes at once what it is told to drop, which not every driver survives."""
    entered, leave = threading.Event(), threading.Event()

    def wait() -> int:
        entered.set()
        leave.wait(30)
        return 7

    engine = create_engine(f"sqlite:///{path}", connect_args={"check_same_thread": False})
    with Database(creator=engine, strategy="sqlalchemy") as database:
        lease: Any = database.lease()
        raw = lease.driver_connection
        raw.create_function("wait", 0, wait)
        thread = in_a_thread(lambda: lease.execute("SELECT wait()").fetchone(), [])
        assert entered.wait(30)
        settle(lease, success=True)
        assert database.stats().discards == {"in the middle of a statement": 1}
        assert not closed(raw)
        leave.set()
        thread.join(30)
        assert closed(raw), "by the thread whose call has ended"
    engine.dispose()


def closed(raw: sqlite3.Connection) -> bool:
    """Whether it is closed. This asks Python only: SQLite would let it wait for another thread's statement."""
    try:
        raw.cursor()
        return False
    except sqlite3.ProgrammingError:
        return True
