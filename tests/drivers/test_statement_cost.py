"""What observing a statement may cost, counted in functions entered (benchmarks/statement_cost.py measures it)."""

from __future__ import annotations

import gc
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pymysql
import pytest
from pymysql.cursors import Cursor, DictCursor, SSCursor, SSDictCursor

import wsgidb
from support.fakedb import FakeCursor, FakeDB
from support.mariadb import MariaDB
from wsgidb import Database

OURS = str(Path(wsgidb.__file__).parent)
ROWS = "SELECT 1 AS n UNION SELECT 2 ORDER BY n"
FETCHES = ("fetchone", "fetchmany", "fetchall", "__iter__")


@pytest.fixture
def conn(mariadb: MariaDB) -> Iterator[Any]:
    with Database(mariadb.url()) as database, database.connection() as conn:
        yield conn


@contextmanager
def entered() -> Iterator[list[str]]:
    """The names of wsgidb's own functions that are called in the block, in order."""
    names: list[str] = []

    def note(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            names.append(frame.f_code.co_name)

    gc.collect()  # what other tests have left is not the block's
    gc.disable()
    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield names
    finally:
        sys.setprofile(before)
        gc.enable()


@pytest.mark.server
@pytest.mark.parametrize("transaction", ["manual", "autocommit", "request"])
@pytest.mark.parametrize("sql", ["SELECT 1", "SAVEPOINT kept"])
def test_a_statement_enters_three_functions(mariadb: MariaDB, transaction: Any, sql: str) -> None:
    """The lease is compared, a statement's start and its end are seen, and nothing else of wsgidb is called."""
    with Database(mariadb.url(), transaction=transaction) as database, database.connection() as conn:
        cursor = conn.cursor()
        for _ in range(2):
            with entered() as names:
                cursor.execute(sql, ())
            assert names == ["entering", "_execute_command", "_read_query_result"]


@pytest.mark.server
@pytest.mark.parametrize("kind", [Cursor, DictCursor, SSCursor, SSDictCursor])
def test_fetching_costs_nothing(conn: Any, kind: type[Cursor]) -> None:
    """Rows come by the driver's own functions, of the class that was asked for, and enter nothing of wsgidb. Rows that
    are still on the server enter the lease, one call for each packet."""
    cursor = conn.cursor(kind)
    assert type(cursor) is kind
    assert isinstance(cursor, pymysql.cursors.Cursor)
    for name in FETCHES:
        assert name not in vars(cursor)
        assert getattr(type(cursor), name) is getattr(kind, name)
    fetches: list[Callable[[], Any]] = [cursor.fetchone, cursor.fetchmany, cursor.fetchall, lambda: list(cursor)]
    for fetch in fetches:
        cursor.execute(ROWS)
        with entered() as names:
            fetch()
        assert set(names) == ({"_read_packet"} if issubclass(kind, SSCursor) else set())
        cursor.fetchall()


@pytest.mark.server
@pytest.mark.parametrize(
    ("kind", "rows"),
    [
        (Cursor, [(1,), (2,)]),
        (SSCursor, [(1,), (2,)]),
        (DictCursor, [{"n": 1}, {"n": 2}]),
        (SSDictCursor, [{"n": 1}, {"n": 2}]),
    ],
)
@pytest.mark.parametrize("by_url", [True, False])
def test_cursor_classes_behave(mariadb: MariaDB, kind: type[Cursor], rows: list[Any], by_url: bool) -> None:
    """Whether a cursor class is asked for, or named in the url: its rows, its metadata, its end."""
    url = mariadb.url(cursorclass=kind.__name__) if by_url else mariadb.url()
    with Database(url) as database, database.connection() as conn:
        made: Any = conn.cursor() if by_url else conn.cursor(kind)
        with made as cursor:
            assert isinstance(cursor, kind)
            cursor.execute(ROWS)
            assert [column[0] for column in cursor.description] == ["n"]
            assert cursor.fetchone() == rows[0]
            assert list(cursor) == rows[1:]
            assert cursor.fetchone() is None
            cursor.execute("SELECT %s AS n", (1,))
            assert list(cursor.fetchmany(5)) == rows[:1]
            lease: object = cursor.connection
            assert lease is conn
            assert cursor.mogrify("SELECT %s", ("it's",)) == "SELECT 'it\\'s'"
        with pytest.raises(pymysql.err.ProgrammingError):
            cursor.execute(ROWS)


def test_fetching_from_sqlite_enters_two_functions(tmp_path: Path) -> None:
    """One for each row where a cursor is iterated: a cursor must not be closed while another thread fetches from it."""
    with Database(f"sqlite:///{tmp_path}/n.db") as database, database.connection() as conn:
        cursor = conn.execute(ROWS)
        assert isinstance(cursor, sqlite3.Cursor)
        assert type(cursor).__iter__ is sqlite3.Cursor.__iter__
        with entered() as names:
            assert cursor.fetchone() == (1,)
        assert names == ["fetchone", "use"]
        with entered() as names:
            assert list(cursor) == [(2,)]
        assert names == ["__next__", "__next__"]


def test_fetching_from_any_driver_enters_the_record(fakedb: FakeDB) -> None:
    """So that a fetch in another thread is known at the end of the lease; rows are the driver's own."""
    with Database(creator=fakedb.connect) as database, database.connection() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT")
        assert isinstance(cursor, FakeCursor)
        with entered() as names:
            cursor.fetchall()
        assert names == ["__getattr__", "_call", "call", "enter", "leave"]
