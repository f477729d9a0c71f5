"""What is SQLite's own: a file in place of a server, locks in place of a network."""

from __future__ import annotations

import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.clock import Clock
from wsgidb import ConfigError, ConnectionReturned, Database, DatabaseUnavailable

ENDLESS = "WITH RECURSIVE n(x) AS (SELECT started() UNION ALL SELECT x + 1 FROM n) SELECT max(x) FROM n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A database with 1,000 towns and a table of their sights."""
    path = tmp_path / "towns.db"
    with closing(sqlite3.connect(path)) as conn:
        conn.execute("CREATE TABLE town (id INTEGER PRIMARY KEY, name TEXT)")
        conn.execute("CREATE TABLE sight (town INTEGER NOT NULL REFERENCES town)")
        conn.executemany("INSERT INTO town VALUES (?, ?)", [(number, f"Town {number}") for number in range(1000)])
        conn.commit()
    return path


@pytest.fixture
def db(path: Path, clock: Clock) -> Iterator[Database]:
    with Database(f"sqlite:///{path}", pool_size=1, clock=clock) as db:
        yield db


def write_elsewhere(path: Path) -> None:
    """A write of another process; it fails at once where anybody holds a lock."""
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        other.execute("UPDATE town SET name = 'other' WHERE id = 0")


def pragma(db: Database, name: str) -> Any:
    with db.connection() as conn:
        return conn.execute(f"PRAGMA {name}").fetchone()[0]


def test_foreign_keys_are_enforced(db: Database) -> None:
    """SQLite leaves them unchecked unless told; wsgidb tells."""
    with db.connection() as conn, pytest.raises(sqlite3.IntegrityError):
        conn.execute("INSERT INTO sight VALUES (5000)")


def test_foreign_keys_can_be_switched_off(path: Path) -> None:
    """The url may say otherwise."""
    with Database(f"sqlite:///{path}?foreign_keys=off") as db:
        assert pragma(db, "foreign_keys") == 0


@pytest.mark.parametrize(("query", "milliseconds"), [("", 5000), ("?timeout=0.25", 250), ("?timeout=0", 0)])
def test_busy_timeout(path: Path, query: str, milliseconds: int) -> None:
    """How long to wait for another connection's lock: five seconds, or what the url says."""
    with Database(f"sqlite:///{path}{query}") as db:
        assert pragma(db, "busy_timeout") == milliseconds


def test_url_values_are_converted(path: Path) -> None:
    """The url's values reach sqlite3 in its own types."""
    sqlite3.register_converter("shouted", lambda text: text.decode().upper())
    url = f"sqlite:///{path}?detect_types={sqlite3.PARSE_COLNAMES}&cached_statements=7"
    with Database(url) as db, db.connection() as conn:
        assert conn.execute('SELECT name AS "name [shouted]" FROM town').fetchone() == ("TOWN 0",)


@pytest.mark.parametrize("query", ["timeout=soon", "foreign_keys=perhaps", "detect_types=x", "cached_statements=1.5"])
def test_bad_values(query: str) -> None:
    """A bad value is a ConfigError at start-up that names it."""
    with pytest.raises(ConfigError, match=query.replace("=", ".*")):
        Database(f"sqlite:////tmp/x.db?{query}")


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("sqlite:///:memory:", "use a file"),
        ("sqlite:///file:x?mode=memory", "use a file"),
        ("sqlite://", "names no file"),
        ("sqlite:///", "names no file"),
        ("sqlite://host/x.db", "names no file"),
        ("sqlite:////tmp/x.db?isolation_level=DEFERRED", "use wsgidb's option transaction"),
        ("sqlite:////tmp/x.db?autocommit=1", "use wsgidb's option transaction"),
        ("sqlite:////tmp/x.db?check_same_thread=0", "wsgidb needs it"),
        ("sqlite:////tmp/x.db?time_out=1", "did you mean 'timeout'"),
    ],
)
def test_refused_urls(url: str, hint: str) -> None:
    """What would be another, empty database for each connection, or contradicts an option, is a ConfigError."""
    with pytest.raises(ConfigError, match=hint):
        Database(url)


def test_unfinished_select_frees_its_lock(db: Database, path: Path) -> None:
    """C3: a SELECT that was not read to its end holds lock and snapshot, though in_transaction says no."""
    with db.connection() as conn:
        rows = conn.execute("SELECT name FROM town ORDER BY id")
        assert next(rows) == ("Town 0",)
    write_elsewhere(path)
    with db.connection() as conn:
        assert conn.execute("SELECT name FROM town ORDER BY id").fetchone() == ("other",)
    assert db.stats().connects == 1


def test_cursor_of_execute_ends_with_the_lease(db: Database) -> None:
    """R8: the cursors that the connection makes by itself die with their lease, like all others."""
    with db.connection() as conn:
        cursors = [conn.cursor(), conn.execute("SELECT 1"), conn.executescript("SELECT 1")]
        cursors.append(conn.executemany("UPDATE town SET name = ?", []))
        assert all(cursor.connection is conn for cursor in cursors)
    for cursor in cursors:
        with pytest.raises(ConnectionReturned):
            cursor.fetchone()


