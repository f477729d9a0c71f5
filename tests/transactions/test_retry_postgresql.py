"""R14 on PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import psycopg
import pytest

from strategies.kit import AFTER, PostgreSQLBank, Worker, run
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from support.waiting import until
from transactions.losses import GIVE, NOTE, TAKE, Step, says
from transactions.repeating import Repeating, each

pytestmark = pytest.mark.server
FAILS = """CREATE OR REPLACE FUNCTION fails() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF current_setting('test.state', true) <> '' THEN
        RAISE 'so it is' USING ERRCODE = current_setting('test.state');
    END IF;
    RETURN NULL;
END $$"""
RAISES = """CREATE OR REPLACE FUNCTION raises() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
    RAISE 'deadlock' USING ERRCODE = '40P01';
END $$"""
TRIGGER = """CREATE CONSTRAINT TRIGGER fails AFTER INSERT ON transfer DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION fails()"""
"""Lets the COMMIT fail with the error that the transaction has set."""


@pytest.fixture
def bank(postgresql: PostgreSQL, postgresql_proxy: TCPProxy) -> Iterator[PostgreSQLBank]:
    with closing(PostgreSQLBank(postgresql, postgresql_proxy)) as bank:
        for sql in (FAILS, RAISES, TRIGGER):
            bank.rows(sql)
        yield bank


def site(bank: PostgreSQLBank, *steps: Step, **options: Any) -> Repeating:
    return Repeating(bank, *steps, **bank.plain, **options)


def deadlock(conn: Any, bank: Any) -> None:
    """The one that looks for a deadlock is its victim: the handler does so soon, and the rival, who waits already, does
    not for 10 seconds."""
    with closing(bank.server.connect()) as rival:
        rival.autocommit = False
        run(rival, "SET deadlock_timeout = '10s'")
        run(rival, "UPDATE account SET balance = 0 WHERE id = 2")
        work = Worker(lambda: run(rival, "UPDATE account SET balance = 0 WHERE id = 1"))
        waits = f"SELECT 1 FROM pg_locks WHERE NOT granted AND pid = {rival.info.backend_pid}"
        until(lambda: bank.rows(waits), what="the rival to wait")
        try:
            run(conn, GIVE)
        finally:
            work.outcome()
            rival.rollback()


def serialization_failure(conn: Any, bank: Any) -> None:
    """At the statement: somebody has changed the row since this transaction's snapshot."""
    conn.rollback()
    run(conn, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    run(conn, "SELECT balance FROM account")
    bank.rows("UPDATE account SET balance = balance + 0 WHERE id = 2")
    run(conn, TAKE)
    run(conn, GIVE)


def write_skew(conn: Any, bank: Any) -> None:
    """At the COMMIT: two transactions have read what the other one writes."""
    conn.rollback()
    run(conn, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    with closing(bank.server.connect()) as rival:
        rival.autocommit = False
        run(rival, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        for each in (conn, rival):
            run(each, "SELECT SUM(balance) FROM account")
        run(conn, TAKE)
        run(rival, "INSERT INTO account VALUES (3, 0)")
        run(rival, "SELECT COUNT(*) FROM transfer")
        rival.commit()


def at_commit(state: str) -> Step:
    return lambda conn, bank: run(conn, f"SET LOCAL test.state = '{state}'")


def kill(conn: Any, bank: Any) -> None:
    bank.rows(f"SELECT pg_terminate_backend({conn.info.backend_pid})")


def raise_deadlock(conn: Any, bank: Any) -> None:
    run(conn, "SELECT raises()")


def after(step: Callable[[Any], object]) -> Step:
    """A deadlock after this step of the handler's."""

    def both(conn: Any, bank: Any) -> None:
        step(conn)
        raise_deadlock(conn, bank)

    return both


def in_a_block(conn: Any, bank: Any) -> None:
    with conn.transaction():
        raise_deadlock(conn, bank)


def rolled_back(conn: Any, bank: Any) -> None:
    try:
        raise_deadlock(conn, bank)
    except psycopg.Error:
        conn.rollback()
        raise


def swallowed(conn: Any, bank: Any) -> None:
    with suppress(psycopg.Error):
        raise_deadlock(conn, bank)
    with suppress(psycopg.Error):
        run(conn, "SELECT 1")
    raise LookupError("of the application, later")


UNDONE: dict[str, Step] = {
    "deadlock": deadlock,
    "serialization failure": serialization_failure,
    "write skew, found at COMMIT": write_skew,
    "refused at COMMIT": at_commit("40001"),
    "killed": kill,
    "cut": lambda conn, bank: bank.proxy.cut(),
    "killed before COMMIT": each(says(GIVE), says(NOTE), kill),
    "in a transaction() block": in_a_block,
    "rolled back by a framework": rolled_back,
    "hidden behind another exception": swallowed,
    "DDL is undone, too": after(lambda conn: run(conn, "CREATE TABLE more (n INT)")),
    "a savepoint": after(lambda conn: run(conn, "SAVEPOINT s")),
}


@pytest.mark.parametrize("undone", UNDONE)
def test_what_is_repeated(bank: PostgreSQLBank, undone: str) -> None:
    """R14: nothing remains of the first attempt, and the second one succeeds: the client sees nothing of it."""
    made = site(bank, UNDONE[undone])
    assert (made.tried(), made.attempts, made.retries) == (200, [1, 2], 1)
    assert bank.state[-3:] == AFTER or bank.state[:2] == AFTER[:2]


def block(conn: Any) -> None:
    conn.commit()
    with conn.transaction():
        run(conn, TAKE)


def pipelined(conn: Any) -> None:
    with conn.pipeline():
        conn.execute(TAKE)
        conn.commit()


def autocommitted(conn: Any) -> None:
    conn.rollback()
    conn.autocommit = True
    run(conn, TAKE)


def prepared(conn: Any) -> None:
    conn.rollback()
    conn.tpc_begin("retry")
    run(conn, "SELECT 1")
    conn.tpc_commit()


DOUBTFUL: dict[str, Step] = {
    "the COMMIT's reply was lost": lambda conn, bank: bank.proxy.lose_reply("COMMIT"),
    "the reply of its own COMMIT was lost": lambda conn, bank: (bank.proxy.lose_reply("COMMIT"), conn.commit()),
    "completion unknown": at_commit("40003"),
    "shutdown at COMMIT": at_commit("57P01"),
    "read-only at COMMIT": at_commit("25006"),
    "a constraint at COMMIT": at_commit("23505"),
    "a statement's own error": lambda conn, bank: run(conn, "SELECT nothing"),
    "commit()": after(lambda conn: conn.commit()),
    "COMMIT": after(lambda conn: conn.execute("COMMIT")),
    "END": after(lambda conn: conn.execute(psycopg.sql.SQL("/* x */ end"))),
    "several": after(lambda conn: conn.execute("SELECT 1; COMMIT; BEGIN")),
    "after a rollback": after(lambda conn: conn.execute(f"ROLLBACK; {TAKE}")),
    "transaction()": after(block),
    "pipeline()": after(pipelined),
    "autocommit": after(autocommitted),
    "two-phase": after(prepared),
}


@pytest.mark.parametrize("doubtful", DOUBTFUL)
def test_what_is_not_repeated(bank: PostgreSQLBank, doubtful: str) -> None:
    """R14: not where something is permanent, or may be, nor where it would fail again."""
    made = site(bank, DOUBTFUL[doubtful])
    assert made.tried() != 200
    assert (made.attempts, made.retries) == ([1], 0)


def test_a_read_only_server(bank: PostgreSQLBank) -> None:
    """R14: as after a failover, until another one is there; a transaction of the handler's own that is read-only is
    its own affair."""

    made = site(bank, init_sql=["SET default_transaction_read_only = on"])
    assert (made.tried(), made.attempts) == (psycopg.errors.ReadOnlySqlTransaction, [1, 2, 3])
    made = site(bank, lambda conn, bank: run(conn, "SET TRANSACTION READ ONLY"))
    assert (made.tried(), made.attempts) == (psycopg.errors.ReadOnlySqlTransaction, [1])


def test_a_success_is_not_repeated(bank: PostgreSQLBank) -> None:
    """R14: an error that the handler has dealt with, by a rollback or by a savepoint."""

    def step(conn: Any, bank: Any) -> None:
        with suppress(psycopg.Error), conn.transaction():
            raise_deadlock(conn, bank)

    made = site(bank, step)
    assert (made.tried(), made.attempts) == (200, [1])
    assert bank.state == AFTER
