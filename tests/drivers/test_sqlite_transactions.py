"""Where SQLite's transactions begin, whatever sqlite3 makes of a statement, and what runs when a lease ends."""

from __future__ import annotations

import logging
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.waiting import until
from wsgidb import ConnectionReturned, Database, DatabaseUnavailable

ONE_ROW_OF_NO_END = """
    WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n WHERE x < 2 OR beyond(x)
"""
MODES = ("manual", "request")
WRITES = (
    "INSERT INTO kept VALUES (1)",
    "WITH one(n) AS (SELECT 1) INSERT INTO kept SELECT n FROM one",
    "; INSERT INTO kept VALUES (1)",
    "/* a; comment */ INSERT INTO kept VALUES (1)",
    "-- a comment\nINSERT INTO kept VALUES (1)",
    "REPLACE INTO kept VALUES (1)",
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "kept.sqlite3"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE kept (n INTEGER)")
    return path


def rows(path: Path) -> list[Any]:
    """What everybody else sees."""
    with closing(sqlite3.connect(path, timeout=0)) as conn:
        return [n for (n,) in conn.execute("SELECT n FROM kept ORDER BY n")]


def fails(database: Database, *statements: str) -> None:
    """A request that runs these and then fails."""

    def request() -> None:
        with database.connection() as conn:
            for sql in statements:
                conn.execute(sql)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        request()


@pytest.mark.parametrize("transaction", MODES)
@pytest.mark.parametrize("sql", WRITES)
def test_every_write_is_in_a_transaction(path: Path, transaction: Any, sql: str) -> None:
    """R2: sqlite3 begins one for a first word of INSERT, UPDATE, DELETE and REPLACE only."""
    with Database(f"sqlite:///{path}", transaction=transaction) as database:
        fails(database, sql)
        assert rows(path) == []
        with database.connection() as conn:
            conn.execute(sql)
            conn.commit()
        assert rows(path) == [1]


def test_autocommit_begins_none(path: Path) -> None:
    with Database(f"sqlite:///{path}", transaction="autocommit") as database:
        fails(database, WRITES[1])
    assert rows(path) == [1]


@pytest.mark.parametrize(
    ("transaction", "stands"), [("request", False), ("manual", True), ("autocommit", True)]
)
@pytest.mark.parametrize(
    "statements",
    [("CREATE TABLE another (n)", "INSERT INTO another VALUES (1)"), ("SAVEPOINT a", WRITES[0], "RELEASE a")],
)
def test_what_stands_by_itself(path: Path, transaction: Any, stands: bool, statements: tuple[str, ...]) -> None:
    """R9: with request all of the request is one transaction; else DDL, and a savepoint that was released, stand, as
    sqlite3 has it."""
    with Database(f"sqlite:///{path}", transaction=transaction) as database:
        fails(database, *statements)
    with closing(sqlite3.connect(path)) as conn:
        tables = conn.execute("SELECT name FROM sqlite_master WHERE name = 'another'").fetchall()
    assert bool(tables or rows(path)) is stands


@pytest.mark.parametrize("transaction", MODES)
@pytest.mark.parametrize("sql", ["SELECT n FROM kept", "WITH a AS (SELECT n FROM kept) SELECT n FROM a", "VACUUM"])
def test_what_begins_none(path: Path, sql: str, transaction: Any) -> None:
    """C4: reading opens no transaction, and VACUUM cannot be in one."""
    with Database(f"sqlite:///{path}", transaction=transaction) as database, database.connection() as conn:
        conn.execute(sql).fetchall()
        assert not conn.in_transaction


@pytest.mark.parametrize("transaction", MODES)
@pytest.mark.parametrize("sql", ["INSERT INTO nowhere VALUES (1)", "INSERT INTO kept VALUES (?)", "NONSENSE"])
def test_a_statement_that_fails_leaves_no_transaction(path: Path, transaction: Any, sql: str) -> None:
    """As sqlite3 does it, which begins once it has understood the statement."""
    with Database(f"sqlite:///{path}", transaction=transaction) as database, database.connection() as conn:
        with pytest.raises(sqlite3.Error):
            conn.execute(sql)
        assert not conn.in_transaction


def test_what_was_written_before_an_error_stays_in_the_transaction(path: Path) -> None:
    """Many rows, of which the last one fails."""
    with Database(f"sqlite:///{path}") as database, database.connection() as conn:
        with pytest.raises(sqlite3.Error):
            conn.executemany("INSERT INTO kept VALUES (?)", [(1,), (object(),)])
        assert conn.in_transaction
        conn.commit()
    assert rows(path) == [1]


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "blobopen"), reason="Python 3.10 has no blobs")
@pytest.mark.parametrize("readonly", [False, True])
def test_a_blob_is_written_in_the_transaction(path: Path, readonly: bool) -> None:
    """R9: like a row."""
    with Database(f"sqlite:///{path}", transaction="request") as database:
        with database.connection() as conn:
            conn.execute("INSERT INTO kept VALUES (zeroblob(2))")

        def request() -> None:
            with database.connection() as conn:
                with conn.blobopen("kept", "n", 1, readonly=readonly) as blob:
                    assert conn.in_transaction is not readonly
                    if not readonly:
                        blob.write(b"ab")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            request()
    assert rows(path) == [b"\0\0"]


