"""What reset=session costs on the wire, and what becomes of a connection whose reset failed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from strategies.kit import run
from support.clock import Clock
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from wsgidb import ConfigError, Database

server = pytest.mark.server
SERVED = "SELECT CONNECTION_ID()"
RESET = "RESET_CONNECTION"
NAMES = "QUERY SET NAMES utf8mb4"
NAMES_OFF = f"{NAMES}, autocommit = 0"
ROLE = "QUERY SELECT 1 FROM DUAL WHERE NOT CURRENT_ROLE() <=> NULL"


@pytest.fixture(params=["pooled", "thread-local"])
def keeping(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def table(mariadb: MariaDB) -> Iterator[None]:
    mariadb.execute("CREATE TABLE item (n INT)")
    yield
    mariadb.execute("DROP TABLE item")


WIRE: list[tuple[str, str, dict[str, Any], list[str]]] = [
    ("autocommit", "", {}, [RESET, NAMES, "QUERY SELECT DATABASE()", ROLE]),
    ("autocommit", "test", {}, [RESET, NAMES, "INIT_DB test", ROLE]),
    ("manual", "test", {}, [RESET, NAMES_OFF, "INIT_DB test", ROLE]),
    ("request", "test", {}, ["QUERY COMMIT", RESET, NAMES_OFF, "INIT_DB test", ROLE]),
    (
        "manual",
        "test",
        {"init_sql": ["SET @a = 1"]},
        [RESET, NAMES_OFF, "INIT_DB test", ROLE, "QUERY SET @a = 1"],
    ),
    (
        "autocommit",
        "test",
        {"init_sql": ["SET @a = 1"]},
        [RESET, NAMES, "INIT_DB test", ROLE, "QUERY SET @a = 1"],
    ),
]


@server
@pytest.mark.parametrize(("transaction", "database", "options", "expected"), WIRE)
def test_what_a_reset_costs(
    mariadb: MariaDB,
    proxy: TCPProxy,
    clock: Clock,
    keeping: Any,
    transaction: Any,
    database: str,
    options: dict[str, Any],
    expected: list[str],
) -> None:
    """C4: one round trip each for the reset and what it took back; none where a request ran nothing."""
    url = proxy.url_from(mariadb.url(database=database))
    with Database(url, strategy=keeping, transaction=transaction, reset="session", clock=clock, **options) as source:
        for _ in range(2):
            with source.connection() as conn:
                run(conn, SERVED)
        with proxy.counting() as seen:
            with source.connection() as conn:
                run(conn, SERVED)
            for _ in range(3):
                with source.connection() as conn:
                    conn.cursor()
        assert seen == [f"QUERY {SERVED}", *expected]
        assert source.stats().connects == 1


@server
def test_a_request_that_ran_nothing_costs_no_reset_after_a_ping(mariadb: MariaDB, proxy: TCPProxy) -> None:
    """C4: a ping before the request is no use of the session."""
    with Database(proxy.url_from(mariadb.url()), reset="session", ping_after=0, pool_size=1) as source:
        with source.connection():
            pass
        with proxy.counting() as seen, source.connection():
            pass
        assert seen == ["PING"]


@server
def test_a_server_that_refuses_costs_the_connection(
    mariadb: MariaDB, keeping: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C6: where the command is unknown (error 1047: an old server, a proxy between) no session is handed on."""
    monkeypatch.setattr("wsgidb.drivers.pymysql.session.COM_RESET_CONNECTION", 0xFE)
    with Database(mariadb.url(), strategy=keeping, reset="session") as source:
        with source.connection() as conn:
            run(conn, "SET @mine = 7")
            first = run(conn, SERVED)
        assert (source.stats().discards, source.stats().open) == ({"reset failed": 1}, 0)
        with source.connection() as conn:
            assert run(conn, "SELECT @mine") == [(None,)]
            assert run(conn, SERVED) != first


@server
@pytest.mark.parametrize("step", [1, 2, 3, 4, 5])
def test_a_reset_that_fails_anywhere_costs_the_connection(
    mariadb: MariaDB, proxy: TCPProxy, keeping: Any, step: int
) -> None:
    """C6: half a reset is none."""
    init = ["SET @init = 1"]
    with Database(proxy.url_from(mariadb.url()), strategy=keeping, reset="session", init_sql=init) as source:
        with source.connection() as conn:
            run(conn, "SET @mine = 7")
            proxy.break_after(step)
        assert (source.stats().discards, source.stats().open) == ({"reset failed": 1}, 0)
        with source.connection() as conn:
            assert run(conn, "SELECT @mine, @init") == [(None, 1)]


@server
def test_init_sql_that_fails_again_costs_the_connection(mariadb: MariaDB, table: None, keeping: str) -> None:
    """C6: a session without its init_sql is no session of ours."""
    options: Any = {"strategy": keeping, "reset": "session", "init_sql": ["INSERT INTO item VALUES (1)"]}
    with Database(mariadb.url(), **options) as source:
        with source.connection() as conn:
            run(conn, SERVED)
            mariadb.execute("ALTER TABLE item ADD UNIQUE (n)")
        assert source.stats().discards == {"reset failed": 1}


@server
def test_a_reset_ends_a_lost_transaction(mariadb: MariaDB, table: None) -> None:
    """C3: what a request lost is not the next one's, with sql_mode and init_sql to be applied again."""
    url = mariadb.url(sql_mode="ANSI", init_command="SET @command = 1")
    init = ["SET @init = 1"]
    with Database(url, transaction="request", reset="session", init_sql=init, pool_size=1) as source:
        with suppress(ZeroDivisionError), source.connection() as conn:
            run(conn, "INSERT INTO item VALUES (1)")
            conn._seen.lost = "a deadlock"
            raise ZeroDivisionError
        with source.connection() as conn:
            run(conn, "INSERT INTO item VALUES (2)")
        assert source.stats().connects == 1
    assert mariadb.query("SELECT n FROM item") == [(2,)]


@pytest.mark.parametrize(
    "options", [{"url": "sqlite:///app.db"}, {"creator": FakeDB().connect}], ids=["sqlite", "creator"]
)
def test_who_cannot_clear_a_session_does_not_promise_it(options: dict[str, Any]) -> None:
    """A ConfigError at start-up names the option and what does it instead."""
    with pytest.raises(ConfigError, match=r"^reset: .*strategy=per-request"):
        Database(**options, reset="session")
