"""R10, R13 for PyMySQL: which losses are told, which are none, and what a commit that was refused costs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any, ClassVar

import pymysql
import pymysql.cursors
import pytest

from strategies.kit import BEFORE, MariaDBBank, get, run
from support.client import connect
from support.mariadb import MariaDB
from support.packets import error
from support.proxy import TCPProxy
from transactions.losses import (
    GIVE,
    LOCK,
    NOTE,
    TAKE,
    Careless,
    Rival,
    Step,
    deadlock,
    deadlock_that_do_hides,
    fails,
    says,
)
from wsgidb import Database, DatabaseMiddleware, TransactionLost

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("ignore:The 'reconnect' argument:DeprecationWarning")]

MODES = ("manual", "request")
NOTED = (100, 100, 1)


@pytest.fixture
def bank(mariadb: MariaDB, proxy: TCPProxy) -> Iterator[MariaDBBank]:
    with closing(MariaDBBank(mariadb, proxy)) as bank:
        yield bank


# -- another session

RECONNECTS: dict[str, Callable[[Any], object]] = {
    "ping(reconnect=True)": lambda conn: conn.ping(reconnect=True),
    "ping(True)": lambda conn: conn.ping(True),
    "connect()": lambda conn: conn.connect(),
}


def ended(conn: Any, bank: MariaDBBank, by: str) -> None:
    """End the session, with or without an error that the handler gets."""
    if by == "close":
        conn.driver_connection.close()
        return
    bank.server.kill_connections("guest")
    if by == "killed in a statement":
        with pytest.raises(pymysql.err.OperationalError):
            run(conn, "SELECT 1")


@pytest.mark.parametrize("by", ["killed", "killed in a statement", "close"])
@pytest.mark.parametrize("reconnect", RECONNECTS)
@pytest.mark.parametrize("transaction", [*MODES, "autocommit"])
def test_a_transaction_does_not_go_on_in_another_session(
    bank: MariaDBBank, transaction: str, reconnect: str, by: str
) -> None:
    """C1, R10: the first half went with its session, so that the second half must not be committed: reconnecting
    raises TransactionLost, whatever `transaction` is, and nothing can be sent from then on."""

    def transfer(conn: Any, bank: MariaDBBank) -> None:
        if transaction == "autocommit":
            run(conn, "BEGIN")
            run(conn, TAKE)
        ended(conn, bank, by)
        with pytest.raises(TransactionLost, match="connection was lost"):
            RECONNECTS[reconnect](conn)
        for call in (lambda: run(conn, GIVE), conn.commit):
            with pytest.raises((pymysql.err.Error, TransactionLost)):
                call()

    before = (90, 100, 0) if transaction == "autocommit" else BEFORE  # the first statement stands by itself
    assert Careless(bank, transfer, transaction=transaction).request() == (500 if transaction == "request" else 200)
    assert bank.state == before


@pytest.mark.parametrize("reconnect", RECONNECTS)
@pytest.mark.parametrize(
    ("transaction", "first"),
    [
        ("manual", ""),
        ("manual", "commit()"),
        ("manual", "rollback()"),
        ("manual", f"{TAKE}; COMMIT"),
        ("autocommit", TAKE),
        ("autocommit", "SELECT 1"),
        ("autocommit", "BEGIN; COMMIT"),
    ],
)
def test_a_reconnect_between_transactions_loses_nothing(
    bank: MariaDBBank, transaction: str, first: str, reconnect: str
) -> None:
    """R10: without a transaction in the middle there is nothing to lose, and applications may reconnect."""
    options: Any = {"transaction": transaction, "pool_size": 1}
    with Database(bank.url, **options) as database:
        with database.connection() as conn:
            if first.endswith("()"):
                run(conn, TAKE)
            for sql in first.split("; ") if first else ():
                getattr(conn, sql[:-2])() if sql.endswith("()") else run(conn, sql)
            bank.server.kill_connections("guest")
            RECONNECTS[reconnect](conn)
            run(conn, NOTE)
            conn.commit()
        assert sum(database.stats().discards.values()) == 1
    assert bank.state[2] == 1


def test_a_handler_that_rolled_back_may_reconnect(bank: MariaDBBank) -> None:
    """R10: though the rollback itself fails, as the session is gone, the handler knows what it has lost."""
    with Database(bank.url, pool_size=1) as database, database.connection() as conn:
        run(conn, TAKE)
        bank.server.kill_connections("guest")
        with pytest.raises(pymysql.err.Error):
            run(conn, GIVE)
        with pytest.raises(pymysql.err.Error):
            conn.rollback()
        conn.ping(reconnect=True)
        run(conn, NOTE)
        conn.commit()
    assert bank.state == NOTED


@pytest.mark.parametrize("times", [1, 3])
def test_pings_are_no_work(bank: MariaDBBank, times: int) -> None:
    """C4, R10: a ping opens no transaction: it is neither rolled back nor lost."""
    with Database(bank.url, pool_size=1) as database, database.connection() as conn:
        conn.rollback()
        for _ in range(times):
            conn.ping(reconnect=False)
        bank.server.kill_connections("guest")
        conn.ping(reconnect=True)
        conn.rollback()


# -- with autocommit switched on by the handler


@pytest.mark.parametrize("flip", ["method", "SET autocommit = 1"])
def test_a_transaction_that_was_begun_in_autocommit(bank: MariaDBBank, flip: str) -> None:
    """R10: the second half would be committed statement by statement, so it is refused at once."""

    def goes_on(conn: Any, bank: MariaDBBank) -> None:
        conn.rollback()
        conn.autocommit(True) if flip == "method" else run(conn, flip)
        run(conn, "BEGIN")
        run(conn, TAKE)
        deadlock(conn, bank)
        for sql in (NOTE, GIVE, "SELECT 1"):
            with pytest.raises(TransactionLost, match="1213"):
                run(conn, sql)

    assert Careless(bank, goes_on).request() == 500
    assert bank.state == BEFORE


def test_a_statement_in_autocommit_is_no_transaction(bank: MariaDBBank) -> None:
    """R10: what was committed before is not lost; the statement's own error was told."""

    def goes_on(conn: Any, bank: MariaDBBank) -> None:
        conn.rollback()
        conn.autocommit(True)
        bank.proxy.answer(GIVE, lambda: error(1213, "40001", "Deadlock found"))
        fails(bank, conn, GIVE, 1213)
        run(conn, NOTE)

    assert Careless(bank, goes_on).request() == 200
    assert bank.state == NOTED


