"""After a failover the old primary lives on, and takes no writes: connections to it must go, though a ping succeeds."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import pymysql
import pytest

from faults.conftest import Serve
from faults.load import Ledger
from strategies.kit import run, session_of
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.packets import error
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb import Database
from wsgidb.drivers.generic import Generic

MYSQLS = ("mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector")
CLIENTS = 4
REASON = "server read-only or not ready"


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("handler", ["pay", "careless"])
def test_failover_under_load(serve: Serve, own_mariadb: MariaDB, primary: MariaDB, keeping: str, handler: str) -> None:
    """The server becomes read-only, and its name leads to another one: the writes that are under way fail, swallowed
    by the handler or not; then all connections have been asked, and all goes to the new one. No payment is lost or made
    twice."""
    old, new = Ledger(own_mariadb), Ledger(primary)
    with (
        TCPProxy(own_mariadb.port) as proxy,
        serve(proxy.url_from(own_mariadb.url("app")), strategy=keeping) as site,
    ):
        with site.load(handler, clients=CLIENTS) as seen:
            seen.more()
        own_mariadb.execute("SET GLOBAL read_only = 1")  # which under load might wait for a lock for a minute
        proxy.retarget(primary.port)
        with site.load(handler, clients=CLIENTS) as later:
            later.more(count=100)
        stats = site.stats()
    told = [answer for answer in later if answer.body in ("error 1290", "swallowed 1290")]
    assert 1 <= len(told) <= CLIENTS, "those that were under way"
    assert stats["discards"].pop(REASON) == len(told)
    assert stats["discards"].keys() <= {"no longer fit"}
    assert set(later.kinds) <= {"served", "error 1290"}
    seen += later
    numbers = [{number for (number,) in server.query("SELECT number FROM ledger")} for server in (own_mariadb, primary)]
    assert numbers[1], "the new primary was written to"
    assert not numbers[0] & numbers[1]
    confirmed = {answer.number for answer in seen if answer.body == str(answer.number)}
    assert confirmed == numbers[0] | numbers[1]
    for ledger, part in zip((old, new), numbers, strict=True):
        ledger.agrees_with([answer for answer in seen if answer.number in part])


@pytest.fixture(params=MYSQLS)
def url(request: pytest.FixtureRequest, mariadb: MariaDB, proxy: TCPProxy) -> str:
    """Of MariaDB, behind a network, for each of its drivers."""
    return proxy.url_from(mariadb.url()).replace("mysql+pymysql", request.param)


def error_swallowed(database: Database, sql: str = "SELECT 'write'") -> None:
    with database.connection() as conn, suppress(Exception):
        run(conn, sql)


def error_escapes(database: Database) -> None:
    with suppress(Exception), database.connection() as conn:
        run(conn, "SELECT 'write'")


def handler_recovers(database: Database) -> None:
    with database.connection() as conn:
        with suppress(Exception):
            run(conn, "SELECT 'write'")
        conn.rollback()


def without_a_cursor(database: Database) -> None:
    conn: Any
    with database.connection() as conn:
        with suppress(Exception):
            (conn.query if hasattr(conn, "query") else conn.cmd_query)("SELECT 'write'")
        conn.rollback()


READ_ONLY = {
    "--read-only": (1290, "The MariaDB server is running with the --read-only option so it cannot execute this"),
    "--super-read-only": (1290, "The MySQL server is running with the --super-read-only option so it cannot execute"),
    "read-only mode": (1836, "Running in read-only mode"),
    "Galera": (1047, "WSREP has not yet prepared node for application use"),
}
NAMESAKES = {
    "--secure-file-priv": (1290, "The MariaDB server is running with the --secure-file-priv option so it cannot"),
    "unknown command": (1047, "Unknown command"),
    "READ ONLY transaction": (1792, "Cannot execute statement in a READ ONLY transaction"),
}


@pytest.mark.server
@pytest.mark.parametrize("use", [error_swallowed, error_escapes, handler_recovers, without_a_cursor])
@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
def test_read_only_server_is_left(url: str, proxy: TCPProxy, use: Callable[[Database], None], transaction: Any) -> None:
    """discard_read_only: whatever the handler makes of the error, and the next request has another connection."""
    with Database(url, transaction=transaction) as database:
        with database.connection() as conn:
            before = session_of(conn)
        proxy.answer("SELECT 'write'", lambda: error(READ_ONLY["--read-only"][0], "HY000", READ_ONLY["--read-only"][1]))
        use(database)
        assert database.stats().discards == {REASON: 1}
        with database.connection() as conn:
            assert session_of(conn) != before


def told(database: Database, proxy: TCPProxy, code: int, text: str) -> dict[str, int]:
    """What is discarded because of an error."""
    done = proxy.answer("SELECT 'write'", lambda: error(code, "HY000", text))
    error_swallowed(database)
    assert done.is_set()
    return database.stats().discards


@pytest.mark.server
@pytest.mark.parametrize("name", READ_ONLY)
def test_errors_that_mean_it(url: str, proxy: TCPProxy, name: str) -> None:
    """discard_read_only: 1290 of a read-only option, 1836, 1047 of Galera."""
    with Database(url) as database:
        assert told(database, proxy, *READ_ONLY[name]) == {REASON: 1}


@pytest.mark.server
@pytest.mark.parametrize("name", NAMESAKES)
def test_their_namesakes_do_not(url: str, proxy: TCPProxy, name: str) -> None:
    """discard_read_only: 1290 of another option, 1047 of a client's mistake, and a transaction's own READ ONLY."""
    with Database(url) as database:
        assert told(database, proxy, *NAMESAKES[name]) == {}


@pytest.mark.server
def test_switched_off(url: str, proxy: TCPProxy) -> None:
    """discard_read_only=false: an application that tries to write to a replica keeps its connection."""
    with Database(url, discard_read_only=False) as database:
        assert told(database, proxy, *READ_ONLY["--read-only"]) == {}


@pytest.mark.server
def test_what_was_written_before_is_committed(url: str, mariadb: MariaDB, proxy: TCPProxy) -> None:
    """discard_read_only: the transaction is the handler's; only its connection gets no other request."""
    mariadb.execute("CREATE TABLE kept (n INT)")
    try:
        with Database(url, transaction="request") as database:
            proxy.answer("SELECT 'write'", lambda: error(READ_ONLY["read-only mode"][0], "HY000", "read-only mode"))
            with database.connection() as conn:
                run(conn, "INSERT INTO kept VALUES (1)")
                with suppress(Exception):
                    run(conn, "SELECT 'write'")
            assert database.stats().discards == {REASON: 1}
        assert mariadb.query("SELECT n FROM kept") == [(1,)]
    finally:
        mariadb.execute("DROP TABLE kept")