def test_the_isolation_level_of_a_handler_counts(path: Path) -> None:
    with Database(f"sqlite:///{path}", transaction="request") as database, database.connection() as conn:
        conn.isolation_level = "IMMEDIATE"
        conn.execute("CREATE TABLE another (n)")
        other = sqlite3.connect(path, timeout=0)
        with closing(other), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")


def test_a_script_begins_by_itself(path: Path) -> None:
    """It would only be committed at once, and may have to wait for a lock before."""
    with Database(f"sqlite:///{path}?timeout=0", transaction="request") as database, database.connection() as conn:
        conn.isolation_level = "IMMEDIATE"
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            conn.executescript("SAVEPOINT a; RELEASE a")


class TestRunningAtRelease:
    """R8: another thread is in the middle of something when the lease ends."""

    @staticmethod
    def script(conn: Any) -> None:
        conn.executescript("SELECT wait(1); BEGIN; INSERT INTO kept VALUES (100)")

    @staticmethod
    def script_in_a_transaction(conn: Any) -> None:
        conn.executescript("BEGIN; INSERT INTO kept VALUES (100); SELECT wait(1)")

    @staticmethod
    def statement(conn: Any) -> None:
        conn.execute("INSERT INTO kept SELECT wait(100)")

    @pytest.mark.parametrize("run", [script, script_in_a_transaction, statement])
    def test_a_statement_or_script(self, path: Path, run: Any) -> None:
        """The next request has another connection, at once, and nothing of the first one's is committed by it."""
        entered, leave = threading.Event(), threading.Event()

        def wait(n: int) -> int:
            entered.set()
            leave.wait(30)
            return n

        with Database(f"sqlite:///{path}?timeout=10", pool_size=1) as database:
            with database.connection() as conn:
                raw = conn.driver_connection
                conn.create_function("wait", 1, wait)
                thread = threading.Thread(target=_swallowing(getattr(run, "__func__", run)), args=(conn,))
                thread.start()
                assert entered.wait(30)
            assert database.stats().discards == {"in the middle of a statement": 1}
            with database.connection() as conn:
                assert not conn.in_transaction
                leave.set()
                thread.join(30)
                assert is_closed(raw)
                conn.execute("INSERT INTO kept VALUES (2)")
                conn.commit()
        assert rows(path) == [2]

    def test_a_commit_that_waits_for_a_lock(self, path: Path) -> None:
        """SQLite says of it that no transaction is open; when it fails, there is one."""
        with closing(sqlite3.connect(path, check_same_thread=False)) as other:
            other.executemany("INSERT INTO kept VALUES (?)", [(n,) for n in range(9)])
            other.commit()
            reading = other.execute("SELECT n FROM kept")
            reading.fetchone()  # a reader's lock, for which a commit waits
            with Database(f"sqlite:///{path}?timeout=3", pool_size=1) as database:
                with database.connection() as conn:
                    raw = conn.driver_connection
                    conn.execute("INSERT INTO kept VALUES (100)")
                    thread = threading.Thread(target=_swallowing(lambda conn: conn.commit()), args=(conn,))
                    thread.start()
                    until(lambda: raw.seen.users)
                thread.join(30)
                assert database.stats().discards == {"in the middle of a statement": 1}
                reading.close()
                with database.connection() as conn:
                    assert not conn.in_transaction
                    conn.execute("INSERT INTO kept VALUES (2)")
                    conn.commit()
        assert 100 not in rows(path)

    @pytest.mark.parametrize("how", ["fetchall", "fetchone", "fetchmany", "__next__"])
    def test_a_fetch(self, path: Path, how: str) -> None:
        """To close its cursor meanwhile would end the process, since Python 3.12."""
        begun = threading.Event()

        def fetch(conn: Any) -> None:
            cursor = conn.execute(ONE_ROW_OF_NO_END)
            while True:
                getattr(cursor, how)()

        with Database(f"sqlite:///{path}", pool_size=1) as database:
            with database.connection() as conn:
                raw = conn.driver_connection
                conn.create_function("beyond", 1, lambda x: begun.set())  # which says NULL: no row
                told: list[BaseException] = []
                thread = threading.Thread(target=_swallowing(fetch, told), args=(conn,), daemon=True)
                thread.start()
                assert begun.wait(30)
            thread.join(30)
            assert not thread.is_alive()
            assert len(told) == 1
            assert is_closed(raw)
            assert database.stats().discards == {"in the middle of a statement": 1}
            with database.connection() as conn:
                assert conn.execute("SELECT n FROM kept").fetchall() == []

    @pytest.mark.parametrize("known", [True, False])
    def test_with_rows_left_unread(self, path: Path, known: bool) -> None:
        """Another cursor's unfinished SELECT holds a lock beyond the connection's close: it is closed before. Where
        it was made behind wsgidb's back, the connection is closed all the same."""
        entered, leave = threading.Event(), threading.Event()

        def wait() -> int:
            entered.set()
            leave.wait(30)
            return 1

        with closing(sqlite3.connect(path)) as other:
            other.executemany("INSERT INTO kept VALUES (?)", [(n,) for n in range(9)])
            other.commit()
        with Database(f"sqlite:///{path}?timeout=0", pool_size=1) as database:
            with database.connection() as conn:
                conn.create_function("wait", 0, wait)
                conn.execute("UPDATE kept SET n = 100 WHERE n = 1")
                raw = conn.driver_connection
                unread = conn.cursor() if known else sqlite3.Cursor(raw)
                unread.execute("SELECT n FROM kept").fetchone()
                told: list[BaseException] = []
                slow = _swallowing(lambda conn: conn.execute("SELECT wait()"), told)
                running = threading.Thread(target=slow, args=(conn,))
                running.start()
                assert entered.wait(30)
            leave.set()
            running.join(30)
            assert is_closed(raw)
            if not known:
                return
            with database.connection() as conn:
                conn.execute("INSERT INTO kept VALUES (200)")
                conn.commit()
            with pytest.raises(ConnectionReturned):
                unread.fetchone()
        assert 100 not in rows(path)
        assert 200 in rows(path)

    def test_two_at_once(self, path: Path) -> None:
        """Not one thread at a time, as is documented: then the one that ends first must not hide the other."""
        first, second, leave = threading.Event(), threading.Event(), threading.Event()

        def wait(n: int) -> int:
            (first, second)[n].set()
            (second if n == 0 else leave).wait(30)
            return n

        with Database(f"sqlite:///{path}", pool_size=1) as database:
            with database.connection() as conn:
                one, other = (threading.Thread(target=_swallowing(_many(wait, n)), args=(conn,)) for n in (0, 1))
                one.start()
                assert first.wait(30)
                other.start()
                one.join(30)
            assert database.stats().discards == {"in the middle of a statement": 1}
            leave.set()
            other.join(30)

    @pytest.mark.parametrize("read", [list, lambda cursor: [cursor.fetchone() for _ in range(4)]])
    def test_rows_that_come_too_late(self, path: Path, read: Callable[[Any], object]) -> None:
        """R8: who iterates is told that the lease is over, and not that a database is closed."""
        entered, leave = threading.Event(), threading.Event()

        def wait(n: int) -> int:
            if n == 2:
                entered.set()
                leave.wait(30)
            return n

        told: list[BaseException] = []
        with Database(f"sqlite:///{path}", pool_size=1) as database:
            with database.connection() as conn:
                conn.create_function("wait", 1, wait)
                cursor = conn.execute("SELECT wait(column1) FROM (VALUES (1), (2), (3), (4))")
                thread = threading.Thread(target=_swallowing(read, told), args=(cursor,))
                thread.start()
                assert entered.wait(30)
            leave.set()
            thread.join(30)
        assert len(told) == 1
        assert isinstance(told[0], (ConnectionReturned, sqlite3.OperationalError))
        assert "closed database" not in str(told[0])
        with pytest.raises(ConnectionReturned):
            cursor.rowcount  # noqa: B018 - a use of it

    @pytest.mark.parametrize(
        "use",
        [
            lambda conn, cursor: conn.execute("SELECT 1"),
            lambda conn, cursor: conn.commit(),
            lambda conn, cursor: cursor.execute("INSERT INTO kept VALUES (1)"),
            lambda conn, cursor: cursor.executemany("INSERT INTO kept VALUES (?)", [(1,)]),
            lambda conn, cursor: cursor.executescript("INSERT INTO kept VALUES (1)"),
            lambda conn, cursor: cursor.fetchone(),
            lambda conn, cursor: cursor.fetchmany(2),
            lambda conn, cursor: cursor.fetchall(),
            lambda conn, cursor: next(cursor),
        ],
    )
    def test_what_begins_too_late_is_refused(self, path: Path, use: Callable[[Any, Any], object]) -> None:
        """R12: a thread may be about to begin when the lease ends, with a cursor that was not ended yet."""
        with Database(f"sqlite:///{path}") as database, database.connection() as conn:
            raw = conn.driver_connection
            cursor = conn.execute("SELECT 1 UNION SELECT 2")
            raw.seen.end_lease()
            with pytest.raises(ConnectionReturned):
                use(conn, cursor)
            raw.seen.lease = object()  # the next lease
            with pytest.raises(ConnectionReturned):
                use(conn, cursor)
            cursor.close()  # harmless, and does nothing
            assert sqlite3.Cursor.fetchone(cursor) == (1,)
            assert raw.seen.users == []
        assert rows(path) == []