# -- several statements in one command


@pytest.mark.parametrize("before", ["", "SELECT 1"])
def test_a_lock_timeout_of_a_later_statement(before: str) -> None:
    """R10: with innodb_rollback_on_timeout the command's earlier statements are undone, too, which had succeeded."""
    with MariaDB(innodb_rollback_on_timeout=True) as server, TCPProxy(server.port) as proxy:
        bank = MariaDBBank(server, proxy)

        def goes_on(conn: Any, bank: MariaDBBank) -> None:
            conn.rollback()
            if before:
                run(conn, before)
            with closing(connect(server.url("root"))) as rival, closing(conn.cursor()) as cursor:
                run(rival, LOCK)
                cursor.execute(f"{TAKE}; {GIVE}")
                with pytest.raises(pymysql.err.OperationalError, match="1205"):
                    cursor.nextset()
            run(conn, NOTE)

        with closing(bank):
            assert Careless(bank, goes_on).request() == 500
            assert bank.state == BEFORE


# -- procedures

PROCEDURES = {
    "swallows": f"DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; {GIVE};",
    "swallows_and_goes_on": f"DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; {GIVE}; {NOTE};",
    "rolls_back": "ROLLBACK;",
    "commits": "COMMIT;",
    "has_its_own": "START TRANSACTION; COMMIT;",
    "swallows_another_error": "DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; INSERT INTO account VALUES (1, 1);",
    "shows": "SELECT balance FROM account; SELECT 1;",
}


