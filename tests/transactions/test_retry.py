"""R14 on MariaDB: a request is repeated only where its transaction is known to be undone."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from mysql.connector.cursor import MySQLCursorPrepared

from strategies.kit import AFTER, BEFORE, MYSQL_BANKS, MariaDBBank, run
from support.client import connect
from support.mariadb import MariaDB
from support.packets import error
from support.proxy import TCPProxy
from transactions.losses import GIVE, LOCK, NOTE, TAKE, Rival, Step, deadlock, deadlock_that_do_hides, overtaken, says
from transactions.repeating import Repeating, each, rollback
from transactions.test_lost import COMMITS, strict_bank, strict_mariadb  # noqa: F401 - fixtures

pytestmark = [pytest.mark.server, pytest.mark.filterwarnings("ignore:The 'reconnect' argument:DeprecationWarning")]
SLOW = pytest.mark.slow


@pytest.fixture(params=MYSQL_BANKS)
def kind(request: pytest.FixtureRequest) -> type[MariaDBBank]:
    return MYSQL_BANKS[request.param]


@pytest.fixture
def bank(mariadb: MariaDB, proxy: TCPProxy, kind: type[MariaDBBank]) -> Iterator[MariaDBBank]:
    with closing(kind(mariadb, proxy)) as bank:
        yield bank
        bank.rows("SET innodb_lock_wait_timeout = 10")  # the server may be about to notice a dead connection


def refuses(sql: str, number: int, text: str = "so it is") -> Step:
    """The server answers a statement with this error, and the handler lets it out."""

    def step(conn: Any, bank: Any) -> None:
        bank.proxy.answer(sql, lambda: error(number, "HY000", text))
        conn.commit() if sql == "COMMIT" else run(conn, sql)

    return step


def at_commit(number: int, text: str = "so it is") -> Step:
    """The server answers the COMMIT at the end of the request with this error."""
    return lambda conn, bank: bank.proxy.answer("COMMIT", lambda: error(number, "HY000", text))


def victim(conn: Any, bank: Any) -> None:
    """A deadlock, whose error the handler lets out."""
    rival = Rival(bank)
    try:
        run(conn, GIVE)
    finally:
        rival.gives_up()


def cut(conn: Any, bank: Any) -> None:
    bank.proxy.cut()


def kill(conn: Any, bank: Any) -> None:
    bank.server.kill_connections("guest")


def lost_reply(sql: str) -> Step:
    """The server executes this statement, and the reply is lost."""

    def step(conn: Any, bank: Any) -> None:
        bank.proxy.lose_reply(sql)
        if sql != "COMMIT":
            run(conn, sql)

    return step


def waits_too_long(conn: Any, bank: Any) -> None:
    run(conn, "SET innodb_lock_wait_timeout = 1")
    with closing(connect(bank.server.url("root"))) as rival:
        run(rival, LOCK)
        run(conn, GIVE)


UNDONE: dict[str, Step] = {
    "deadlock": victim,
    "a deadlock that the handler swallows": deadlock,
    "cut before a statement": cut,
    "killed before a statement": kill,
    "lost during a statement": lost_reply(NOTE),
    "killed while the handler thinks": each(says(GIVE), says(NOTE), kill),
    **{f"error {number}": refuses(NOTE, number) for number in (1020, 1213, 3101, 8002, 8022, 8028, 9007, 1836)},
    "read-only": refuses(NOTE, 1290, "The server is running with the --read-only option"),
    "not ready": refuses(NOTE, 1047, "WSREP has not yet prepared node for application use"),
    "a Vitess transaction that took too long": refuses(NOTE, 1105, "vttablet: code = Aborted desc = exceeded timeout"),
    "certification failure": at_commit(1213),
    "refused by group replication": at_commit(3101),
    "TiDB's failed COMMIT": at_commit(8022),
    "the handler's own COMMIT refused": refuses("COMMIT", 1213),
    "rolled back by a framework": lambda conn, bank: roll_back_after(victim, conn, bank),
    "begun by the handler": each(rollback, lambda conn, bank: bank.begin(conn), says(TAKE), victim),
    "statements that undo": lambda conn, bank: harmless(conn, bank),
}


def roll_back_after(step: Step, conn: Any, bank: Any) -> None:
    try:
        step(conn, bank)
    except Exception:
        conn.rollback()
        raise


def harmless(conn: Any, bank: Any) -> None:
    for sql in (
        "SAVEPOINT s",
        "ROLLBACK TO SAVEPOINT s",
        "SET @a = 1",
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "/* tracing */ SELECT 1",
        "SELECT 'a; b', 'it''s', 'it\\'s; c'",
        "SELECT 1;",
        "DO 1",
    ):
        run(conn, sql)
    victim(conn, bank)


def test_what_is_repeated(bank: MariaDBBank, undone: str) -> None:
    """R14: nothing remains of the first attempt, and the second one succeeds: the client sees nothing of it."""
    site = Repeating(bank, UNDONE[undone])
    assert (site.tried(), site.attempts, site.retries) == (200, [1, 2], 1)
    assert bank.state == AFTER


DOUBTFUL: dict[str, Step] = {
    "the COMMIT's reply was lost": lost_reply("COMMIT"),
    "DDL whose reply was lost": lost_reply("CREATE TABLE account_2 (id INT)"),
    "a procedure whose reply was lost": lost_reply("CALL test.notes()"),
    "1180": at_commit(1180),
    "no quorum at COMMIT": at_commit(1180, "Node is not in Primary Component"),
    "read-only at COMMIT": at_commit(1290, "The server is running with the --read-only option"),
    "not ready at COMMIT": at_commit(1047, "WSREP has not yet prepared node for application use"),
    "shutdown at COMMIT": at_commit(1053),
    "killed at COMMIT": at_commit(1927),
    "several shards of Vitess": at_commit(1105, "code = Aborted"),
    "a statement's own error": refuses(NOTE, 1062),
    "an option that is not read_only": refuses(NOTE, 1290, "The server is running with the --skip-grant-tables option"),
    "a lock timeout, which undoes one statement": waits_too_long,
    "unknown command": refuses(NOTE, 1047, "Unknown command"),
}


def test_what_is_not_repeated(bank: MariaDBBank, doubtful: str) -> None:
    """R14: not where the server may have committed, nor where the transaction stands."""
    bank.rows(f"CREATE OR REPLACE PROCEDURE test.notes() BEGIN {NOTE}; COMMIT; END")
    bank.drop("account_2")
    site = Repeating(bank, DOUBTFUL[doubtful])
    assert site.tried() != 200
    assert (site.attempts, site.retries) == ([1], 0)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All of them with PyMySQL; with the others what a driver may tell in another way."""
    for name, table in (("undone", UNDONE), ("doubtful", DOUBTFUL)):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, table)


