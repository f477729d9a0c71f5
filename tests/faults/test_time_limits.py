"""Limits on a statement's time: the server's own and the driver's. Money is conserved, and each statement done once."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from faults.conftest import READ_TIMEOUT
from strategies.kit import AFTER, BEFORE, MariaDBBank, Worker, get, run
from support.mariadb import MariaDB
from support.packets import error
from support.proxy import TCPProxy
from wsgidb import Database, DatabaseMiddleware

pytestmark = pytest.mark.server

TAKE = "UPDATE account SET balance = balance - 10 WHERE id = 1"
GIVE = "UPDATE account SET balance = balance + 10 WHERE id = 2"
NOTE = "INSERT INTO transfer (amount) VALUES (10)"
SLOW = "SET STATEMENT max_statement_time = 0.05 FOR UPDATE account SET balance = SLEEP(5) WHERE id = 2"
HANGS = "UPDATE account SET balance = balance + 10 + SLEEP(5) WHERE id = 2"
LONG = f"SELECT '{'x' * 15_000_000}'"
"""More than fits into the buffers between here and the server."""
WRITE_TIMEOUT, LONGER = 0.3, 20.0
"""Seconds for what the network does not take, and a read_timeout so long that nobody takes the one for the other."""


@pytest.fixture
def bank(mariadb: MariaDB, proxy: TCPProxy) -> Iterator[MariaDBBank]:
    with closing(MariaDBBank(mariadb, proxy)) as bank:
        yield bank


class Teller:
    """Transfers money; one of its statements may be too slow, and its error be swallowed."""

    def __init__(self, database: Database) -> None:
        self.app = DatabaseMiddleware(self._handle, database)
        self.statements: tuple[str, ...] = (TAKE, GIVE, NOTE)
        self.swallows = False
        self.told: list[Any] = []

    def _handle(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        conn = environ["db.conn"]
        for sql in self.statements:
            try:
                run(conn, sql)
            except MariaDBBank.errors as error:
                self.told.append(error.args[0])
                if not self.swallows:
                    start_response("500 Internal Server Error", [("Content-Type", "text/plain")])
                    return [b"failed"]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"transferred"]

    def transfer(self) -> int:
        return get(self.app).status_code


def test_statement_time_limit(bank: MariaDBBank, keeping: Any) -> None:
    """1969, MariaDB's max_statement_time: one statement is undone, the request fails, and its connection is kept."""
    with Database(bank.url, strategy=keeping, transaction="request") as database:
        teller = Teller(database)
        teller.statements = (TAKE, SLOW, NOTE)
        assert teller.transfer() == 500
        assert (teller.told, bank.state) == ([1969], BEFORE)
        teller.statements = (TAKE, GIVE, NOTE)
        assert teller.transfer() == 200
        assert bank.state == AFTER
        assert (database.stats().connects, database.stats().discards) == (1, {})


def test_statement_time_limit_that_was_swallowed(bank: MariaDBBank, keeping: Any) -> None:
    """1969 ends its statement only: a handler that goes on commits the rest, as with any failed statement."""
    with Database(bank.url, strategy=keeping, transaction="request") as database:
        teller = Teller(database)
        teller.statements, teller.swallows = (TAKE, SLOW, GIVE, NOTE), True
        assert teller.transfer() == 200
        assert (teller.told, bank.state) == ([1969], AFTER)


def test_select_time_limit_of_mysql(bank: MariaDBBank, keeping: Any) -> None:
    """3024, MySQL's max_execution_time for a SELECT: an error like any other, and the connection is kept."""
    with Database(bank.url, strategy=keeping, transaction="request") as database:
        teller = Teller(database)
        teller.statements, teller.swallows = (TAKE, GIVE, NOTE, "SELECT 'slow'"), True
        text = "Query execution was interrupted, maximum statement execution time exceeded"
        bank.proxy.answer("SELECT 'slow'", lambda: error(3024, "HY000", text))
        assert teller.transfer() == 200
        assert (teller.told, bank.state, database.stats().discards) == ([3024], AFTER, {})


@pytest.mark.parametrize("scheme", READ_TIMEOUT)
@pytest.mark.parametrize("before", ["", "SELECT REPEAT('x', 100000) UNION ALL "], ids=["all of it", "its second row"])
def test_late_reply(mariadb: MariaDB, keeping: Any, scheme: str, before: str) -> None:
    """read_timeout: a handler that goes on gets errors, and nobody the reply that comes too late."""
    url, limit = mariadb.url().replace("mysql+pymysql", scheme), READ_TIMEOUT[scheme]
    with Database(url, strategy=keeping, read_timeout=limit) as database:
        with database.connection() as conn:
            with pytest.raises(Exception, match=r"(?i)timed out|lost connection"):
                run(conn, f"{before}SELECT SLEEP({limit + 1})")
            for _ in range(2):
                with pytest.raises(Exception, match=r"(?i)gone|not available|^\(0"):
                    run(conn, "SELECT 'again'")
        assert database.stats().discards == {"connection lost": 1}
        mariadb.kill_connections("guest")  # it would sleep on
        with database.connection() as conn:
            assert run(conn, "SELECT 'next'") == [("next",)]


@pytest.mark.parametrize("swallows", [False, True])
def test_read_timeout(bank: MariaDBBank, keeping: Any, swallows: bool) -> None:
    """read_timeout: nobody knows what became of the statement, so its connection goes, and with it the transaction;
    where the error was swallowed, the commit fails."""
    limit = READ_TIMEOUT["mysql+pymysql"]
    with Database(bank.url, strategy=keeping, transaction="request", read_timeout=limit) as database:
        teller = Teller(database)
        teller.statements, teller.swallows = (TAKE, HANGS, NOTE), swallows
        assert teller.transfer() == 500
        assert teller.told[0] == 2013
        assert database.stats().discards == {"connection lost" if not swallows else "commit failed": 1}
        bank.server.kill_connections("guest")  # it would go on with the statement for a while
        assert bank.state == BEFORE
        teller.statements, teller.swallows = (TAKE, GIVE, NOTE), False
        assert teller.transfer() == 200
        assert bank.state == AFTER


def test_write_timeout(bank: MariaDBBank, keeping: Any) -> None:
    """write_timeout: a statement that the network does not take is over then, though its reply might be waited for much
    longer; its connection goes, and with it the transaction."""
    took = []
    limits: dict[str, Any] = {"read_timeout": LONGER, "write_timeout": WRITE_TIMEOUT}
    with Database(bank.url, strategy=keeping, transaction="request", **limits) as database:

        def request() -> None:
            with database.connection() as conn:
                run(conn, TAKE)
                bank.proxy.deaf()
                began = time.monotonic()
                try:
                    run(conn, LONG)
                finally:
                    took.append(time.monotonic() - began)
                    bank.proxy.hear()

        with pytest.raises(MariaDBBank.errors) as caught:
            Worker(request).outcome(2 * LONGER)
        assert caught.value.args[0] in (2006, 2013)
        assert WRITE_TIMEOUT <= took[0] < LONGER / 2
        assert database.stats().discards == {"connection lost": 1}
        bank.server.kill_connections("guest")
        assert bank.state == BEFORE
        teller = Teller(database)
        assert teller.transfer() == 200
        assert bank.state == AFTER
