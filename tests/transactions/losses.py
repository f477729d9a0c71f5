"""Ways in which a server ends a transaction behind the handler's back, and a handler that swallows the error."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from typing import Any

import pytest

from strategies.kit import Bank, MariaDBBank, Worker, get, run
from support.client import connect
from support.waiting import until
from wsgidb import Database, DatabaseMiddleware

TAKE = "UPDATE account SET balance = balance - 10 WHERE id = 1"
GIVE = "UPDATE account SET balance = balance + 10 WHERE id = 2"
NOTE = "INSERT INTO transfer (amount) VALUES (10)"
LOCK = "SELECT * FROM account WHERE id = 2 FOR UPDATE"
Step = Callable[[Any, Any], object]


LOST = (2006, 2013, 2055)
"""What the drivers say of a connection that was lost."""


def fails(bank: MariaDBBank, conn: Any, sql: str, *numbers: int) -> None:
    with pytest.raises(bank.errors) as caught:
        run(conn, sql)
    assert bank.code(caught.value) in numbers


class Rival:
    """Somebody who has account 2 and waits for account 1, which the handler has; with so many rows written that InnoDB
    makes the other one the victim of a deadlock."""

    def __init__(self, bank: MariaDBBank) -> None:
        self._conn = connect(bank.server.url("root"))
        run(self._conn, f"INSERT INTO transfer VALUES {', '.join(['(0)'] * 50)}")
        run(self._conn, "UPDATE account SET balance = 0 WHERE id = 2")
        self._work = Worker(lambda: run(self._conn, "UPDATE account SET balance = 0 WHERE id = 1"))
        # Else the handler might wait for account 2 for longer than it may before this one closes the circle.
        until(lambda: bank.server.status("Innodb_row_lock_current_waits"), what="the rival to wait")

    def gives_up(self) -> None:
        self._work.outcome()
        self._conn.rollback()
        self._conn.close()


def deadlock(conn: Any, bank: Any) -> None:
    rival = Rival(bank)
    fails(bank, conn, GIVE, 1213)
    rival.gives_up()


def deadlock_among_rows(conn: Any, bank: Any) -> None:
    """The first row comes, then the error, past all methods that a statement has."""
    rival = Rival(bank)
    cursor = bank.unbuffered(conn)
    cursor.execute("SELECT balance FROM account ORDER BY id FOR UPDATE")
    with pytest.raises(bank.errors) as caught:
        cursor.fetchall()
    assert bank.code(caught.value) == 1213
    with suppress(*bank.errors):
        cursor.close()  # mysqlclient tells again
    rival.gives_up()


def deadlock_in_the_second(conn: Any, bank: Any) -> None:
    """Of two statements in one."""
    rival = Rival(bank)
    with closing(conn.cursor()) as cursor:
        cursor.execute(f"DO 1; {GIVE}")
        with pytest.raises(bank.errors) as caught:
            cursor.nextset()
    assert bank.code(caught.value) == 1213
    rival.gives_up()


def deadlock_that_do_hides(conn: Any, bank: Any) -> None:
    """In a function: DO tells of no error."""
    bank.rows(f"CREATE OR REPLACE FUNCTION test.gives() RETURNS INT BEGIN {GIVE}; RETURN 1; END")
    rival = Rival(bank)
    run(conn, "DO gives()")
    rival.gives_up()


def cut(conn: Any, bank: Any) -> None:
    bank.proxy.cut()
    fails(bank, conn, GIVE, *LOST)


def kill(conn: Any, bank: Any) -> None:
    bank.server.kill_connections("guest")
    fails(bank, conn, GIVE, *LOST)


def lock_timeout(conn: Any, bank: Any) -> None:
    """The statement's end, or, with innodb_rollback_on_timeout, the transaction's."""
    with closing(connect(bank.server.url("root"))) as rival:
        run(rival, LOCK)
        fails(bank, conn, GIVE, 1205)


def overtaken(conn: Any, bank: Any) -> None:
    """By somebody who changed a row since this transaction's snapshot: with innodb_snapshot_isolation."""
    run(conn, "SELECT balance FROM account")
    with closing(connect(bank.server.url("root"))) as rival:
        run(rival, "UPDATE account SET balance = balance + 5 WHERE id = 2")
        rival.commit()
    fails(bank, conn, GIVE, 1020)


def conflict(conn: Any, bank: Bank) -> None:
    """SQLite's ON CONFLICT ROLLBACK."""
    with pytest.raises(sqlite3.IntegrityError):
        conn.execute("INSERT OR ROLLBACK INTO account VALUES (1, 0)")


class Careless:
    """A middleware whose handler takes money, loses its transaction, swallows the error and goes on."""

    def __init__(self, bank: MariaDBBank, *steps: Step, transaction: Any = "request") -> None:
        self.bank, self.steps = bank, steps
        self.database = Database(
            bank.url,
            **bank.several,
            transaction=transaction,
            pool_size=1,
            init_sql=["SET innodb_lock_wait_timeout = 1"],
        )

    def request(self) -> int:
        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            conn = environ["db.conn"]
            run(conn, TAKE)
            for step in self.steps:
                step(conn, self.bank)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"done"]

        with self.database:
            status = get(DatabaseMiddleware(app, self.database)).status_code
        self.bank.rows("SET innodb_lock_wait_timeout = 10")  # the server may be about to notice a dead connection
        return status


def says(sql: str) -> Step:
    return lambda conn, bank: run(conn, sql)