def test_own_cursor_class(db: Database) -> None:
    """A handler's own cursor class does what it does, and ends with the lease."""

    class Shouting(sqlite3.Cursor):
        def shout(self) -> str:
            return str(self.fetchone()[0]).upper()

    with db.connection() as conn:
        cursor = conn.cursor(Shouting)
        assert isinstance(cursor, Shouting)
        assert cursor.execute("SELECT name FROM town").shout() == "TOWN 0"
    with pytest.raises(ConnectionReturned):
        cursor.shout()


def test_own_cursor_class_that_runs_a_statement_when_it_is_made(db: Database) -> None:
    """It is ours from its first moment."""

    class Prepared(sqlite3.Cursor):
        def __init__(self, connection: Any) -> None:
            super().__init__(connection)
            self.execute("SELECT name FROM town")

    with db.connection() as conn:
        assert conn.cursor(Prepared).fetchone() == ("Town 0",)


def test_row_factory_is_put_back(db: Database) -> None:
    """C3: what a handler sets on its connection is nobody else's."""
    for attribute, value in (("row_factory", sqlite3.Row), ("text_factory", bytes)):
        with db.connection() as conn:
            before = getattr(conn, attribute)
            setattr(conn, attribute, value)
            conn.execute("SELECT name FROM town").fetchone()
        with db.connection() as conn:
            assert getattr(conn, attribute) is before
            assert conn.execute("SELECT name FROM town").fetchone() == ("Town 0",)
    assert db.stats().connects == 1


@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
def test_changed_autocommit_is_put_back(path: Path, transaction: Any) -> None:
    """C3: however a handler switched autocommit, and whatever it left open, the next write is as configured."""
    changes: list[tuple[str, Any]] = [("isolation_level", None), ("isolation_level", "IMMEDIATE")]
    if sys.version_info >= (3, 12):
        changes += [("autocommit", True), ("autocommit", False)]
    for attribute, value in changes:
        with Database(f"sqlite:///{path}", transaction=transaction) as db:
            with db.connection() as conn:
                setattr(conn, attribute, value)
                if not conn.in_transaction:
                    conn.execute("BEGIN")
                conn.execute("UPDATE town SET name = 'lost' WHERE id = 1")
            write_elsewhere(path)
            with db.connection() as conn:
                assert conn.execute("SELECT name FROM town WHERE id = 1").fetchone() == ("Town 1",)
                conn.execute("UPDATE town SET name = name WHERE id = 1")
                assert conn.in_transaction is (transaction == "manual")
            assert db.stats().connects == 1


def test_used_from_several_threads(db: Database) -> None:
    """R6: one connection serves all threads, one after the other."""
    seen: list[Any] = []

    def work(number: int) -> None:
        with db.connection() as conn:
            conn.execute("UPDATE town SET name = ? WHERE id = 7", (f"by {number}",))
            conn.commit()
            seen.append(conn.execute("SELECT name FROM town WHERE id = 7").fetchone()[0])

    for number in range(4):
        thread = threading.Thread(target=work, args=(number,))
        thread.start()
        thread.join()
    assert seen == [f"by {number}" for number in range(4)]
    assert db.stats().connects == 1


def test_statement_running_at_release(db: Database, path: Path) -> None:
    """R8: a statement that another thread still runs is stopped, and its connection discarded, with its locks."""
    errors: list[BaseException] = []
    running = threading.Event()

    def work(cursor: Any) -> None:
        try:
            cursor.execute(ENDLESS)
        except (sqlite3.Error, ConnectionReturned) as error:
            errors.append(error)

    with db.connection() as conn:
        conn.create_function("started", 0, running.set)
        conn.execute("UPDATE town SET name = 'lost'")
        cursor = conn.cursor()
        thread = threading.Thread(target=work, args=(cursor,), daemon=True)
        thread.start()
        assert running.wait(10)
    began = time.monotonic()
    thread.join(30)
    assert time.monotonic() - began < 5
    assert not thread.is_alive()
    assert len(errors) == 1
    assert db.stats().discards == {"in the middle of a statement": 1}
    write_elsewhere(path)
    with db.connection() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_discard_frees_the_lock_whoever_holds_a_cursor(db: Database, path: Path) -> None:
    """C6: a connection dropped because its request was interrupted leaves no lock, though a cursor of it lives on."""
    kept: list[Any] = []

    def interrupted() -> None:
        with db.connection() as conn:
            kept.append(conn.execute("UPDATE town SET name = 'lost'"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert db.stats().discards == {"interrupted": 1}
    write_elsewhere(path)


def test_a_relative_path_is_meant_from_where_the_application_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No second file where a process changes its directory, as a daemon does."""
    monkeypatch.chdir(tmp_path)
    database = Database("sqlite:///here.sqlite3", strategy="per-request")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    with database.connection() as conn:
        conn.execute("CREATE TABLE there (n INTEGER)")
    assert list(elsewhere.iterdir()) == []
    assert (tmp_path / "here.sqlite3").exists()


def test_missing_directory_is_no_config_error(tmp_path: Path, clock: Clock) -> None:
    """A file that cannot be opened shows at the first connect: it may be there later."""
    with Database(f"sqlite:///{tmp_path}/missing/x.db", clock=clock) as db:
        with pytest.raises(DatabaseUnavailable, match="unable to open"):
            db.check()
        (tmp_path / "missing").mkdir()
        clock.advance(2)  # the back-off
        assert db.check() >= 0
