"""R10: a transaction that the server ended behind the handler's back is never committed in part."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from pymysql.constants.FIELD_TYPE import LONG
from pymysql.converters import conversions

from strategies.kit import BEFORE, MYSQL_BANKS, MariaDBBank, get, run
from support.mariadb import MariaDB
from support.packets import error
from support.proxy import TCPProxy
from transactions.losses import (
    GIVE,
    NOTE,
    TAKE,
    Careless,
    Step,
    cut,
    deadlock,
    deadlock_among_rows,
    deadlock_in_the_second,
    deadlock_that_do_hides,
    fails,
    kill,
    lock_timeout,
    overtaken,
    says,
)
from wsgidb import Database, DatabaseMiddleware, TransactionLost

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("ignore:The 'reconnect' argument:DeprecationWarning")]

NOTED = (100, 100, 1)
"""Nothing but the note is there."""


@pytest.fixture(scope="module")
def strict_mariadb() -> Iterator[MariaDB]:
    """A server on which a lock timeout ends the transaction, not only the statement; so does an overtaken snapshot."""
    with MariaDB(innodb_rollback_on_timeout=True, innodb_snapshot_isolation=True) as server:
        yield server


@pytest.fixture(
    params=["pymysql", *(pytest.param(name, marks=pytest.mark.slow) for name in ("mysqlclient", "connector"))]
)
def kind(request: pytest.FixtureRequest) -> type[MariaDBBank]:
    """By which driver; a quick choice for all of them is in strategies/test_transactions.py."""
    return MYSQL_BANKS[request.param]


@pytest.fixture
def bank(mariadb: MariaDB, proxy: TCPProxy, kind: type[MariaDBBank]) -> Iterator[MariaDBBank]:
    with closing(kind(mariadb, proxy)) as bank:
        yield bank


@pytest.fixture
def strict_bank(strict_mariadb: MariaDB, kind: type[MariaDBBank]) -> Iterator[MariaDBBank]:
    with TCPProxy(strict_mariadb.port) as proxy, closing(kind(strict_mariadb, proxy)) as bank:
        yield bank


def note_by_executemany(conn: Any, bank: Any) -> None:
    conn.cursor().executemany("INSERT INTO transfer (amount) VALUES (%s)", [(1,), (2,)])


def give_up(conn: Any, bank: Any) -> None:
    """A handler that runs nothing more."""


def everything(conn: Any, bank: Any) -> None:
    """A handler that ignores each error."""
    for sql in (GIVE, NOTE, "COMMIT", "SELECT 1", "BEGIN", NOTE, "CREATE TABLE IF NOT EXISTS transfer (n INT)"):
        with suppress(*bank.errors, TransactionLost):
            run(conn, sql)
    for call in (
        conn.commit,
        lambda: bank.begin(conn),
        lambda: bank.flip(conn, True),
        lambda: conn.ping(True),
    ):
        with suppress(*bank.errors, TransactionLost):
            call()
    with suppress(*bank.errors, TransactionLost):
        run(conn, NOTE)
    with suppress(*bank.errors, TransactionLost):
        conn.commit()


LOSSES = (deadlock, deadlock_among_rows, deadlock_in_the_second, deadlock_that_do_hides, cut, kill)


@pytest.mark.parametrize("lose", LOSSES)
@pytest.mark.parametrize("goes_on", [give_up, everything])
def test_nothing_is_committed_in_part(bank: MariaDBBank, lose: Step, goes_on: Step) -> None:
    """R10: a handler that swallowed the loss gets a 500 for its 200, and nothing of the transaction is there."""
    assert Careless(bank, lose, goes_on).request() == 500
    assert bank.state == BEFORE


@pytest.mark.parametrize("lose", [deadlock, deadlock_among_rows])
@pytest.mark.parametrize("goes_on", [says("SELECT 1"), says(NOTE), note_by_executemany, says("SHOW WARNINGS")])
def test_work_after_the_loss_is_the_handlers_own_affair(bank: MariaDBBank, lose: Step, goes_on: Step) -> None:
    """R10: what commits nothing runs as ever after a loss, but is not committed."""
    assert Careless(bank, lose, goes_on).request() == 500
    assert bank.state == BEFORE


@pytest.mark.parametrize("kind", ["pymysql"], indirect=True)
@pytest.mark.parametrize(
    "command",
    [lambda conn: conn.ping(reconnect=False), lambda conn: conn.select_db("test")],
    ids=["ping()", "select_db()"],
)
def test_what_is_no_statement_commits_nothing(bank: MariaDBBank, command: Callable[[Any], object]) -> None:
    """R10: commands of the protocol beside statements run as ever after a loss."""
    answers: list[object] = []
    assert Careless(bank, deadlock, lambda conn, bank: answers.append(command(conn))).request() == 500
    assert answers == [None]


def answered(sql: str, number: int) -> Step:
    """The server answers a statement, which it never gets to see, with this error."""

    def step(conn: Any, bank: Any) -> None:
        bank.proxy.answer(sql, lambda: error(number, "HY000", "so it is"))
        with pytest.raises(bank.errors) as caught:
            conn.commit() if sql == "COMMIT" else run(conn, sql)
        assert bank.code(caught.value) == number

    return step


@pytest.mark.parametrize("number", [1020, 1213, 1402, 1613, 1614, 3101])
def test_each_error_that_ends_a_transaction(bank: MariaDBBank, number: int) -> None:
    """R10: a changed row, deadlock, the XA transaction's rollbacks, and the refusal by group replication."""
    assert Careless(bank, answered(GIVE, number), says(NOTE)).request() == 500
    assert bank.state == BEFORE


