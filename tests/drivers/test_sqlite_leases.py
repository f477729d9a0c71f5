"""R12 on SQLite: whatever its connection hands out belongs to one lease, and what a lease sets ends with it."""

from __future__ import annotations

import gc
import sqlite3
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, ClassVar

import pytest

from wsgidb import ConnectionReturned, Database

ENTERS = "the lease's own method enters, and refuses after the lease"
BOUND = "what it returns enters, and ends with the lease"
READ = "an attribute that the lease reads and sets; what was set is put back"
TAKEN_BACK = "enters; what it sets is taken back, or costs the connection"
CLOSES = "gives the lease back"
MEMORY = "an attribute of the cursor, in memory; the cursor's class is exchanged at the end of its lease"
CONNECTION = {
    **dict.fromkeys(("backup", "commit", "getconfig", "getlimit", "interrupt", "rollback", "serialize"), ENTERS),
    **dict.fromkeys(("blobopen", "cursor", "execute", "executemany", "executescript", "iterdump"), BOUND),
    **dict.fromkeys(("autocommit", "in_transaction", "isolation_level", "total_changes"), READ),
    **dict.fromkeys(("row_factory", "text_factory"), READ),
    **dict.fromkeys(("create_aggregate", "create_collation", "create_function", "create_window_function"), TAKEN_BACK),
    **dict.fromkeys(("set_authorizer", "set_progress_handler", "set_trace_callback"), TAKEN_BACK),
    **dict.fromkeys(("setconfig", "setlimit", "deserialize"), TAKEN_BACK),
    **dict.fromkeys(("enable_load_extension", "load_extension"), TAKEN_BACK),
    "close": CLOSES,
}
CURSOR = {
    **dict.fromkeys(("execute", "executemany", "executescript", "fetchone", "fetchmany", "fetchall", "close"), ENTERS),
    **dict.fromkeys(("arraysize", "connection", "description", "lastrowid", "row_factory", "rowcount"), MEMORY),
    **dict.fromkeys(("setinputsizes", "setoutputsize"), "does nothing"),
}
BLOB = dict.fromkeys(("read", "write", "seek", "tell", "close"), ENTERS)
blobs = pytest.mark.skipif(not hasattr(sqlite3.Connection, "blobopen"), reason="Python 3.10 has no blobs")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "leases.sqlite3"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE kept (n)")
        conn.executemany("INSERT INTO kept VALUES (?)", [(bytes(4),) for _ in range(2000)])
        conn.commit()
    return path


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{path}", pool_size=1) as database:
        yield database


def write_elsewhere(path: Path) -> None:
    """A write of another process; it fails at once where anybody holds a lock."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        other.execute("UPDATE kept SET n = x'01' WHERE rowid = 1")


def public(cls: Any) -> set[str]:
    """All names but those of sqlite3's exceptions, which a connection has as attributes."""
    return {
        name for name in dir(cls) if not name.startswith("_") and not isinstance(getattr(sqlite3, name, None), type)
    }


class TestDecisions:
    """A new version of sqlite3 with a new method, about which nobody has decided, fails here."""

    def test_of_connections(self) -> None:
        assert public(sqlite3.Connection) <= set(CONNECTION)

    def test_of_cursors(self) -> None:
        assert public(sqlite3.Cursor) <= set(CURSOR)

    @blobs
    def test_of_blobs(self) -> None:
        assert public(getattr(sqlite3, "Blob")) == set(BLOB)  # noqa: B009 - Python 3.10 has none

    @pytest.mark.parametrize("name", sorted(public(sqlite3.Connection) - {"close"}))
    def test_nothing_of_a_connection_works_after_the_lease(self, database: Database, name: str) -> None:
        """Neither is it found then, nor does it work where it was kept."""
        with database.connection() as conn:
            kept: Any = getattr(conn, name)
            callable_ = callable(getattr(sqlite3.Connection, name))
        with database.connection():
            with pytest.raises(ConnectionReturned):
                getattr(conn, name)()
            if callable_:
                with pytest.raises(ConnectionReturned):
                    kept()

    @pytest.mark.parametrize("name", sorted(public(sqlite3.Cursor) - {"close"}))
    def test_nothing_of_a_cursor_works_after_the_lease(self, database: Database, name: str) -> None:
        """A bound method that was kept does not reach the next request's connection."""
        with database.connection() as conn:
            cursor = conn.execute("SELECT n FROM kept")
            kept: Any = getattr(cursor, name)
        with database.connection():
            with pytest.raises(ConnectionReturned):
                getattr(cursor, name)
            if CURSOR[name] == ENTERS:
                arguments: dict[str, Any] = {
                    "execute": ("SELECT 1",),
                    "executemany": ("SELECT 1", []),
                    "executescript": ("",),
                }
                with pytest.raises(ConnectionReturned):
                    kept(*arguments.get(name, ()))


