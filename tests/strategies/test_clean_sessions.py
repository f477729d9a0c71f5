"""C3 and C6: a request sees nothing of an earlier one; a connection of which that is not certain is dropped."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import ANY

import pymysql
import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import BEFORE, Bank, MariaDBBank, WiredBank, get, run
from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import Database, DatabaseMiddleware

TAKE = "UPDATE account SET balance = balance - 10 WHERE id = 1"
BALANCE = "SELECT balance FROM account WHERE id = 1"


@pytest.fixture(params=["manual", "autocommit"])
def database(make: MakeDatabase, bank: Bank, strategy: str, request: pytest.FixtureRequest) -> Database:
    return make(bank.url, strategy=strategy, transaction=request.param)


def manual(database: Database) -> bool:
    return database.settings.transaction == "manual"


def reused(database: Database) -> bool:
    """Whether one connection served all leases, and so there was something that could leak."""
    stats = database.stats()
    return stats.connects == (stats.acquires if database.settings.strategy == "per-request" else 1)


def test_no_snapshot(database: Database, bank: Bank) -> None:
    """C3: a request that only read leaves no snapshot: the next one sees what others have written since."""
    with database.connection() as conn:
        assert run(conn, BALANCE) == [(100,)]
    bank.rows(TAKE)
    with database.connection() as conn:
        assert run(conn, BALANCE) == [(90,)]
    assert reused(database)


def test_no_unfinished_select(database: Database, bank: Bank) -> None:
    """C3: rows that a request has not fetched hold neither a lock nor a snapshot."""
    bank.rows(f"INSERT INTO transfer VALUES {', '.join(['(1)'] * 900)}")
    with database.connection() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT * FROM transfer")
        assert cursor.fetchone() == (1,)
    bank.rows(TAKE)
    with database.connection() as conn:
        assert run(conn, BALANCE) == [(90,)]
    assert reused(database)


def test_no_transaction(database: Database, bank: Bank) -> None:
    """C3: a transaction left open is rolled back: nothing of it is seen, and nothing stays locked."""
    with database.connection() as conn:
        if not manual(database):
            run(conn, "BEGIN")
        run(conn, TAKE)
    bank.rows("UPDATE account SET balance = balance WHERE id = 1")
    with database.connection() as conn:
        assert run(conn, BALANCE) == [(100,)]
        run(conn, TAKE)
        conn.commit()
    assert bank.state == (90, 100, 0)
    assert reused(database)


def test_no_row_lock(database: Database, bank: Bank) -> None:
    """C3: a request that locked rows by reading them only leaves them free (in SQLite: the database)."""
    wired = isinstance(bank, WiredBank)
    locking = (f"{BALANCE} FOR UPDATE",) if wired else ("BEGIN IMMEDIATE", BALANCE)
    if wired and not manual(database):
        locking = ("BEGIN", *locking)
    with database.connection() as conn:
        for sql in locking:
            run(conn, sql)
        with pytest.raises(bank.errors):
            bank.rows(TAKE)
    bank.rows(TAKE)
    assert bank.state == (90, 100, 0)
    assert reused(database)


@pytest.mark.parametrize("flip", ["flip", "flip_otherwise"])
def test_no_changed_autocommit(database: Database, bank: Bank, flip: str) -> None:
    """C3: autocommit that a handler changed is what it was in the next request: no write is lost, none is kept."""
    with database.connection() as conn:
        getattr(bank, flip)(conn, manual(database))
    with database.connection() as conn:
        run(conn, TAKE)
    assert bank.state == (BEFORE if manual(database) else (90, 100, 0))
    assert reused(database)


def test_no_attribute(database: Database, bank: Bank) -> None:
    """C3: what a handler set on its connection is undone for the next one."""
    name, value = bank.attribute
    with database.connection() as conn:
        before = getattr(conn, name)
        setattr(conn, name, value)
        setattr(conn, name, value)  # the second time it is not the first value that is replaced
        conn.set_by_handler = 1
    with database.connection() as conn:
        assert getattr(conn, name) is before
        assert not hasattr(conn, "set_by_handler")
        assert run(conn, BALANCE) == [(100,)]
    assert reused(database)


# -- C6


def close(conn: Any) -> None:
    conn.driver_connection.close()


def unread(conn: Any) -> None:
    cursor = conn.cursor(pymysql.cursors.SSCursor)
    cursor.execute("SELECT 1 UNION SELECT 2")
    conn.kept_alive = cursor  # collected, it would read on by itself


def more_results(conn: Any) -> None:
    conn.query("SELECT 1; SELECT 2")


def reconnect(conn: Any) -> None:
    """Between two transactions: in the middle of one, PyMySQL's connection refuses."""
    conn.rollback()
    conn.driver_connection.close()
    conn.driver_connection.connect()


class Timeout(BaseException):
    """As a worker's timeout, or gevent's GreenletExit."""