@pytest.mark.server
def test_postgresql_that_takes_no_writes(own_postgresql: PostgreSQL) -> None:
    """discard_read_only: 25006 of a server that says so of itself; not of a handler's own READ ONLY transaction."""
    with Database(own_postgresql.url()) as database:
        with database.connection() as conn:
            run(conn, "SET TRANSACTION READ ONLY")
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                run(conn, "CREATE TABLE written (n INT)")
        assert database.stats().discards == {}
        own_postgresql.execute("ALTER SYSTEM SET default_transaction_read_only = on")
        own_postgresql.query("SELECT pg_reload_conf()")
        shown = [("on",)]
        until(lambda: own_postgresql.query("SHOW default_transaction_read_only") == shown, what="the change")
        with database.connection() as conn, suppress(psycopg.errors.ReadOnlySqlTransaction):
            run(conn, "CREATE TABLE written (n INT)")
        assert database.stats().discards == {REASON: 1}


@pytest.mark.server
@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
def test_swallowed_loss(mariadb: MariaDB, keeping: Any, transaction: Any) -> None:
    """A connection that the server has killed in a statement is discarded as lost, though the handler told nobody, and
    no rollback is tried on it."""
    with Database(mariadb.url(), strategy=keeping, transaction=transaction) as database:
        with database.connection() as conn:
            with suppress(pymysql.Error):
                run(conn, f"KILL {session_of(conn)}")
            with suppress(pymysql.Error):
                run(conn, "SELECT 1")
        assert database.stats().discards == {"connection lost": 1}
        with database.connection() as conn:
            assert run(conn, "SELECT 1") == [(1,)]


class Telling(Generic):
    """A driver of a user's own that knows two errors."""

    name = "telling"

    def is_disconnect(self, error: BaseException) -> bool:
        return str(error) == "gone"

    def is_read_only(self, error: BaseException) -> bool:
        return str(error) == "read-only"


@pytest.mark.parametrize(
    ("text", "discards"), [("gone", {"connection lost": 1}), ("read-only", {REASON: 1}), ("typo", {})]
)
@pytest.mark.parametrize("method", ["execute", "commit"])
def test_driver_of_ones_own(fakedb: FakeDB, method: str, text: str, discards: dict[str, int]) -> None:
    """is_disconnect, is_read_only: what a driver of one's own says of errors counts for what handlers swallow, too."""
    with Database(creator=fakedb.connect, driver=Telling) as database:
        fakedb.fail(method, FakeDB.OperationalError(text))
        with database.connection() as conn:
            with suppress(FakeDB.Error):
                conn.cursor().execute("SELECT 1")
            with suppress(FakeDB.Error):
                conn.commit()
        assert database.stats().discards == discards