def listening(step: Step, said: list[str]) -> Step:
    """The step, and what was said in it to the server."""

    def listens(conn: Any, bank: Any) -> None:
        with bank.proxy.counting() as heard:
            step(conn, bank)
        said.extend(heard)

    return listens


@pytest.mark.parametrize("number", [1062, 1207, 1212, 1214, 1401, 1403, 1612, 1615, 3100, 3102])
def test_other_errors_end_only_their_statement(bank: MariaDBBank, number: int) -> None:
    """R10: after a duplicate key, say, the transaction goes on, and is committed; the server is asked nothing."""
    said: list[str] = []
    assert Careless(bank, listening(answered(GIVE, number), said), says(NOTE)).request() == 200
    assert said == [f"QUERY {GIVE}"]
    assert bank.state == (90, 100, 1)


@pytest.mark.parametrize("number", [1205, 1206])
def test_the_server_is_asked_where_the_error_does_not_tell(bank: MariaDBBank, number: int) -> None:
    """R10: after a lock timeout or a full lock table, of which it depends on a setting whether all is undone."""
    said: list[str] = []
    assert Careless(bank, listening(answered(GIVE, number), said), says(NOTE)).request() == 200
    assert len(said) == 2
    assert bank.state == (90, 100, 1)


def test_nobody_asks_for_nothing(bank: MariaDBBank) -> None:
    """R10: nor is the server asked where the handler itself is to commit."""
    said: list[str] = []
    assert Careless(bank, listening(answered(GIVE, 1205), said), transaction="manual").request() == 200
    assert said == [f"QUERY {GIVE}"]


def test_a_commit_that_the_server_refuses_is_a_loss(bank: MariaDBBank) -> None:
    """R10: a Galera node may find only at the COMMIT that another one was first: what follows is not committed."""

    def goes_on(conn: Any, bank: Any) -> None:
        run(conn, NOTE)
        with pytest.raises(TransactionLost, match="1213"):
            conn.commit()

    assert Careless(bank, answered("COMMIT", 1213), goes_on).request() == 500
    assert bank.state == BEFORE


def refused(step: Step) -> Step:
    def refused(conn: Any, bank: Any) -> None:
        run(conn, NOTE)
        with pytest.raises(TransactionLost, match="1213"):
            step(conn, bank)

    return refused


