"""on_connect and on_lease with every strategy, and what they cost on the wire."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from drivers.deadlines import MARGIN
from strategies.conftest import MakeDatabase
from strategies.kit import Bank, MariaDBBank, PostgreSQLBank, WiredBank, get, run, together
from support.clock import Clock
from transactions.losses import NOTE, TAKE
from transactions.repeating import Repeating
from wsgidb import DatabaseMiddleware, DatabaseUnavailable

Environ = dict[str, Any]


def app(handler: Callable[[Any], object]) -> Callable[[Environ, Any], list[bytes]]:
    def application(environ: Environ, start_response: Any) -> list[bytes]:
        handler(environ["db.conn"])
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    return application


def test_each_connection_and_each_lease(make: MakeDatabase, bank: Bank, strategy: str) -> None:
    """on_connect, on_lease: one call for each connection, and one for each request, with every strategy."""
    calls: list[str] = []

    def on_lease(conn: Any, environ: Environ) -> Iterator[None]:
        calls.append("begin")
        run(conn, "SELECT 1")
        yield
        calls.append("end")

    database = make(bank.url, strategy=strategy, on_connect=lambda conn: calls.append("connect"))
    wrapped = DatabaseMiddleware(app(lambda conn: calls.append("handler")), database, on_lease=on_lease)
    for _ in range(2):
        get(wrapped)
    once = ["begin", "handler", "end"]
    again = ["connect"] if strategy == "per-request" else []
    assert calls == ["connect", *once, *again, *once]


def test_a_failing_on_connect_is_a_503(make: MakeDatabase, bank: Bank, strategy: str) -> None:
    """on_connect, R1: the client gets a 503, and neither the application nor on_lease is called."""
    calls: list[str] = []

    def on_connect(conn: Any) -> None:
        raise LookupError("no")

    database = make(bank.url, strategy=strategy, on_connect=on_connect)
    wrapped = DatabaseMiddleware(
        app(lambda conn: calls.append("handler")), database, on_lease=lambda conn, environ: calls.append("lease")
    )
    assert get(wrapped).status_code == 503
    assert calls == []


def test_each_tenant_sees_its_own(make: MakeDatabase, wired_postgresql: PostgreSQLBank) -> None:
    """on_lease, C3: many threads of many tenants, whose handlers crash and leave early, never see another's setting."""
    database = make(wired_postgresql.url, pool_size=3)
    wrong: list[Any] = []

    def on_lease(conn: Any, environ: Environ) -> Iterator[None]:
        run(conn, f"SELECT set_config('my.tenant', '{environ['REMOTE_USER']}', false)")
        yield
        run(conn, "RESET my.tenant")

    def application(environ: Environ, start_response: Any) -> Iterator[bytes]:
        conn, tenant = environ["db.conn"], environ["REMOTE_USER"]
        start_response("200 OK", [])
        yield b""
        for number in range(3):
            if run(conn, "SELECT current_setting('my.tenant')") != [(tenant,)]:
                wrong.append(tenant)
            if environ["HTTP_X_HOW"] == str(number):
                run(conn, "SELECT no_such_column")
            yield b"."

    wrapped = DatabaseMiddleware(application, database, on_lease=on_lease)
    outside: list[Any] = []

    def requests(tenant: int) -> None:
        for number in range(20):
            environ = {"REMOTE_USER": str(tenant), "HTTP_X_HOW": str(number % 5), "PATH_INFO": "/"}
            body = wrapped(environ, lambda *_: print)
            with suppress(Exception):
                for _, _chunk in zip(range(number % 4), body, strict=False):
                    pass
            body.close()
            if number % 7 == tenant % 7:
                with database.connection() as conn:
                    outside.append(run(conn, "SELECT nullif(current_setting('my.tenant', true), '')"))

    together([lambda tenant=tenant: requests(tenant) for tenant in range(6)])  # type: ignore[misc]
    assert wrong == []
    assert outside == [[(None,)]] * len(outside) != []
    assert database.stats().connects == 3


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_a_thread_left_behind_costs_the_connection(make: MakeDatabase, wired: MariaDBBank, acquire: Any) -> None:
    """on_lease, R8: where a statement is under way at the end, the connection goes, and so the second half is not
    run."""
    ends: list[int] = []
    threads: list[threading.Thread] = []
    began = threading.Event()

    def on_lease(conn: Any, environ: Environ) -> Iterator[None]:
        run(conn, "SET @tenant = 7")
        yield
        ends.append(1)

    def slow(conn: Any) -> None:
        cursor = conn.cursor()
        began.set()
        with suppress(Exception):
            cursor.execute("SELECT SLEEP(30)")

    def handler(conn: Any) -> None:
        run(conn, "SELECT 1")
        threads.append(threading.Thread(target=slow, args=(conn,)))
        threads[0].start()
        began.wait(10)
        while not conn.driver_connection._seen.busy:
            pass

    database = make(wired.url)
    get(DatabaseMiddleware(app(handler), database, on_lease=on_lease, acquire=acquire))
    threads[0].join(10)
    assert ends == []
    assert database.stats().discards == {"in the middle of a statement": 1}


# -- deadlines


