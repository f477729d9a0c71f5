"""C4: what a hot request costs, counted on the wire and, beside it, by the server itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import MYSQL, MariaDBBank, WiredBank, get, run
from support.clock import Clock
from wsgidb import Database, DatabaseMiddleware

pytestmark = pytest.mark.server

REQUESTS = 20
by_mysql = pytest.mark.parametrize("networked", MYSQL, indirect=True)
INSERT = "INSERT INTO transfer VALUES (1)"
Handler = Callable[[Any], object]


def nothing(conn: Any) -> None:
    """A handler that does not touch its connection."""


def read(conn: Any) -> None:
    run(conn, "SELECT 1")


def write(conn: Any) -> None:
    run(conn, INSERT)


def commit(conn: Any) -> None:
    write(conn)
    conn.commit()


def roll_back(conn: Any) -> None:
    write(conn)
    conn.rollback()


def commit_then_read(conn: Any) -> None:
    commit(conn)
    read(conn)


SELECT, ROLLBACK, COMMIT = "QUERY SELECT 1", "QUERY ROLLBACK", "QUERY COMMIT"
WIRE: list[tuple[str, Handler, list[str]]] = [
    ("autocommit", nothing, []),
    ("autocommit", read, [SELECT]),
    ("autocommit", write, [f"QUERY {INSERT}"]),
    ("manual", nothing, []),
    ("manual", read, [SELECT, ROLLBACK]),
    ("manual", write, [f"QUERY {INSERT}", ROLLBACK]),
    ("manual", commit, [f"QUERY {INSERT}", COMMIT]),
    ("manual", roll_back, [f"QUERY {INSERT}", ROLLBACK]),
    ("manual", commit_then_read, [f"QUERY {INSERT}", COMMIT, SELECT, ROLLBACK]),
    ("request", nothing, []),
    ("request", read, [SELECT, COMMIT]),
    ("request", write, [f"QUERY {INSERT}", COMMIT]),
    ("request", commit, [f"QUERY {INSERT}", COMMIT]),
    ("request", roll_back, [f"QUERY {INSERT}", ROLLBACK]),
]


def on_the_wire(bank: WiredBank, transaction: str, said: list[str]) -> list[str]:
    """The same with what the driver says by itself, as its docstring tells: psycopg's BEGIN."""
    if transaction == "autocommit":
        return said
    found: list[str] = []
    for position, command in enumerate(said):
        if position == 0 or said[position - 1] in (COMMIT, ROLLBACK):
            found += bank.begins
        found.append(command)
    return found


def requests(database: Database, handler: Handler, count: int) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        handler(environ["db.conn"])
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    wrapped = DatabaseMiddleware(app, database)
    for _ in range(count):
        assert get(wrapped).status_code == 200


def warm(make: MakeDatabase, wired: WiredBank, **options: Any) -> Database:
    """A Database that has its connection already."""
    database = make(wired.url, **wired.plain, **options)
    requests(database, nothing, 1)
    return database


@pytest.mark.parametrize(("transaction", "handler", "expected"), WIRE)
def test_hot_request_on_the_wire(
    make: MakeDatabase,
    networked: WiredBank,
    keeping: str,
    transaction: str,
    handler: Handler,
    expected: list[str],
    clock: Clock,
) -> None:
    """C4: autocommit adds nothing; manual adds one ROLLBACK and request one COMMIT, and only where something ran since
    the last settle. No BEGIN is sent, except for psycopg's."""
    database = warm(make, networked, strategy=keeping, transaction=transaction, clock=clock)
    with networked.proxy.counting() as seen:
        requests(database, handler, REQUESTS)
    assert seen == on_the_wire(networked, transaction, expected) * REQUESTS
    assert database.stats().connects == 1


@pytest.mark.parametrize(("transaction", "expected"), [("autocommit", [SELECT]), ("manual", [SELECT, ROLLBACK])])
def test_request_of_its_own_connection(
    make: MakeDatabase, networked: WiredBank, transaction: str, expected: list[str]
) -> None:
    """C4: per-request logs in, says goodbye, and adds nothing else, except that psycopg's driver looks for a pooler."""
    database = make(networked.url, strategy="per-request", transaction=transaction)
    with networked.proxy.counting() as seen:
        requests(database, read, 1)
    opening = networked.opening if transaction == "manual" else ()
    heard = [text for text in seen if not text.startswith("QUERY SET NAMES")]
    assert heard == [*networked.greeting, *opening, *on_the_wire(networked, transaction, expected), networked.goodbye]


@by_mysql
@pytest.mark.parametrize(
    ("transaction", "handler", "questions", "rollbacks"),
    [("autocommit", read, 1, 0), ("manual", nothing, 0, 0), ("manual", read, 2, 1), ("manual", commit, 2, 0)],
)
def test_hot_request_by_the_servers_counters(
    make: MakeDatabase,
    networked: MariaDBBank,
    keeping: str,
    transaction: str,
    handler: Handler,
    questions: int,
    rollbacks: int,
    clock: Clock,
) -> None:
    """C4: the server counts the same: no hidden question, rollback or ping."""
    database = warm(make, networked, strategy=keeping, transaction=transaction, clock=clock)
    names = ("Questions", "Com_rollback", "Com_admin_commands", "Connections")
    before = networked.status(*names)
    requests(database, handler, REQUESTS)
    after = networked.status(*names)
    found = [late - early for early, late in zip(before, after, strict=True)]
    assert found == [questions * REQUESTS + 1, rollbacks * REQUESTS, 0, 0], "1 is for asking"


@by_mysql
def test_ping_is_one_round_trip(make: MakeDatabase, networked: MariaDBBank, keeping: str) -> None:
    """C4: with ping_after=0 each request pays one COM_PING, which is in Com_admin_commands and not in Questions;
    or, by mysqlclient, a statement."""
    database = warm(make, networked, strategy=keeping, transaction="autocommit", ping_after=0)
    before = networked.status("Questions", "Com_admin_commands")
    with networked.proxy.counting() as seen:
        requests(database, read, REQUESTS)
    assert seen == [networked.ping_command, SELECT] * REQUESTS
    after = networked.status("Questions", "Com_admin_commands")
    expected = [REQUESTS + 1, REQUESTS] if networked.ping_command == "PING" else [2 * REQUESTS + 1, 0]
    assert [late - early for early, late in zip(before, after, strict=True)] == expected