def is_closed(raw: Any) -> bool:
    """Whether a driver's connection is, though somebody has it still."""
    try:
        raw.total_changes  # noqa: B018 - a property that asks SQLite
    except sqlite3.ProgrammingError as error:
        return "closed" in str(error)
    return False


def _many(wait: Callable[[int], int], n: int) -> Callable[[Any], object]:
    """A statement that runs for as long as its parameters are not there."""
    return lambda conn: conn.executemany("INSERT INTO kept VALUES (?)", ((wait(n),) for _ in range(1)))


def _swallowing(run: Callable[[Any], object], told: list[BaseException] | None = None) -> Callable[[Any], None]:
    def swallow(conn: Any) -> None:
        try:
            run(conn)
        except (sqlite3.Error, ConnectionReturned) as error:
            if told is not None:
                told.append(error)

    return swallow


@pytest.mark.parametrize("end", ["closed", "in use"])
def test_a_lost_write_is_told_of_a_connection_that_is_discarded(
    path: Path, caplog: pytest.LogCaptureFixture, end: str
) -> None:
    """The handler has closed the driver's own connection, or has left a thread that uses it."""
    with Database(f"sqlite:///{path}", pool_size=1) as database, database.connection() as conn:
        conn.execute("INSERT INTO kept VALUES (1), (2)")
        raw = conn.driver_connection
        if end == "closed":
            raw.close()
        else:
            raw.seen.enter(conn)
    if end == "in use":
        raw.seen.leave(conn)
    assert rows(path) == []
    reason = {"closed": "closed by the application", "in use": "in the middle of a statement"}[end]
    warnings = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warnings == [
        "outside of a request: rolled back an uncommitted write of 2 row(s)",
        f"sqlite:///{path}: connection discarded: {reason}",
    ]


