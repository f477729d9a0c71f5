"""R10 on SQLite, where ON CONFLICT ROLLBACK, a full disk and the like end the whole transaction."""

from __future__ import annotations

import resource
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from strategies.kit import BEFORE, SQLiteBank, get, run
from transactions.losses import NOTE, TAKE, conflict
from wsgidb import Database, DatabaseMiddleware, TransactionLost

NOTED = (100, 100, 1)
Step = Callable[[Any, Any], object]


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[SQLiteBank]:
    with closing(SQLiteBank(tmp_path / "bank.db")) as bank:
        yield bank


@pytest.fixture
def database(bank: SQLiteBank) -> Iterator[Database]:
    with Database(bank.url, transaction="request", pool_size=1) as database:
        yield database


def request(database: Database, bank: SQLiteBank, *steps: Step) -> int:
    """The status of a request whose handler takes these steps after having taken money."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        conn = environ["db.conn"]
        run(conn, TAKE)
        for step in steps:
            step(conn, bank)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    return get(DatabaseMiddleware(app, database)).status_code


def note(conn: Any, bank: Any) -> None:
    run(conn, NOTE)


def test_nothing_is_committed_in_part(database: Database, bank: SQLiteBank) -> None:
    """R10: a handler that swallowed the loss and goes on gets a 500 for its 200, and nothing of it is there."""
    assert request(database, bank, conflict) == 500
    assert request(database, bank, conflict, note) == 500
    assert bank.state == BEFORE


def test_a_trigger_may_end_the_transaction(database: Database, bank: SQLiteBank) -> None:
    """R10: so does RAISE(ROLLBACK), which the handler's statement does not show."""
    bank.rows("CREATE TRIGGER no BEFORE DELETE ON account BEGIN SELECT RAISE(ROLLBACK, 'no'); END")

    def delete(conn: Any, bank: Any) -> None:
        with pytest.raises(sqlite3.IntegrityError, match="no"):
            run(conn, "DELETE FROM account")

    assert request(database, bank, delete, note) == 500
    assert bank.state == BEFORE


def end_of_with(conn: Any, bank: Any) -> None:
    with conn:
        run(conn, NOTE)


COMMITS: dict[str, Step] = {
    "commit()": lambda conn, bank: conn.commit(),
    "with conn": end_of_with,
    "COMMIT": lambda conn, bank: conn.execute("COMMIT"),
    "END": lambda conn, bank: conn.execute("END"),
    "CREATE TABLE": lambda conn, bank: conn.execute("CREATE TABLE another (n)"),
    "executescript()": lambda conn, bank: conn.executescript(NOTE),
    "cursor.executescript()": lambda conn, bank: conn.cursor().executescript("SELECT 1"),
    "isolation_level = None": lambda conn, bank: setattr(conn, "isolation_level", None),
}
if hasattr(sqlite3.Connection, "autocommit"):  # from Python 3.12 on
    COMMITS["autocommit = True"] = lambda conn, bank: setattr(conn, "autocommit", True)


@pytest.mark.parametrize("commit", COMMITS)
def test_a_commit_after_the_loss_is_refused(database: Database, bank: SQLiteBank, commit: str) -> None:
    """R10: what commits, by itself or by the way, raises TransactionLost."""

    def refused(conn: Any, bank: Any) -> None:
        run(conn, NOTE)
        with pytest.raises(TransactionLost, match="IntegrityError"):
            COMMITS[commit](conn, bank)

    assert request(database, bank, conflict, refused) == 500
    assert bank.state == BEFORE