@pytest.mark.parametrize("commit", [*COMMITS, "SET PASSWORD", "XA", "PREPARE", "BEGIN NOT ATOMIC", "prepared"])
def test_a_handler_that_has_committed(bank: MariaDBBank, commit: str) -> None:
    """R14: by itself, implicitly, or perhaps: what was done before would be done twice."""
    more: dict[str, Step] = {
        "SET PASSWORD": says("SET PASSWORD = PASSWORD('')"),
        "XA": says("XA RECOVER"),
        "PREPARE": says("PREPARE s FROM 'SELECT 1'"),
        "BEGIN NOT ATOMIC": says("BEGIN NOT ATOMIC SELECT 1; END"),
        "prepared": lambda conn, bank: run_prepared(conn, bank, "COMMIT"),
    }
    step = COMMITS.get(commit) or more[commit]

    def commits(conn: Any, bank: Any) -> None:
        with suppress(*bank.errors):
            step(conn, bank)
        raise_deadlock(conn, bank)

    bank.drop("account_2")
    site = Repeating(bank, commits, **bank.several)
    assert issubclass(site.tried(), bank.errors)  # type: ignore[arg-type]
    assert (site.attempts, site.retries) == ([1], 0)


def run_prepared(conn: Any, bank: MariaDBBank, sql: str) -> None:
    if bank.scheme == "mysql+mysqlconnector":
        cursor = conn.cursor(cursor_class=MySQLCursorPrepared)
        cursor.execute(sql)
        if cursor.with_rows:
            cursor.fetchall()
    else:
        run(conn, sql if sql != "COMMIT" else " COMMIT")


def raise_deadlock(conn: Any, bank: Any) -> None:
    """As the server would."""
    bank.proxy.answer(NOTE, lambda: error(1213, "40001", "Deadlock found"))
    run(conn, NOTE)


@pytest.mark.parametrize("kind", ["connector"], indirect=True)
def test_prepared_statements(bank: MariaDBBank) -> None:
    """R14: what a prepared statement commits is told by the text that it was prepared of."""

    def step(conn: Any, bank: Any) -> None:
        run_prepared(conn, bank, "SELECT id FROM account WHERE id = 1 FOR UPDATE")
        raise_deadlock(conn, bank)

    assert Repeating(bank, step).tried() == 200


