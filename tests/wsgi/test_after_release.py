"""R8: after release a lease and its cursors are unusable, and the connection serves the next request undisturbed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.cursors import Cursor, DictCursor, SSCursor, SSDictCursor

from support.fakedb import FakeDB, Gate
from support.mariadb import MariaDB
from support.waiting import until
from support.wsgi import Call
from wsgidb import ConnectionReturned, Database, DatabaseMiddleware


class OwnCursor(Cursor):
    """A cursor class of the application's own."""


MYSQL = [Cursor, DictCursor, SSCursor, SSDictCursor, OwnCursor]


@pytest.fixture(params=["fakedb", "sqlite", *(pytest.param(kind, marks=pytest.mark.server) for kind in MYSQL)])
def kind(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def source(request: pytest.FixtureRequest, kind: Any, keeping: str, tmp_path: Path) -> Iterator[Database]:
    """A Database whose next lease gets the same connection."""
    options: Any = {"strategy": keeping, "pool_size": 1}
    if kind == "fakedb":
        source = Database(creator=FakeDB(rows=[(1,), (2,)]).connect, **options)
    elif kind == "sqlite":
        source = Database(f"sqlite:///{tmp_path}/r8.sqlite3", **options)
    else:
        source = Database(request.getfixturevalue("mariadb").url(), **options)
    with source:
        yield source


def make_cursor(conn: Any, kind: Any) -> Any:
    return conn.cursor() if isinstance(kind, str) else conn.cursor(kind)


USES: dict[str, Callable[[Any], Any]] = {
    "execute": lambda cursor: cursor.execute("SELECT 3"),
    "executemany": lambda cursor: cursor.executemany("INSERT INTO t VALUES (1)", [()]),
    "fetchone": lambda cursor: cursor.fetchone(),
    "fetchmany": lambda cursor: cursor.fetchmany(1),
    "fetchall": lambda cursor: cursor.fetchall(),
    "next": lambda cursor: next(cursor),
    "iter": lambda cursor: list(cursor),
    "with": lambda cursor: cursor.__enter__(),
    "description": lambda cursor: cursor.description,
    "rowcount": lambda cursor: cursor.rowcount,
    "connection": lambda cursor: cursor.connection,
    "set": lambda cursor: setattr(cursor, "arraysize", 5),
}


def test_a_cursor_that_is_over_can_be_shown(source: Database, kind: Any) -> None:
    """R8: repr() and str() work, because an error page shows the local variables."""
    with source.connection() as conn:
        cursor = make_cursor(conn, kind)
        name = object.__repr__(cursor).split()[0].rpartition(".")[2]
    assert repr(cursor) == str(cursor) == f"<{name} of a lease that is over>"


@pytest.mark.parametrize("use", USES)
def test_every_use_of_a_cursor_is_refused(source: Database, kind: Any, use: str) -> None:
    """R8: every use raises ConnectionReturned, even the fetch of rows that the client had received before."""
    with source.connection() as conn:
        cursor = make_cursor(conn, kind)
        cursor.execute("SELECT 1 UNION SELECT 2")
        cursor.fetchall()
        if kind == "fakedb":
            cursor.execute("SELECT 1")

    with pytest.raises(ConnectionReturned):
        USES[use](cursor)
    cursor.close()  # closing is allowed, because a with block or closing() may do it late


@pytest.mark.parametrize("use", ["cursor", "commit", "rollback", "anything", "driver_connection"])
def test_every_use_of_the_proxy_is_refused(source: Database, kind: Any, use: str) -> None:
    """R8: reading, calling, setting or deleting an attribute raises ConnectionReturned; closing again does nothing."""
    with source.connection() as conn:
        pass
    with pytest.raises(ConnectionReturned):
        getattr(conn, use)()
    with pytest.raises(ConnectionReturned):
        setattr(conn, use, 1)
    with pytest.raises(ConnectionReturned):
        delattr(conn, use)
    with pytest.raises(ConnectionReturned):
        conn.__enter__()
    conn.close()


@pytest.mark.parametrize("kind", ["fakedb", "sqlite", pytest.param(DictCursor, marks=pytest.mark.server)])
def test_a_leftover_thread_cannot_reach_the_next_request(source: Database, kind: Any) -> None:
    """R8: a thread that outlives its request gets errors, while the next request uses the connection undisturbed."""
    go = threading.Event()
    refused: list[ConnectionReturned] = []

    def late(conn: Any, cursor: Any) -> None:
        assert go.wait(30)
        uses: list[Callable[[], Any]] = [
            lambda: conn.cursor(),
            lambda: conn.commit(),
            lambda: conn.rollback(),
            lambda: cursor.execute("SELECT 3"),
            lambda: cursor.fetchall(),
        ]
        for use in uses:
            try:
                use()
            except ConnectionReturned as error:
                refused.append(error)

    threads: list[threading.Thread] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        conn = environ["db.conn"]
        cursor = make_cursor(conn, kind)
        cursor.execute("SELECT 1")
        cursor.fetchall()
        threads.append(threading.Thread(target=late, args=(conn, cursor)))
        threads[0].start()
        start_response("200 OK", [])
        return [b""]

    Call(DatabaseMiddleware(app, source))
    with source.connection() as conn, closing(make_cursor(conn, kind)) as cursor:
        cursor.execute("SELECT 1 UNION SELECT 2 ORDER BY 1")
        go.set()
        threads[0].join(30)
        rows = [row if isinstance(row, tuple) else tuple(row.values()) for row in cursor.fetchall()]

    assert len(refused) == 5
    assert rows == [(1,), (2,)]
    assert source.stats().connects == 1


class Late:
    """A handler's thread that runs one statement. `outcome` is the exception that it raised, or None."""

    def __init__(self, cursor: Any, sql: str) -> None:
        self.outcome: BaseException | None = None
        self._work = (cursor, sql)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        cursor, sql = self._work
        del self._work
        try:
            cursor.execute(sql)
        except BaseException as error:  # noqa: BLE001 - the tests look at it
            self.outcome = error

    def end(self) -> BaseException | None:
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.outcome


def serves_the_next_request(database: Database) -> bool:
    """Whether the next request works on a new connection, after the running statement cost the first one."""
    assert database.stats().discards == {"in the middle of a statement": 1}
    with database.connection() as conn, closing(conn.cursor()) as cursor:
        cursor.execute("SELECT 2")
        return bool(cursor.fetchone() == (2,) and database.stats().connects == 2)


@pytest.mark.server
def test_a_statement_that_runs_at_release_costs_the_connection_of_pymysql(mariadb: MariaDB, strategy: Any) -> None:
    """R8: the next request would get its reply. The leftover thread gets an error at once and not after a minute."""
    running = "SELECT COUNT(*) FROM information_schema.processlist WHERE id = %s AND info LIKE '%%SLEEP%%'"
    with Database(mariadb.url(), strategy=strategy, pool_size=1) as database:
        with database.connection() as conn:
            number = conn.thread_id()
            late = Late(conn.cursor(), "SELECT SLEEP(60)")
            until(lambda: mariadb.query(running, number) == [(1,)], what="the statement to run")

        assert isinstance(late.end(), (pymysql.Error, ConnectionReturned))
        assert serves_the_next_request(database)


def test_a_statement_that_runs_at_release_costs_the_connection_of_sqlite(tmp_path: Path, strategy: Any) -> None:
    """R8: the statement is interrupted, and its locks are gone when it has ended."""
    gate = Gate()
    with Database(f"sqlite:///{tmp_path}/r8.sqlite3", strategy=strategy, pool_size=1) as database:
        with database.connection() as conn:
            conn.create_function("gate", 0, gate.wait)
            conn.execute("CREATE TABLE t (n)")
            late = Late(conn.cursor(), "INSERT INTO t SELECT gate() UNION ALL SELECT 1")
            assert gate.entered.wait(30)

        assert late.outcome is None
        assert serves_the_next_request(database)
        gate.open()
        assert isinstance(late.end(), (sqlite3.OperationalError, ConnectionReturned))
        with database.connection() as conn:
            conn.execute("INSERT INTO t VALUES (1)")  # works only if no lock is left
            assert conn.execute("SELECT COUNT(*) FROM t").fetchone() == (1,)


def test_a_statement_that_runs_at_release_costs_the_connection_of_any_driver(fakedb: FakeDB, strategy: Any) -> None:
    """R8: the cursor's proxy sees the running statement with every driver."""
    fakedb.rows[:] = [(2,)]
    gate = fakedb.block("execute")
    with Database(creator=fakedb.connect, strategy=strategy, pool_size=1) as database:
        with database.connection() as conn:
            late = Late(conn.cursor(), "UPDATE")
            assert gate.entered.wait(30)

        assert serves_the_next_request(database)
        assert fakedb.count("rollback") == 1, "none on the connection in use"
        gate.open()
        late.end()