@pytest.mark.parametrize("half", ["first", "second"])
def test_each_half_has_a_deadline(make: MakeDatabase, networked: WiredBank, half: str) -> None:
    """on_lease: a statement of either half that hangs is over at ping_timeout, without any read_timeout."""
    on: list[str] = []

    def on_lease(conn: Any, environ: Environ) -> Iterator[None]:
        if on == ["first"]:
            networked.proxy.deaf()
            run(conn, "SELECT 1")
        yield
        if on == ["second"]:
            networked.proxy.deaf()
            run(conn, "SELECT 1")

    database = make(networked.url, pool_size=1, ping_timeout=0.3, ping_after=None)
    wrapped = DatabaseMiddleware(app(lambda conn: None), database, on_lease=on_lease)
    get(wrapped)
    on.append(half)
    began = database.clock()
    if half == "first":
        with pytest.raises(networked.errors):
            get(wrapped)
    else:
        assert get(wrapped).status_code == 200
    assert database.clock() - began < 0.3 + MARGIN
    networked.proxy.hear()
    assert sum(database.stats().discards.values()) == 1


# -- costs

SET = {True: "SET @tenant = 7", False: "SELECT set_config('my.tenant', '7', true)"}
UNSET = {True: "SET @tenant = NULL", False: "RESET my.tenant"}


@pytest.mark.impossible("mysqlclient", "C4")
def test_a_function_costs_one_round_trip(make: MakeDatabase, networked: WiredBank, clock: Clock) -> None:
    """on_lease, C4: its statements are the request's: no others are sent for them, nor at the end."""
    mysql = isinstance(networked, MariaDBBank)
    hook, begins = SET[mysql], list(networked.begins)
    database = make(networked.url, transaction="request", clock=clock, **networked.plain)
    get(DatabaseMiddleware(app(lambda conn: None), database))
    wrapped = DatabaseMiddleware(
        app(lambda conn: run(conn, "SELECT 1")), database, on_lease=lambda conn, environ: print(run(conn, hook))
    )
    with networked.proxy.counting() as seen:
        get(wrapped)
    assert seen == [*begins, f"QUERY {hook}", "QUERY SELECT 1", "QUERY COMMIT"]


@pytest.mark.impossible("mysqlclient", "C4")
def test_a_second_half_costs_two(make: MakeDatabase, networked: WiredBank, clock: Clock) -> None:
    """on_lease, C4: a second half costs its statements, and one COMMIT, without which PostgreSQL would undo them."""
    mysql = isinstance(networked, MariaDBBank)
    begins = list(networked.begins)

    def on_lease(conn: Any, environ: Environ) -> Iterator[None]:
        run(conn, SET[mysql])
        yield
        run(conn, UNSET[mysql])

    database = make(networked.url, transaction="request", clock=clock, **networked.plain)
    get(DatabaseMiddleware(app(lambda conn: None), database))
    with networked.proxy.counting() as seen:
        get(DatabaseMiddleware(app(lambda conn: run(conn, "SELECT 1")), database, on_lease=on_lease))
    first = [*begins, f"QUERY {SET[mysql]}", "QUERY SELECT 1", "QUERY COMMIT"]
    assert seen == [*first, *begins, f"QUERY {UNSET[mysql]}", "QUERY COMMIT"]


def test_a_refusal_is_still_a_503(make: MakeDatabase, bank: Bank) -> None:
    """on_lease, R1: where no connection can be had, on_lease is not called; its own errors are never a 503."""
    calls: list[str] = []

    def on_lease(conn: Any, environ: Environ) -> None:
        calls.append("lease")
        raise DatabaseUnavailable("of another Database")

    database = make(bank.url, pool_size=1, max_waiting=0)
    wrapped = DatabaseMiddleware(app(lambda conn: None), database, on_lease=on_lease)
    with pytest.raises(DatabaseUnavailable, match="of another Database"):
        get(wrapped)
    with database.connection():
        assert get(wrapped).status_code == 503
    assert calls == ["lease"]


@pytest.mark.parametrize("bank", ["sqlite", "psycopg"], indirect=True)
@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_each_attempt_has_its_own(bank: Bank, acquire: Any) -> None:
    """on_lease, R14: a request that is repeated gets a lease for each attempt, with both halves; what the second half
    commits is not the request's, and what the first half writes is undone with it."""
    calls: list[str] = []

    def on_lease(conn: Any, environ: Environ) -> Iterator[None]:
        calls.append("begin")
        run(conn, NOTE)
        yield
        run(conn, "SELECT 1")
        calls.append("end")

    def locked(conn: Any, bank: Any) -> None:
        """The handler's transaction is undone: its lock is another's, or so the server says."""
        if isinstance(bank, PostgreSQLBank):
            run(conn, "SELECT pg_temp.fail()")
        conn.rollback()
        bank.rows("BEGIN")
        bank.rows(TAKE)
        try:
            run(conn, TAKE)
        finally:
            bank.rows("ROLLBACK")

    init_sql = list(bank.no_waiting)
    if isinstance(bank, PostgreSQLBank):
        code = "BEGIN RAISE EXCEPTION USING ERRCODE = '40001'; END"
        init_sql.append(f"CREATE FUNCTION pg_temp.fail() RETURNS int LANGUAGE plpgsql AS $$ {code} $$")
    site = Repeating(bank, locked, on_lease=on_lease, acquire=acquire, init_sql=init_sql)
    assert (site.tried(), site.attempts) == (200, [1, 2])
    assert calls == ["begin", "end"] * 2
    assert bank.state == (90, 110, 2)