@pytest.fixture
def procedures(bank: MariaDBBank) -> Iterator[MariaDBBank]:
    for name, body in PROCEDURES.items():
        bank.rows(f"CREATE OR REPLACE PROCEDURE test.{name}() BEGIN {body} END")
    yield bank
    for name in PROCEDURES:
        bank.rows(f"DROP PROCEDURE test.{name}")


def calls(name: str, how: str) -> Step:
    def step(conn: Any, bank: MariaDBBank) -> None:
        with closing(conn.cursor()) as cursor:
            cursor.callproc(name) if how == "callproc" else cursor.execute(how.format(name))

    return step


HOW = ("callproc", "CALL {}()", "/* a comment */ call {}()", "EXECUTE IMMEDIATE 'CALL {}()'", "DO 1; CALL {}()")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", ["swallows", "swallows_and_goes_on"])
def test_a_deadlock_that_a_procedure_swallows(procedures: MariaDBBank, name: str, how: str) -> None:
    """R10: the reply to the CALL is a success, whether or not the procedure has begun another transaction."""

    def step(conn: Any, bank: MariaDBBank) -> None:
        rival = Rival(bank)
        calls(name, how)(conn, bank)
        rival.gives_up()

    assert Careless(procedures, step, says(NOTE)).request() == 500
    assert procedures.state == BEFORE


def test_a_deadlock_that_do_hides(mariadb: MariaDB, proxy: TCPProxy) -> None:
    """R10: DO succeeds although its function fails. Here no semicolon can begin another statement, unlike elsewhere."""

    class OneStatement(MariaDBBank):
        several: ClassVar[dict[str, Any]] = {}

    with closing(OneStatement(mariadb, proxy)) as bank:
        assert Careless(bank, deadlock_that_do_hides, says(NOTE)).request() == 500
        assert bank.state == BEFORE


def test_a_rollback_of_the_procedures_own(procedures: MariaDBBank) -> None:
    """R10: a procedure that says ROLLBACK is the application's, which knows what it undoes."""
    assert Careless(procedures, calls("rolls_back", "callproc"), says(NOTE)).request() == 200
    assert procedures.state == NOTED


@pytest.mark.parametrize("name", ["commits", "has_its_own", "swallows_another_error", "shows"])
@pytest.mark.parametrize("how", HOW)
def test_procedures_that_lose_nothing(procedures: MariaDBBank, name: str, how: str) -> None:
    """R10: a commit of the procedure's own, an error that ends one statement, and results that are read or not."""
    assert Careless(procedures, calls(name, how), says(NOTE)).request() == 200
    assert procedures.state == (90, 100, 1)


@pytest.mark.parametrize("transaction", MODES)
def test_a_procedure_alone_costs_nothing(procedures: MariaDBBank, transaction: Any) -> None:
    """C4: where nothing was written before the CALL, nothing is asked."""
    with Database(procedures.url, transaction=transaction, pool_size=1) as database:
        with database.connection() as conn, procedures.proxy.counting() as said:
            run(conn, "SELECT 1")
            calls("shows", "CALL {}()")(conn, procedures)
        assert said == ["QUERY SELECT 1", "QUERY CALL shows()"]


# -- unbuffered results

SLOW = "SET STATEMENT max_statement_time = 0.2 FOR SELECT seq, SLEEP(0.01), REPEAT('x', 4000) FROM seq_1_to_1000"


@pytest.mark.parametrize("read", ["fetchall", "close"])
def test_a_time_limit_among_rows_loses_nothing(bank: MariaDBBank, read: str) -> None:
    """R10: it ends one statement, and the server says that the transaction goes on. PyMySQL swallows it when a cursor
    is closed."""

    def step(conn: Any, bank: MariaDBBank) -> None:
        cursor = conn.cursor(pymysql.cursors.SSCursor)
        with suppress(pymysql.err.OperationalError):
            cursor.execute(SLOW)  # on a very busy machine the time is over before the first rows, and this raises
            getattr(cursor, read)()
        cursor.close()

    assert Careless(bank, step, says(NOTE)).request() == 200
    assert bank.state == (90, 100, 1)


