"""C1: whatever happens to a transfer of money, and wherever: all or nothing, and the handler is told the truth."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import AFTER, BEFORE, Bank, WiredBank, get, run, together
from wsgidb import DatabaseMiddleware

TAKE = "UPDATE account SET balance = balance - 10 WHERE id = 1"
GIVE = "UPDATE account SET balance = balance + 10 WHERE id = 2"
NOTE = "INSERT INTO transfer (amount) VALUES (10)"
TRANSFER = {"manual": (TAKE, GIVE, NOTE, "COMMIT"), "autocommit": ("BEGIN", TAKE, GIVE, NOTE, "COMMIT")}
MONEY = {f"QUERY {sql}" for statements in TRANSFER.values() for sql in statements}

pytestmark = pytest.mark.parametrize("transaction", TRANSFER)


class Crash(Exception):
    """A handler's own failure."""


class Teller:
    """A middleware whose handler transfers money; `at` is called at every boundary between its statements."""

    def __init__(self, make: MakeDatabase, bank: Bank, strategy: str, transaction: str, **options: Any) -> None:
        self.bank, self.statements = bank, TRANSFER[transaction]
        self.at: Callable[[int], object] = lambda boundary: None
        self.database = make(bank.url, strategy=strategy, transaction=transaction, **options)
        self.app = DatabaseMiddleware(self._handle, self.database)

    def _handle(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        for boundary, sql in enumerate(self.statements):
            self.at(boundary)
            run(environ["db.conn"], sql)
        self.at(len(self.statements))
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"transferred"]

    def kill_at(self, boundary: int, bank: WiredBank) -> None:
        self.at = lambda at: bank.server.kill_connections("guest") if at == boundary else None

    def transfer(self) -> None:
        assert get(self.app).status_code == 200

    def fails(self) -> Exception:
        """The next transfer's handler gets the driver's error, and so does the server."""
        with pytest.raises(self.bank.errors) as caught:
            self.transfer()
        return caught.value

    def still_works(self, bank: Bank) -> None:
        """The next request is served as if nothing had been."""
        self.at = lambda boundary: None
        bank.reset()
        self.transfer()
        assert bank.state == AFTER
        bank.reset()


def sent(bank: WiredBank, mark: int, transaction: str) -> list[str]:
    """The transfer's statements that went over the wire since `mark`, without what the driver sends by itself."""
    money = MONEY if transaction == "autocommit" else MONEY - {*bank.begins}
    return [text.removeprefix("QUERY ") for text in bank.proxy.commands_since(mark) if text in money]


@pytest.mark.server
def test_killed_at_every_boundary(make: MakeDatabase, networked: WiredBank, strategy: str, transaction: str) -> None:
    """C1: KILL before any statement: the handler gets an error and nothing is committed; after COMMIT all of it is."""
    teller = Teller(make, networked, strategy, transaction)
    end = len(teller.statements)
    for boundary in range(end + 1):
        teller.kill_at(boundary, networked)
        mark = networked.proxy.mark()
        if boundary < end:
            teller.fails()
        else:
            teller.transfer()
        assert networked.state == (BEFORE if boundary < end else AFTER), f"killed at boundary {boundary}"
        # What was sent into the dead line may have been heard, but nothing was sent again.
        heard = sent(networked, mark, transaction)
        assert heard in (list(teller.statements[:boundary]), list(teller.statements[: boundary + 1]))
        teller.still_works(networked)