@pytest.mark.parametrize("rollback", ["rollback()", "ROLLBACK", "with conn"])
def test_a_handler_that_rolled_back_goes_on(database: Database, bank: SQLiteBank, rollback: str) -> None:
    """R10: after a rollback of the handler's own its later work is committed."""

    def roll_back(conn: Any, bank: Any) -> None:
        if rollback == "rollback()":
            conn.rollback()
        elif rollback == "ROLLBACK":
            run(conn, NOTE)  # SQLite refuses a ROLLBACK of nothing
            conn.execute("ROLLBACK")
        else:
            with pytest.raises(ZeroDivisionError), conn:
                raise ZeroDivisionError

    assert request(database, bank, conflict, roll_back, note) == 200
    assert bank.state == NOTED


def test_a_loss_at_the_first_statement_loses_nothing(database: Database, bank: SQLiteBank) -> None:
    """R10: where nothing was done before, nothing is missing."""

    def undo(conn: Any, bank: Any) -> None:
        conn.rollback()

    assert request(database, bank, undo, conflict, note) == 200
    assert bank.state == NOTED


@pytest.mark.parametrize("end", ["exception", "veto"])
def test_a_loss_ends_with_its_request(database: Database, bank: SQLiteBank, end: str) -> None:
    """R10: a handler that raises, or whose response is vetoed, leaves no loss to the next request."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        run(environ["db.conn"], TAKE)
        conflict(environ["db.conn"], bank)
        if end == "exception":
            raise ZeroDivisionError
        start_response("409 Conflict", [("Content-Type", "text/plain")])
        return [b"no"]

    if end == "exception":
        with pytest.raises(ZeroDivisionError):
            get(DatabaseMiddleware(app, database))
    else:
        assert get(DatabaseMiddleware(app, database)).status_code == 409
    assert request(database, bank, note) == 200
    assert bank.state == (90, 100, 1)
    assert database.stats().connects == 1


def test_manual_is_left_alone(bank: SQLiteBank) -> None:
    """R10: with transaction=manual what a handler commits after a loss is committed: DB-API, no more and no less."""
    with Database(bank.url, transaction="manual") as database:
        assert request(database, bank, conflict, end_of_with) == 200
    assert bank.state == NOTED


ROOM = 2**16
"""Bytes of a file, for a disk that is full."""


def full_commit(conn: Any, bank: Any, commit: Callable[[], object] | None = None) -> None:
    """A COMMIT for which the disk has no room."""
    run(conn, f"INSERT INTO transfer (amount) VALUES (zeroblob({2 * ROOM}))")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        with pytest.raises(sqlite3.OperationalError):
            (commit or conn.commit)()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not conn.in_transaction


def full_script(conn: Any, bank: Any) -> None:
    """The same of the COMMIT with which a script begins."""
    full_commit(conn, bank, lambda: conn.executescript("SELECT 1"))


def full_attribute(conn: Any, bank: Any) -> None:
    """The same of the COMMIT for which autocommit is switched on."""
    full_commit(conn, bank, lambda: setattr(conn, "isolation_level", None))


def interrupted_rows(conn: Any, bank: Any, read: Callable[[Any], object] = lambda cursor: cursor.fetchall()) -> None:
    """A statement that writes and returns rows, and is interrupted while they are read."""
    cursor = conn.execute("INSERT INTO transfer (amount) VALUES (1), (2), (3) RETURNING amount")
    conn.set_progress_handler(lambda: 1, 1)
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        read(cursor)
    conn.set_progress_handler(None, 1)
    assert not conn.in_transaction


def with_insert(conn: Any, bank: Any) -> None:
    """A write that sqlite3 itself would begin no transaction for."""
    conflict(conn, bank)
    conn.execute("WITH ten(n) AS (SELECT 10) INSERT INTO transfer (amount) SELECT n FROM ten")


UNSEEN: dict[str, Step] = {
    "a full disk at commit()": full_commit,
    "a full disk at the COMMIT of a script": full_script,
    "a full disk at the COMMIT by an attribute": full_attribute,
    "while rows are read": interrupted_rows,
    "while a cursor is iterated": lambda conn, bank: interrupted_rows(conn, bank, list),
    "WITH ... INSERT": with_insert,
}


@pytest.mark.parametrize("loss", UNSEEN)
@pytest.mark.parametrize("more", [(), (note,)])
def test_a_loss_that_no_statement_tells_of(
    database: Database, bank: SQLiteBank, loss: str, more: tuple[Step, ...]
) -> None:
    """R10: at a commit, in a script, while rows are read: the rest is not committed."""
    assert request(database, bank, UNSEEN[loss], *more) == 500
    assert bank.state == BEFORE


@pytest.mark.parametrize("sql", ["NONSENSE", "BEGIN; COMMIT; NONSENSE", "CREATE TABLE begun (n); NONSENSE"])
def test_a_script_that_fails_after_its_commit_loses_nothing(database: Database, bank: SQLiteBank, sql: str) -> None:
    """R10: what was done before it is committed by it; that is no loss, and what a script begins is its own."""

    def script(conn: Any, bank: Any) -> None:
        with pytest.raises(sqlite3.OperationalError, match="syntax"):
            conn.executescript(sql)

    assert request(database, bank, script, note) == 200
    assert bank.state == (90, 100, 1)


def test_a_handlers_own_begin(database: Database, bank: SQLiteBank) -> None:
    """R10: where the handler begins by itself, what follows a loss would stand by itself: it is refused."""

    def steps(conn: Any, bank: Any) -> None:
        conn.rollback()
        conn.isolation_level = None
        conn.execute("BEGIN IMMEDIATE")
        run(conn, TAKE)
        conflict(conn, bank)
        with pytest.raises(TransactionLost):
            run(conn, NOTE)
        assert run(conn, "SELECT COUNT(*) FROM transfer") == [(0,)]

    assert request(database, bank, steps) == 500
    assert bank.state == BEFORE


def test_a_handler_that_switches_autocommit_on_loses_nothing(database: Database, bank: SQLiteBank) -> None:
    """R10: sqlite3 commits for it, and SQLite then says that no transaction is open, as after a loss."""

    def switch(conn: Any, bank: Any) -> None:
        conn.create_function("fail", 1, lambda n: n // (n - 2))
        cursor = conn.execute("SELECT fail(column1) FROM (VALUES (1), (2), (3))")
        conn.isolation_level = None
        with pytest.raises(sqlite3.OperationalError):
            cursor.fetchall()
        run(conn, NOTE)

    assert request(database, bank, switch) == 200
    assert bank.state == (90, 100, 1)


def test_a_loss_costs_no_connection(database: Database, bank: SQLiteBank) -> None:
    """R10: SQLite has rolled back by itself, and the connection is as good as before."""
    assert request(database, bank, conflict, note) == 500
    assert request(database, bank, note) == 200
    assert (database.stats().connects, database.stats().discards) == (1, {})


class TestRefusedCommits:
    """A COMMIT that SQLite refuses is rolled back, and the connection is kept."""

    def test_for_a_lock(self, database: Database, bank: SQLiteBank) -> None:
        """A reader elsewhere does not go away in time."""

        def read_elsewhere(conn: Any, bank: Any) -> None:
            bank.rows("BEGIN")
            bank.rows("SELECT * FROM account")

        assert request(database, bank, read_elsewhere) == 500
        bank.rows("ROLLBACK")
        assert bank.state == BEFORE
        assert request(database, bank) == 200
        assert (database.stats().connects, database.stats().discards) == (1, {})

    def test_for_a_constraint(self, database: Database, bank: SQLiteBank) -> None:
        """One that is checked at the commit only."""
        bank.rows("CREATE TABLE child (parent INTEGER REFERENCES account (id) DEFERRABLE INITIALLY DEFERRED)")

        def insert(conn: Any, bank: Any) -> None:
            run(conn, "INSERT INTO child VALUES (77)")

        assert request(database, bank, insert) == 500
        assert bank.state == BEFORE
        assert request(database, bank) == 200
        assert (database.stats().connects, database.stats().discards) == (1, {})