def test_rows_left_unread_do_not_decide_the_commit(bank: MariaDBBank) -> None:
    """R13: the rest of an unbuffered result is read before the COMMIT, as the server sends it."""
    kept: list[Any] = []

    def step(conn: Any, bank: MariaDBBank) -> None:
        cursor = conn.cursor(pymysql.cursors.SSCursor)
        kept.append(cursor)
        cursor.execute("SELECT seq FROM seq_1_to_1000")
        cursor.fetchone()

    careless = Careless(bank, step)
    assert careless.request() == 200
    assert bank.state == (90, 100, 0)
    assert not careless.database.stats().discards


def test_rows_that_take_too_long_are_not_read(bank: MariaDBBank) -> None:
    """R13: at ping_timeout the connection is dropped, nothing is committed, and the client is told."""
    kept: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        conn = environ["db.conn"]
        run(conn, TAKE)
        cursor = conn.cursor(pymysql.cursors.SSCursor)
        kept.append(cursor)
        cursor.execute("SELECT seq, SLEEP(0.1), REPEAT('x', 20000) FROM seq_1_to_1000")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    with Database(bank.url, transaction="request", pool_size=1, ping_timeout=0.3) as database:
        began = time.monotonic()
        assert get(DatabaseMiddleware(app, database)).status_code == 500
        assert time.monotonic() - began < 20  # and not 100
        assert sum(database.stats().discards.values()) == 1
    bank.rows("SET innodb_lock_wait_timeout = 10")
    bank.rows("UPDATE account SET balance = balance WHERE id = 1")
    assert bank.state == BEFORE


def test_an_error_of_a_later_result_that_nobody_read(bank: MariaDBBank) -> None:
    """R13: an error before the COMMIT is not made a success: the handler has not seen it yet, so the client does."""
    kept: list[Any] = []

    def step(conn: Any, bank: MariaDBBank) -> None:
        kept.append(conn.cursor())
        kept[0].execute(f"{NOTE}; SELECT no_such_column FROM account")

    assert Careless(bank, step).request() == 500
    assert bank.state == BEFORE


# -- refused commits, and losses that are logged


def test_a_refused_commit_keeps_the_connection(bank: MariaDBBank) -> None:
    """R13: after a conflict the server has rolled back, and a rollback makes the connection as good as before."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        run(environ["db.conn"], TAKE)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    with Database(bank.url, transaction="request", pool_size=1) as database:
        bank.proxy.answer("COMMIT", lambda: error(1213, "40001", "Deadlock found when trying to get lock"))
        assert get(DatabaseMiddleware(app, database)).status_code == 500
        assert bank.state == BEFORE
        assert get(DatabaseMiddleware(app, database)).status_code == 200
        assert database.stats().connects == 1
    assert bank.state == (90, 100, 0)


LEAVES: dict[str, Step] = {
    "nothing": lambda conn, bank: None,
    "unread rows": lambda conn, bank: bank.kept.append(
        [cursor := conn.cursor(pymysql.cursors.SSCursor), cursor.execute("SELECT seq FROM seq_1_to_1000")]
    ),
    "closed": lambda conn, bank: conn.driver_connection.close(),
    "reconnect": lambda conn, bank: refused_reconnect(conn),
    "killed": lambda conn, bank: ended(conn, bank, "killed in a statement"),
}


def refused_reconnect(conn: Any) -> None:
    conn.driver_connection.close()
    with pytest.raises(TransactionLost):
        conn.ping(reconnect=True)


@pytest.mark.parametrize("leave", LEAVES)
def test_a_lost_write_is_logged(bank: Any, leave: str, caplog: pytest.LogCaptureFixture) -> None:
    """A forgotten commit is logged with the request's name, also where the connection is then discarded."""
    bank.kept = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        run(environ["db.conn"], TAKE)
        LEAVES[leave](environ["db.conn"], bank)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    caplog.set_level(logging.WARNING, "wsgidb")
    with Database(bank.url, pool_size=1) as database:
        get(DatabaseMiddleware(app, database))
    assert [record.message for record in caplog.records if "uncommitted write of 1 row" in record.message]
    assert "GET /: rolled back" in caplog.text