@pytest.mark.server
def test_killed_connection_is_never_replaced_within_a_request(
    make: MakeDatabase, networked: WiredBank, strategy: str, transaction: str
) -> None:
    """C1: a handler that ignores errors and goes on gets one for each further statement, COMMIT included."""
    teller = Teller(make, networked, strategy, transaction)
    errors: list[str] = []

    def careless(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        for boundary, sql in enumerate(teller.statements):
            teller.at(boundary)
            try:
                run(environ["db.conn"], sql)
            except networked.errors:
                errors.append(sql)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    for boundary in range(len(teller.statements)):
        errors.clear()
        teller.kill_at(boundary, networked)
        get(DatabaseMiddleware(careless, teller.database))
        assert list(teller.statements[boundary:]) == errors
        assert networked.state == BEFORE
        teller.still_works(networked)


@pytest.mark.server
@pytest.mark.parametrize("reply", [False, True], ids=["before it arrives", "before its reply"])
def test_cut_at_every_statement(
    make: MakeDatabase, networked: WiredBank, strategy: str, transaction: str, reply: bool
) -> None:
    """C1: a connection cut at any statement is an error, also where COMMIT was done and only its reply is missing."""
    teller = Teller(make, networked, strategy, transaction)
    for position, sql in enumerate(teller.statements):
        planned: list[threading.Event] = []

        own = len(networked.begins) if transaction == "manual" else 0

        def plan(at: int, n: int = own + position + 1, planned: list[threading.Event] = planned) -> None:
            if at == 0:
                planned.append(networked.proxy.break_after(n, reply=reply))

        teller.at = plan
        mark = networked.proxy.mark()
        teller.fails()
        assert planned[0].is_set()
        heard = sent(networked, mark, transaction)
        assert list(teller.statements[: position + 1]) == heard, "each statement was sent exactly once"
        assert networked.state == (AFTER if reply and sql == "COMMIT" else BEFORE), f"cut at {sql}"
        teller.still_works(networked)


@pytest.mark.server
def test_deadlock_victim_is_told(make: MakeDatabase, networked: WiredBank, strategy: str, transaction: str) -> None:
    """C1: of two transfers that deadlock one is done, and the other is undone and told so."""
    teller = Teller(make, networked, strategy, transaction)
    first_locks = threading.Barrier(2, timeout=10)
    backwards = [sql for sql in teller.statements if sql != "BEGIN"]
    backwards[:2] = ["UPDATE account SET balance = balance - 1 WHERE id = 2", TAKE.replace("- 10", "+ 1")]

    def transfer(statements: list[str]) -> object:
        try:
            with teller.database.connection() as conn:
                if transaction == "autocommit":
                    run(conn, "BEGIN")
                run(conn, statements[0])
                first_locks.wait()
                for sql in statements[1:]:
                    run(conn, sql)
        except networked.errors as error:
            return networked.code(error)
        return "done"

    forwards = [TAKE, GIVE, NOTE, "COMMIT"]
    mark = networked.proxy.mark()
    told = together([lambda: transfer(forwards), lambda: transfer(backwards)])
    assert {networked.deadlock, "done"} == set(told)
    assert networked.state == (AFTER if told[0] == "done" else (101, 99, 1)), "one transfer, and all of it"
    commands = networked.proxy.commands_since(mark)
    for sql in (*forwards[:2], *backwards[:2]):
        assert commands.count(f"QUERY {sql}") == 1, "nothing was replayed"
    teller.still_works(networked)


@pytest.mark.server
@pytest.mark.parametrize("account", [1, 2])
def test_lock_timeout_undoes_all(
    make: MakeDatabase, networked: WiredBank, strategy: str, transaction: str, account: int
) -> None:
    """C1: a lock timeout (1205, which undoes its statement only) reaches the handler, and all is undone."""
    teller = Teller(make, networked, strategy, transaction, init_sql=networked.no_waiting)
    networked.rows("BEGIN")
    networked.rows(f"SELECT * FROM account WHERE id = {account} FOR UPDATE")
    marks: list[int] = []
    teller.at = lambda boundary: marks.append(networked.proxy.mark())
    assert networked.code(teller.fails()) == networked.lock_timeout
    networked.rows("COMMIT")
    assert networked.state == BEFORE
    heard = sent(networked, marks[0], transaction)
    assert list(teller.statements[: len(heard)]) == heard, "each statement was sent at most once"
    assert heard[-1] == (TAKE if account == 1 else GIVE)
    teller.still_works(networked)


def test_handler_fails_at_every_boundary(make: MakeDatabase, bank: Bank, strategy: str, transaction: str) -> None:
    """C1: a handler that fails at any boundary before COMMIT has done nothing; the same error comes out."""
    teller = Teller(make, bank, strategy, transaction)
    end = len(teller.statements)
    for boundary in range(end + 1):
        crash = Crash()

        def fail(at: int, when: int = boundary, crash: Crash = crash) -> None:
            if at == when:
                raise crash

        teller.at = fail
        with pytest.raises(Crash) as caught:
            teller.transfer()
        assert caught.value is crash
        assert bank.state == (BEFORE if boundary < end else AFTER), f"failed at boundary {boundary}"
        teller.still_works(bank)


def test_handler_that_forgets_to_commit(make: MakeDatabase, bank: Bank, strategy: str, transaction: str) -> None:
    """C1: what is not committed when the request ends is rolled back, and locks nothing."""
    teller = Teller(make, bank, strategy, transaction)
    teller.statements = teller.statements[:-1]
    teller.transfer()
    assert bank.state == BEFORE
    teller.statements = TRANSFER[transaction]
    teller.still_works(bank)


def test_locked_by_somebody_else(make: MakeDatabase, bank: Bank, strategy: str, transaction: str) -> None:
    """C1: a database that somebody else has locked is an error, and nothing is done by half, on every driver."""
    teller = Teller(make, bank, strategy, transaction, init_sql=bank.no_waiting)
    bank.rows("BEGIN")
    bank.rows("UPDATE account SET balance = 0 WHERE id = 2")
    teller.fails()
    bank.rows("ROLLBACK")
    assert bank.state == BEFORE
    teller.still_works(bank)