class TestBlobs:
    """sqlite3's blobs hold the connection itself: a leftover one would write into the next request's transaction."""

    pytestmark: ClassVar = [blobs]

    def test_they_do_what_the_drivers_do(self, database: Database) -> None:
        with database.connection() as conn, conn.blobopen("kept", "n", 1) as blob:
            assert isinstance(blob, getattr(sqlite3, "Blob"))  # noqa: B009
            assert len(blob) == 4
            blob.write(b"ab")
            assert blob.tell() == 2
            blob.seek(0)
            assert blob.read(2) == b"ab"
            blob[3] = 7
            assert blob[0:4] == b"ab\0\7"
            blob.close()
            with pytest.raises(sqlite3.ProgrammingError):
                blob.read()

    @pytest.mark.parametrize(
        "use",
        [
            lambda blob: blob.write(b"ab"),
            lambda blob: blob.read(),
            lambda blob: blob.seek(0),
            lambda blob: blob.tell(),
            lambda blob: blob.__setitem__(0, 1),
            lambda blob: blob[0],
            lambda blob: len(blob),
            lambda blob: blob.__enter__(),
        ],
    )
    def test_they_end_with_the_lease(self, database: Database, use: Callable[[Any], object]) -> None:
        """Closing one again is harmless."""
        with database.connection() as conn:
            blob = conn.blobopen("kept", "n", 1)
        with database.connection():
            with pytest.raises(ConnectionReturned):
                use(blob)
            blob.close()
            blob.__exit__(None, None, None)

    @pytest.mark.parametrize("readonly", [True, False])
    def test_one_that_is_left_open_leaves_no_lock(self, database: Database, path: Path, readonly: bool) -> None:
        """C3: it holds a lock and a snapshot, as an unfinished SELECT does."""
        with database.connection() as conn:
            blob = conn.blobopen("kept", "n", 2, readonly=readonly)
            blob.read(1)
        write_elsewhere(path)
        assert database.stats().discards == {}

    def test_one_that_is_left_open_does_not_make_the_commit_fail(self, path: Path) -> None:
        """R13: SQLite would answer that statements are in progress."""
        with Database(f"sqlite:///{path}", transaction="request") as database:
            with database.connection() as conn:
                blob = conn.blobopen("kept", "n", 2)
                blob.write(b"kept")
            with database.connection() as conn:
                assert conn.execute("SELECT n FROM kept WHERE rowid = 2").fetchone() == (b"kept",)
            assert database.stats().discards == {}


class TestDumps:
    def test_a_dump_ends_with_the_lease(self, database: Database, path: Path) -> None:
        """It reads the rows as they are asked for, and leaves no lock."""
        with database.connection() as conn:
            assert sum("INSERT" in line for line in conn.iterdump()) == 2000
            dump = conn.iterdump()
            while "INSERT" not in next(dump):
                pass
        write_elsewhere(path)
        with database.connection(), pytest.raises(ConnectionReturned):
            next(dump)
        assert database.stats().discards == {}


def test_an_unfinished_statement_does_not_decide_the_commit(path: Path) -> None:
    """R13: the request's cursors end first. SQLite refuses a COMMIT while a RETURNING is half read."""
    for sql in (
        "UPDATE kept SET n = 'new' RETURNING n",
        "SELECT n FROM kept",
        "INSERT INTO kept VALUES (1), (2) RETURNING n",
    ):
        with Database(f"sqlite:///{path}", transaction="request", pool_size=1) as database:
            with database.connection() as conn:
                conn.execute("DELETE FROM kept WHERE rowid = 3")
                cursor = conn.execute(sql)
                cursor.fetchone()
            with database.connection() as conn:
                assert conn.execute("SELECT 1 FROM kept WHERE rowid = 3").fetchall() == []
            assert (database.stats().connects, database.stats().discards) == (1, {})