@pytest.mark.parametrize("kind", ["pymysql", "connector"], indirect=True)
def test_a_table_without_transactions(bank: MariaDBBank) -> None:
    """R14: a row that was written outside of any transaction stays."""
    bank.drop("test.plain")
    bank.rows("CREATE TABLE test.plain (n INT) ENGINE=MyISAM")

    def step(conn: Any, bank: Any) -> None:
        conn.rollback()
        run(conn, "INSERT INTO plain VALUES (1)")
        raise_deadlock(conn, bank)

    site = Repeating(bank, step)
    assert issubclass(site.tried(), bank.errors)  # type: ignore[arg-type]
    assert site.attempts == [1]
    bank.drop("test.plain")


@pytest.mark.parametrize(
    ("kind", "by"),
    [("mysqlclient", "change_user"), ("connector", "cmd_change_user"), ("connector", "cmd_reset_connection")],
    indirect=["kind"],
)
def test_a_session_that_autocommits_unseen(bank: MariaDBBank, by: str) -> None:
    """R14: as it does after another login, or a reset by the handler."""

    def step(conn: Any, bank: Any) -> None:
        getattr(conn, by)(*(("guest", "", "test") if by.endswith("user") else ()))
        run(conn, NOTE)
        raise_deadlock(conn, bank)

    site = Repeating(bank, step)
    assert site.tried() != 200
    assert site.attempts == [1]


def test_innodb_rollback_on_timeout(strict_bank: MariaDBBank) -> None:  # noqa: F811 - a fixture
    """R14: then a lock timeout undoes the whole transaction, which the server is asked for."""
    site = Repeating(strict_bank, waits_too_long)
    assert (site.tried(), site.attempts) == (200, [1, 2])
    assert strict_bank.state == AFTER


def test_an_overtaken_snapshot(strict_bank: MariaDBBank) -> None:  # noqa: F811 - a fixture
    """R14: error 1020, with innodb_snapshot_isolation."""
    site = Repeating(strict_bank, each(rollback, overtaken))
    assert (site.tried(), site.attempts) == (200, [1, 2])


def test_an_error_that_do_hides(bank: MariaDBBank) -> None:
    """R14: the transaction is found to be lost only at its end; whether the function's error undid it, no reply
    tells."""
    site = Repeating(bank, deadlock_that_do_hides)
    assert (site.tried(), site.attempts) == (500, [1])
    assert bank.state == BEFORE


class TestVeto:
    """R14: a response that the handler meant."""

    def answered(self, bank: MariaDBBank, *steps: Step, status: str = "404 Not Found") -> Repeating:
        class Answering(Repeating):
            def app(self, environ: dict[str, Any], start: Any) -> Any:
                self.attempts.append(environ["wsgidb.attempt"])
                with suppress(*bank.errors):
                    for step in self.steps:
                        step(environ["db.conn"], self.bank)
                start(status, [("Content-Type", "text/plain")])
                return [b""]

        return Answering(bank, says(TAKE), *steps)

    def test_without_a_loss(self, bank: MariaDBBank) -> None:
        """R14: is sent as it is, also after another error."""
        site = self.answered(bank, refuses(NOTE, 1062))
        assert (site.tried(), site.attempts) == (404, [1])

    def test_an_error_page(self, bank: MariaDBBank) -> None:
        """R14: a framework makes a page of the error; the record of the lease tells what it was."""
        site = self.answered(bank, victim, status="500 Internal Server Error")
        assert (site.tried(), site.attempts, site.retries) == (500, [1, 2, 3], 2)

    def test_a_handler_that_starts_over(self, bank: MariaDBBank) -> None:
        """R14: it has rolled back, done something else, and then answered: that is its answer."""
        site = self.answered(bank, deadlock, rollback, says("SELECT 1"))
        assert (site.tried(), site.attempts) == (404, [1])


def test_a_success_is_not_repeated(bank: MariaDBBank) -> None:
    """R14: an error that the handler has dealt with."""
    site = Repeating(bank, deadlock, rollback, says(TAKE))
    assert (site.tried(), site.attempts) == (200, [1])
    assert bank.state == AFTER


def test_the_log_and_the_counter(bank: MariaDBBank, caplog: pytest.LogCaptureFixture) -> None:
    """R14: each repetition is one line with its reason; the first error counts, not what follows from it."""
    caplog.set_level(logging.INFO, "wsgidb")
    site = Repeating(bank, refuses(NOTE, 1213, "Deadlock found"))
    assert site.tried() == 200
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert [line.partition(": attempt 1 is undone, and the request is repeated: ")[0] for line in lines] == ["GET /"]
    assert "1213" in lines[0]
    assert "Deadlock found" in lines[0]