COMMITS: dict[str, Step] = {
    "commit()": lambda conn, bank: conn.commit(),
    "begin()": lambda conn, bank: bank.begin(conn),
    "autocommit()": lambda conn, bank: bank.flip(conn, True),
    **{
        sql: says(sql)
        for sql in (
            "COMMIT",
            " commit ; ",
            "/* at last */ COMMIT",
            "-- at last\nCOMMIT",
            "SELECT 1; COMMIT",
            "ROLLBACK TO SAVEPOINT s; COMMIT",
            "BEGIN",
            "START TRANSACTION",
            "SET autocommit = 1",
            "CREATE TABLE account_2 (id INT)",
            "DROP TABLE IF EXISTS account_2",
            "TRUNCATE TABLE transfer",
            "LOCK TABLES account READ",
            "CALL test.anything()",
        )
    },
    "bytes": lambda conn, bank: bank.say(conn, b"COMMIT"),
    "bytearray": lambda conn, bank: bank.say(conn, bytearray(b"COMMIT")),
}


@pytest.mark.parametrize("commit", COMMITS)
def test_a_commit_after_the_loss_is_refused(bank: MariaDBBank, commit: str) -> None:
    """R10: what commits, by itself or by the way, raises TransactionLost after a deadlock, and is never sent."""
    assert Careless(bank, deadlock, refused(COMMITS[commit])).request() == 500
    assert bank.state == BEFORE


@pytest.mark.parametrize("lose", [cut, kill])
def test_a_commit_on_a_lost_connection_is_refused(bank: MariaDBBank, lose: Step) -> None:
    """R10: conn.commit() of a handler that did not notice is TransactionLost; so is a reconnect in its middle."""

    def goes_on(conn: Any, bank: Any) -> None:
        with pytest.raises(TransactionLost, match="connection was lost"):
            conn.commit()
        with pytest.raises((TransactionLost, *bank.errors)):
            conn.ping(True)
        with pytest.raises(TransactionLost, match="connection was lost"):
            conn.commit()

    assert Careless(bank, lose, goes_on).request() == 500
    assert bank.state == BEFORE


ROLLBACKS: dict[str, Step] = {
    "rollback()": lambda conn, bank: conn.rollback(),
    "ROLLBACK": says("ROLLBACK"),
    "rollback work;": says("rollback work;"),
    "ROLLBACK AND CHAIN": says("ROLLBACK AND CHAIN"),
}


@pytest.mark.parametrize("rollback", ROLLBACKS)
@pytest.mark.parametrize("lose", [deadlock, deadlock_among_rows])
def test_a_handler_that_rolled_back_goes_on(bank: MariaDBBank, lose: Step, rollback: str) -> None:
    """R10: after a rollback of the handler's own its later work is committed: it knows what it lost."""
    assert Careless(bank, lose, ROLLBACKS[rollback], says(NOTE)).request() == 200
    assert bank.state == NOTED


def test_a_rollback_to_a_savepoint_is_none(bank: MariaDBBank) -> None:
    """R10: the savepoint went with the transaction; an error that is swallowed, too, is no rollback."""

    def back_to_savepoint(conn: Any, bank: Any) -> None:
        fails(bank, conn, "ROLLBACK TO SAVEPOINT s", 1305)

    assert Careless(bank, says("SAVEPOINT s"), deadlock, back_to_savepoint, says(NOTE)).request() == 500
    assert bank.state == BEFORE


def test_a_lock_timeout_is_its_statements_end(bank: MariaDBBank) -> None:
    """R10: with innodb_rollback_on_timeout off (the default) 1205 undoes one statement: the rest is committed."""
    assert Careless(bank, lock_timeout, says(NOTE)).request() == 200
    assert bank.state == (90, 100, 1)