def test_a_statement_is_interrupted_from_another_thread(database: Database) -> None:
    """conn.interrupt() must not wait for the statement that it is to end."""
    running = threading.Event()
    with database.connection() as conn:
        conn.create_function("started", 0, running.set)
        other = threading.Thread(target=lambda: (running.wait(30), conn.interrupt()))
        other.start()
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            conn.execute("WITH RECURSIVE n(x) AS (SELECT started() UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n")
        other.join(30)
        assert conn.execute("SELECT 1").fetchone() == (1,)
    assert database.stats().discards == {}


def mine(*args: Any) -> str:
    return "mine"


class Mine:
    """An aggregate and a window function."""

    def step(self, *args: Any) -> None:
        pass

    def inverse(self, *args: Any) -> None:
        pass

    def value(self) -> str:
        return "mine"

    finalize = value


def same(one: str, other: str) -> int:
    return 0


class TestHooks:
    """C3: a function or a callback of one request is not called in another one."""

    CALLS: ClassVar[dict[str, tuple[Callable[[Any], Any], str]]] = {
        "create_function": (lambda conn: conn.create_function("mine", 1, mine), "SELECT mine(1)"),
        "create_aggregate": (lambda conn: conn.create_aggregate("mine", 1, Mine), "SELECT mine(1)"),
        "create_window_function": (lambda conn: conn.create_window_function("mine", 1, Mine), "SELECT mine(1)"),
        "create_collation": (lambda conn: conn.create_collation("same", same), "SELECT 'a' = 'b' COLLATE same"),
    }

    @pytest.mark.parametrize("name", [name for name in CALLS if hasattr(sqlite3.Connection, name)])
    def test_what_is_called_by_name(self, database: Database, name: str) -> None:
        """In the next request there is no such function."""
        register, sql = self.CALLS[name]
        with database.connection() as conn:
            register(conn)
            assert conn.execute(sql).fetchone() in [("mine",), (1,)]
        with database.connection() as conn:
            with pytest.raises(sqlite3.OperationalError):
                conn.execute(sql).fetchone()
            register(conn)
            assert conn.execute(sql).fetchone() in [("mine",), (1,)]
        assert (database.stats().connects, database.stats().discards) == (1, {})

    REPLACING: ClassVar[dict[str, Callable[[Any], Any]]] = {
        "create_function": lambda conn: conn.create_function("Upper", 1, mine),
        "create_aggregate": lambda conn: conn.create_aggregate("sum", 1, Mine),
        "create_window_function": lambda conn: conn.create_window_function("sum", 1, Mine),
        "create_collation": lambda conn: conn.create_collation("nocase", same),
    }

    @pytest.mark.parametrize("name", [name for name in REPLACING if hasattr(sqlite3.Connection, name)])
    def test_what_replaces_something_of_sqlites_own(self, database: Database, name: str) -> None:
        """It cannot be had back, so that this costs the connection."""
        with database.connection() as conn:
            self.REPLACING[name](conn)
        with database.connection() as conn:
            assert conn.execute("SELECT upper('a'), sum(1), 'a' = 'b' COLLATE nocase").fetchone() == ("A", 1, 0)
        (reason,) = database.stats().discards
        assert reason.startswith(f"{name}() replaced a ")

    @pytest.mark.parametrize("name", ["set_authorizer", "set_progress_handler", "set_trace_callback"])
    def test_what_is_called_for_every_statement(self, database: Database, name: str) -> None:
        """Also where it would have refused the rollback at the end."""
        calls: list[Any] = []
        refusing = False

        def callback(*args: Any) -> int:
            calls.append(args)
            return int(refusing)

        with database.connection() as conn:
            conn.execute("DELETE FROM kept")
            getattr(conn, name)(callback, *([1] if name == "set_progress_handler" else []))
            conn.execute("SELECT count(*) FROM kept").fetchall()
            assert calls
            refusing = True
            calls.clear()
        with database.connection() as conn:
            assert conn.execute("SELECT count(*) FROM kept").fetchone() == (2000,)
        if name == "set_authorizer" and sys.version_info < (3, 11):
            assert len(database.stats().discards) == 1  # nothing can undo it
        else:
            assert calls == []
            assert database.stats().connects == 1

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="from Python 3.11 on")
    def test_a_limit(self, database: Database) -> None:
        category: int = getattr(sqlite3, "SQLITE_LIMIT_SQL_LENGTH")  # noqa: B009
        with database.connection() as conn:
            before = conn.getlimit(category)
            for limit in (100, 50):
                conn.setlimit(category, limit)
        with database.connection() as conn:
            assert conn.getlimit(category) == before
        assert database.stats().connects == 1

    @pytest.mark.skipif(sys.version_info < (3, 12), reason="from Python 3.12 on")
    def test_a_switch(self, database: Database) -> None:
        switch: int = getattr(sqlite3, "SQLITE_DBCONFIG_ENABLE_FKEY")  # noqa: B009
        with database.connection() as conn:
            conn.setconfig(switch, False)
            conn.setconfig(switch, False)
        with database.connection() as conn:
            assert conn.getconfig(switch) is True
        assert database.stats().connects == 1

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="from Python 3.11 on")
    def test_another_database_in_place_of_the_file(self, database: Database) -> None:
        with database.connection() as conn:
            data = conn.serialize()
            conn.deserialize(data)
            conn.execute("DELETE FROM kept")
            conn.commit()
        with database.connection() as conn:
            assert conn.execute("SELECT count(*) FROM kept").fetchone() == (2000,)
        (reason,) = database.stats().discards
        assert reason.startswith("deserialize() ")

    @pytest.mark.skipif(not hasattr(sqlite3.Connection, "enable_load_extension"), reason="Python was built without it")
    def test_extensions(self, database: Database) -> None:
        """What one has changed is unknown, and it cannot be unloaded."""
        with database.connection() as conn:
            conn.enable_load_extension(True)
        (reason,) = database.stats().discards
        assert reason.startswith("enable_load_extension() ")

    def test_an_attribute_that_the_driver_refuses_costs_nothing(self, database: Database) -> None:
        """C3: there is nothing to put back."""
        with database.connection() as conn:
            for name, value in (("isolation_level", "NONSENSE"), ("total_changes", 5), ("in_transaction", True)):
                with pytest.raises((AttributeError, ValueError)):
                    setattr(conn, name, value)
        with database.connection() as conn:
            assert conn.isolation_level == ""
        assert (database.stats().connects, database.stats().discards) == (1, {})


