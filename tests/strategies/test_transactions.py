"""R9 and R10 with every strategy and driver: the rest of it, which neither can change, is in tests/transactions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import BEFORE, MYSQL, Bank, MariaDBBank, WiredBank, run
from support import packets
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware, TransactionLost

NOTE = "INSERT INTO transfer VALUES (1)"
NOTED = (100, 100, 1)
TEXT = b"abcd"
Handler = Callable[[Any], object]


@pytest.fixture
def database(make: MakeDatabase, bank: Bank, strategy: str) -> Database:
    return make(bank.url, strategy=strategy, transaction="request")


@pytest.fixture
def wired_database(make: MakeDatabase, networked: WiredBank, strategy: str) -> Database:
    return make(networked.url, strategy=strategy, transaction="request")


def whole(*chunks: bytes) -> list[bytes]:
    return [*chunks]


def streamed(*chunks: bytes) -> Iterator[bytes]:
    yield from chunks


def answering(
    handler: Handler, body: Callable[..., Iterable[bytes]] = whole, status: str = "200 OK", length: int | None = None
) -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        handler(environ["db.conn"])
        start_response(status, [] if length is None else [("Content-Length", str(length))])
        return body(TEXT[:2], TEXT[2:])

    return app


def note(conn: Any) -> None:
    run(conn, NOTE)


@pytest.mark.parametrize(("body", "length"), [(whole, None), (streamed, len(TEXT))])
def test_committed_before_the_last_byte(
    database: Database, bank: Bank, body: Callable[..., Iterable[bytes]], length: int | None
) -> None:
    """R9: what completes the body goes out only when its transaction is committed, for everybody to see."""
    call = Call(DatabaseMiddleware(answering(note, body, length=length), database))
    assert bank.state == (NOTED if body is whole else BEFORE)
    sent = b""
    for chunk in call.body:
        sent += chunk
        assert bank.state == (NOTED if body is whole or sent == TEXT else BEFORE)
    assert (call.status, sent) == ("200 OK", TEXT)
    call.read()
    assert database.stats().leased == 0


@pytest.mark.parametrize("how", ["status", "closed", "raised"])
def test_anything_but_success_is_rolled_back(database: Database, bank: Bank, how: str) -> None:
    """R9: a status of 400, a client that left before the end, an exception: nothing of it is there, nor is a lock."""

    def fails(conn: Any) -> None:
        note(conn)
        raise ZeroDivisionError

    if how == "raised":
        with pytest.raises(ZeroDivisionError):
            Call(DatabaseMiddleware(answering(fails), database))
    elif how == "closed":
        Call(DatabaseMiddleware(answering(note, streamed), database)).body.close()
    else:
        Call(DatabaseMiddleware(answering(note, status="404 Not Found"), database)).read()
    assert bank.state == BEFORE
    bank.rows(NOTE)
    assert database.stats().discards == {}


@pytest.mark.server
def test_failed_commit_is_no_success(wired_database: Database, networked: WiredBank) -> None:
    """R9: a transaction whose session was killed is a 500, where the head was held; a stream is broken off."""

    def killed(conn: Any) -> None:
        note(conn)
        assert networked.server.kill_connections("guest") > 0

    call = Call(DatabaseMiddleware(answering(killed), wired_database))
    assert (call.status, call.read()) == ("500 Internal Server Error", b"Internal Server Error\n")
    call = Call(DatabaseMiddleware(answering(killed, streamed), wired_database))
    with pytest.raises((TransactionLost, *networked.errors)):
        call.read()
    assert networked.state == BEFORE
    assert Call(DatabaseMiddleware(answering(note), wired_database)).status == "200 OK"
    assert networked.state == NOTED


@pytest.mark.server
def test_loss_that_was_swallowed(wired_database: Database, networked: WiredBank) -> None:
    """R10: a handler that ignores the end of its session and goes on gets a 500, and nothing of it is committed."""

    def careless(conn: Any) -> None:
        note(conn)
        networked.server.kill_connections("guest")
        for _ in range(2):
            with suppress(*networked.errors, TransactionLost):
                note(conn)
        with suppress(*networked.errors, TransactionLost):
            conn.commit()

    assert Call(DatabaseMiddleware(answering(careless), wired_database)).status == "500 Internal Server Error"
    assert networked.state == BEFORE


@pytest.mark.server
@pytest.mark.parametrize("networked", MYSQL, indirect=True)
def test_deadlock_that_was_swallowed(wired_database: Database, networked: MariaDBBank) -> None:
    """R10: nor is what came after the deadlock, though the session is alive and would commit it."""

    def careless(conn: Any) -> None:
        note(conn)
        done = networked.proxy.answer("DO 1", lambda: packets.error(1213, "40001", "Deadlock found"))
        with pytest.raises(networked.errors):
            run(conn, "DO 1")
        assert done.is_set()
        note(conn)

    assert Call(DatabaseMiddleware(answering(careless), wired_database)).status == "500 Internal Server Error"
    assert networked.state == BEFORE