def interrupt(conn: Any) -> None:
    """A BaseException after the statement has gone out, and before its reply was read."""
    conn._read_query_result = raise_timeout
    try:
        conn.query("SELECT 3")
    except Timeout:
        pass
    del conn._read_query_result


def raise_timeout(unbuffered: bool = False) -> None:
    raise Timeout


UNKNOWN: dict[Callable[[Any], None], str] = {
    close: "closed by the application or the driver",
    unread: "unread rows",
    more_results: "unread rows",
    reconnect: "reconnected by the application",
    interrupt: "in the middle of a statement",
}


@pytest.mark.server
@pytest.mark.parametrize("disturb", UNKNOWN)
@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
def test_unknown_state_is_discarded(
    make: MakeDatabase, wired: MariaDBBank, strategy: str, transaction: str, disturb: Callable[[Any], None]
) -> None:
    """C6: a connection whose state is unknown at release is discarded, with the reason; the next request is right."""
    url = f"{wired.url}?client_flag={pymysql.constants.CLIENT.MULTI_STATEMENTS}"
    database = make(url, strategy=strategy, transaction=transaction)
    with database.connection() as conn:
        assert run(conn, "SELECT 1") == [(1,)]
        disturb(conn)
    assert (database.stats().discards, database.stats().open) == ({UNKNOWN[disturb]: 1}, 0)
    with database.connection() as conn:
        assert run(conn, "SELECT 4") == [(4,)]


def test_closed_by_the_handler_is_discarded(database: Database) -> None:
    """C6: a connection that the handler closed below the proxy is discarded, on every driver."""
    with database.connection() as conn:
        close(conn)
    assert (sum(database.stats().discards.values()), database.stats().open) == (1, 0)
    with database.connection() as conn:
        assert run(conn, BALANCE) == [(100,)]


def test_interrupted_request_is_discarded(database: Database, bank: Bank) -> None:
    """C6: a BaseException in a handler discards its connection, and nothing of it is committed."""

    def handle(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if not manual(database):
            run(environ["db.conn"], "BEGIN")
        run(environ["db.conn"], TAKE)
        raise Timeout

    with pytest.raises(Timeout):
        get(DatabaseMiddleware(handle, database))
    assert (database.stats().discards, database.stats().open) == ({"interrupted": 1}, 0)
    bank.reset()  # waits for the server, which notices in its own time
    assert bank.state == BEFORE


def test_failed_rollback_is_discarded(fake: MakeDatabase, fakedb: FakeDB, strategy: str) -> None:
    """C6: an error in the rollback at release costs the connection, not the request."""
    database = fake(strategy=strategy)
    fakedb.fail("rollback", FakeDB.InternalError("no"))
    with database.connection() as conn:
        run(conn, "UPDATE a")
    assert (database.stats().discards, database.stats().open) == ({"reset failed": 1}, 0)
    with database.connection() as conn:
        assert conn.number == 2


def test_failed_undo_is_discarded(fake: MakeDatabase, fakedb: FakeDB, strategy: str) -> None:
    """C6: an attribute that cannot be put back costs the connection."""
    database = fake(strategy=strategy)
    with database.connection() as conn:
        conn.mark = 1
        del conn.driver_connection.mark
    assert (database.stats().discards, database.stats().open) == ({"reset failed": 1}, 0)


def test_undo_of_what_equals_everything(fake: MakeDatabase) -> None:
    """C3: also a value that compares as it likes is put back."""
    with fake(pool_size=1).connection() as conn:
        raw = conn.driver_connection
        raw.mark = ANY
        conn.mark = 1
    assert raw.mark is ANY


def test_failed_commit_is_discarded(fake: MakeDatabase, fakedb: FakeDB, strategy: str) -> None:
    """C6: nobody knows the state of a connection whose commit has failed, and the request is told."""
    database = fake(strategy=strategy, transaction="request")
    fakedb.fail("commit", FakeDB.InternalError("no"))
    with pytest.raises(FakeDB.InternalError, match="no"), database.connection() as conn:
        run(conn, "UPDATE a")
    assert (database.stats().discards, database.stats().open) == ({"commit failed": 1}, 0)


def test_discards_are_logged(
    fake: MakeDatabase, fakedb: FakeDB, clock: Clock, caplog: pytest.LogCaptureFixture, keeping: str
) -> None:
    """C6: each discarded connection is a WARNING with the reason, and with the error where a ping met one."""
    database = fake(strategy=keeping, ping_after=1, clock=clock)
    database.check()
    clock.advance(1)
    fakedb.fail("execute", FakeDB.OperationalError("gone"))
    database.check()
    fakedb.fail("rollback", FakeDB.OperationalError("no"), n=2)  # a ping ends with the first
    database.check()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "creator: connection discarded: ping failed: gone"),
        ("WARNING", "creator: connection discarded: reset failed"),
    ]