def test_a_lock_timeout_may_be_the_transactions_end(strict_bank: MariaDBBank) -> None:
    """R10: with innodb_rollback_on_timeout on it undoes all: the server is asked, and the transaction is lost."""

    def goes_on(conn: Any, bank: Any) -> None:
        run(conn, NOTE)
        with pytest.raises(TransactionLost, match="1205"):
            conn.commit()

    assert Careless(strict_bank, lock_timeout, goes_on).request() == 500
    assert strict_bank.state == BEFORE


def test_a_lock_timeout_of_the_first_statement_loses_nothing(strict_bank: MariaDBBank) -> None:
    """R10: where nothing was done before, nothing is missing, and the handler may go on."""
    careless = Careless(strict_bank, says("ROLLBACK"), lambda conn, bank: conn.commit(), lock_timeout, says(NOTE))
    assert careless.request() == 200
    assert strict_bank.state == NOTED


def test_an_overtaken_snapshot_is_the_transactions_end(strict_bank: MariaDBBank) -> None:
    """R10: with innodb_snapshot_isolation a row that others have changed since undoes all that was done before."""
    assert Careless(strict_bank, overtaken, says(NOTE)).request() == 500
    assert strict_bank.state == (100, 105, 0)


class Unreadable(Exception):
    """An application's converter of values that fails."""


@pytest.mark.parametrize("kind", ["pymysql"], indirect=True)
def test_a_reply_that_was_not_read_to_its_end(bank: MariaDBBank) -> None:
    """R10: nor is it known what the rest of a reply says: it is never taken for the COMMIT's."""

    def convert(text: str) -> None:
        raise Unreadable

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        run(environ["db.conn"], TAKE)
        with suppress(Unreadable):
            run(environ["db.conn"], "SELECT balance FROM account")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    with Database(bank.url, transaction="request", connect_args={"conv": {**conversions, LONG: convert}}) as database:
        assert get(DatabaseMiddleware(app, database)).status_code == 500
        assert database.stats().discards == {"commit failed": 1}
    bank.rows("SET innodb_lock_wait_timeout = 10")
    bank.rows("UPDATE account SET balance = balance WHERE id = 1")
    assert bank.state == BEFORE


@pytest.mark.parametrize("kind", ["pymysql"], indirect=True)
def test_rows_that_the_driver_reads_by_itself(bank: MariaDBBank) -> None:
    """R10: rows left unread, which PyMySQL reads before the next statement, are no loss: all is committed."""

    def leaves_unread(conn: Any, bank: Any) -> None:
        cursor = bank.unbuffered(conn)
        cursor.execute("SELECT balance FROM account")
        cursor.fetchone()
        with pytest.warns(UserWarning, match="left incomplete"):
            run(conn, NOTE)

    assert Careless(bank, leaves_unread).request() == 200
    assert bank.state == (90, 100, 1)


def test_the_cause_is_in_the_log_only(bank: MariaDBBank, caplog: pytest.LogCaptureFixture) -> None:
    """R10: one ERROR names the request and the server's error; the client gets a plain 500."""
    caplog.set_level(logging.ERROR, "wsgidb")
    assert Careless(bank, deadlock, says(NOTE)).request() == 500
    [record] = caplog.records
    assert "GET /: commit failed" in record.message
    assert "1213" in record.message


def test_a_script_is_told(bank: MariaDBBank) -> None:
    """R10: outside of a request the end of ``with db.connection()`` raises TransactionLost."""
    with Database(bank.url, transaction="request", pool_size=1) as database:

        def work() -> None:
            with database.connection() as conn:
                run(conn, TAKE)
                deadlock(conn, bank)

        with pytest.raises(TransactionLost, match="1213"):
            work()
        assert bank.state == BEFORE
        with database.connection() as conn:
            run(conn, NOTE)
    assert bank.state == NOTED


def test_manual_is_left_alone(bank: MariaDBBank) -> None:
    """R10: with transaction=manual what a handler commits after a loss is committed: DB-API, no more and no less."""
    steps = (deadlock, says(NOTE), lambda conn, bank: conn.commit())
    assert Careless(bank, *steps, transaction="manual").request() == 200
    assert bank.state == NOTED