class TestCursorClasses:
    """A handler's own class works whatever it is, and is not kept."""

    def test_a_class_made_in_a_request_is_garbage_after_it(self, database: Database) -> None:
        def request() -> weakref.ref[Any]:
            class Mine(sqlite3.Cursor):
                pass

            with database.connection() as conn:
                cursor = conn.cursor(Mine)
                assert isinstance(cursor, Mine)
                assert type(cursor) is type(conn.cursor(Mine))
            with pytest.raises(ConnectionReturned):
                cursor.execute("SELECT 1")
            return weakref.ref(Mine)

        gone = request()
        gc.collect()
        assert gone() is None

    def test_a_class_that_takes_an_argument_when_it_is_subclassed(self, path: Path) -> None:
        """R13: nothing of it runs, so that a committed request stays one."""
        subclasses = list[str]()

        class Picky(sqlite3.Cursor):
            def __init_subclass__(cls, *, table: str) -> None:
                subclasses.append(table)

        with Database(f"sqlite:///{path}", transaction="request") as database:
            with database.connection() as conn:
                cursor = conn.cursor(Picky)
                cursor.execute("DELETE FROM kept")
            assert database.stats().discards == {}
            with database.connection() as conn:
                assert conn.execute("SELECT count(*) FROM kept").fetchone() == (0,)
        assert subclasses == []
        with suppress(ConnectionReturned):
            cursor.close()