class TestFile:
    """C2: what is written to a file that is no longer there is lost, and SQLite says nothing of it."""

    @pytest.mark.parametrize("journal", ["delete", "wal"])
    def test_replaced(self, path: Path, journal: str) -> None:
        with closing(sqlite3.connect(path)) as conn:
            conn.execute(f"PRAGMA journal_mode = {journal}")
        with Database(f"sqlite:///{path}", pool_size=1) as database:
            with database.connection() as conn:
                conn.execute("INSERT INTO kept VALUES (1)")
                conn.commit()
            other = path.with_name("other")
            shutil.copyfile(path, other)
            os.replace(other, path)
            for companion in ("-wal", "-shm"):
                path.with_name(path.name + companion).unlink(missing_ok=True)
            with database.connection() as conn:
                conn.execute("INSERT INTO kept VALUES (2)")
                conn.commit()
            assert database.stats().discards == {"check failed": 1}
        assert 2 in rows(path)

    def test_removed(self, path: Path) -> None:
        """The next request finds an empty database, rather than one that nobody else sees."""
        with Database(f"sqlite:///{path}", pool_size=1) as database:
            database.check()
            path.unlink()
            with database.connection() as conn, pytest.raises(sqlite3.OperationalError, match="no such table"):
                conn.execute("SELECT n FROM kept")

    def test_gone_while_connecting(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """R1: a 503 like any failed connect."""
        with Database(f"sqlite:///{path}") as database:
            monkeypatch.setattr("wsgidb.drivers.sqlite.driver._identity", lambda path: os.stat("/nowhere"))
            with pytest.raises(DatabaseUnavailable), database.connection():
                pass

    def test_read_only(self, path: Path) -> None:
        """discard_read_only: a connection that cannot write is not kept, whatever the handler makes of the error."""
        with Database(f"sqlite:///{path}", pool_size=1) as database:
            with database.connection() as conn:
                conn.execute("PRAGMA query_only = 1")
                with pytest.raises(sqlite3.OperationalError, match="readonly"):
                    conn.execute("INSERT INTO kept VALUES (1)")
            assert database.stats().discards == {"server read-only or not ready": 1}
            with database.connection() as conn:
                conn.execute("INSERT INTO kept VALUES (2)")
                conn.commit()
        assert rows(path) == [2]

    def test_other_errors_keep_it(self, path: Path) -> None:
        with Database(f"sqlite:///{path}", pool_size=1) as database:
            for sql in ("SELECT nothing", "INSERT INTO nowhere VALUES (1)"):
                with database.connection() as conn, pytest.raises(sqlite3.OperationalError):
                    conn.execute(sql)
            assert (database.stats().connects, database.stats().discards) == (1, {})


def test_a_cursor_of_a_function_is_refused(path: Path) -> None:
    """R8: what it makes could not end with its lease."""
    with (
        Database(f"sqlite:///{path}") as database,
        database.connection() as conn,
        pytest.raises(TypeError, match="takes a class"),
    ):
        conn.cursor(lambda raw: sqlite3.Cursor(raw))
