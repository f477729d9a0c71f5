"""The option on_connect: what it does lasts as long as the connection, which begins clean, or there is none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import psycopg
import psycopg.types.enum
import psycopg.types.numeric
import psycopg.types.string
import pytest

from drivers.cases import BROKEN, HEAR, MYSQL, READ, WRITE, Backend, OnServer, database, over, run, soon
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb import ConfigError, Database, DatabaseUnavailable
from wsgidb.drivers.hooks import HookError
from wsgidb.drivers.states import CLEAN, DIRTY
from wsgidb.pool import backoff


@over()
def test_it_gets_the_drivers_own_connection_after_init_sql(backend: Backend) -> None:
    """on_connect: it is called once for each connection, and what it writes is committed and not a handler's."""
    got: list[Any] = []

    def on_connect(conn: Any) -> None:
        got.append(conn)
        assert run(conn, READ)[0][0] == 11, "init_sql has run"
        run(conn, "UPDATE contract SET n = 12")

    with database(backend, init_sql=[WRITE], on_connect=on_connect) as made:
        for _ in range(2):
            with made.connection() as conn:
                assert conn.driver_connection is got[0]
                assert backend.query(READ) == [(12,)]
        told = made.stats()
    assert len(got) == 1
    assert (told.connects, told.statements, told.errors, told.discards) == (1, 0, 0, {})


@over()
@pytest.mark.parametrize("transaction", ["manual", "request"])
def test_the_first_lease_begins_clean(backend: Backend, transaction: str) -> None:
    """on_connect: no transaction of its own is open afterwards, errors that it handles itself leave no trace, and
    autocommit is what it was."""

    def on_connect(conn: Any) -> None:
        run(conn, READ)
        with pytest.raises(Exception, match="no_such_column"):
            run(conn, BROKEN)
        conn.rollback()
        run(conn, READ)
        _flip(conn)

    driver = backend.driver(transaction=transaction, on_connect=on_connect)
    conn = backend.connect(driver)
    seen = driver.activity(conn)
    assert (seen.touched, seen.statements, seen.errors, seen.used, seen.unfit) == (0, 0, 0, False, None)
    if "see" in backend.can:
        assert driver.inspect(conn) is CLEAN
    run(conn, WRITE)
    conn.rollback()
    assert backend.query(READ) == [(10,)], "autocommit is off"


def _flip(conn: Any) -> None:
    current = getattr(conn, "autocommit", None)
    if callable(current):
        current(True)
    elif hasattr(conn, "isolation_level") and not hasattr(conn, "pgconn"):
        if type(conn).__module__.startswith("wsgidb"):  # a creator's is known by its attribute autocommit alone
            conn.isolation_level = None
    elif current is not None:
        conn.commit()
        conn.autocommit = True


@over()
def test_an_error_is_a_failed_connect(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """on_connect: whatever it raises, there is no connection, nothing stays open, and its text names the option."""
    monkeypatch.setattr(backoff, "FIRST", 60.0)  # else it may be over before the last lease
    monkeypatch.setattr(backoff, "LAST", 60.0)
    before = backend.sessions()
    calls = []

    def on_connect(conn: Any) -> None:
        calls.append(1)
        run(conn, WRITE)
        raise LookupError("no such tenant")

    with database(backend, on_connect=on_connect) as made:
        for _ in range(3):
            with pytest.raises(DatabaseUnavailable, match="on_connect raised LookupError: no such tenant"):
                made.lease()
        assert made.stats().connect_failures == len(calls) == 1, "the back-off holds the others"
        until(lambda: not backend.sessions() - before, what="the connection to end")
    assert backend.query(READ) == [(10,)]


@over()
def test_a_closed_connection_is_a_failed_connect(backend: Backend) -> None:
    """on_connect: it may not close the connection."""
    with (
        database(backend, on_connect=lambda conn: conn.close(), acquire_timeout=1) as made,
        pytest.raises(DatabaseUnavailable, match="cannot connect"),
    ):
        made.lease()


@over()
def test_an_open_transaction_that_failed_is_a_failed_connect_or_is_ended(backend: Backend) -> None:
    """on_connect: an error that it hides leaves no half of a transaction: PostgreSQL's refuses to be committed."""

    def on_connect(conn: Any) -> None:
        run(conn, WRITE)
        with pytest.raises(Exception, match="no_such_column"):
            run(conn, BROKEN)

    driver = backend.driver(on_connect=on_connect)
    if "postgresql" in backend.can:
        with pytest.raises(HookError, match="an error has ended the transaction"):
            driver.connect(soon())
        assert backend.query(READ) == [(10,)]
    else:
        backend.connect(driver)
        assert backend.query(READ) == [(11,)]


@over(HEAR, "see", "plaintext")
def test_its_statements_have_the_deadline(backend: Backend, request: pytest.FixtureRequest) -> None:
    """on_connect: a statement that hangs is over at connect_timeout, without any read_timeout."""
    assert isinstance(backend, OnServer)
    proxy: TCPProxy = request.getfixturevalue(backend.proxy)
    url = proxy.url_from(backend.options["url"])

    def on_connect(conn: Any) -> None:
        proxy.deaf()
        run(conn, READ)

    seconds = 2  # enough to connect on a busy machine; mysqlclient knows whole ones only
    began = time.monotonic()
    with (
        Database(url, connect_timeout=seconds, acquire_timeout=30, on_connect=on_connect) as made,
        pytest.raises(DatabaseUnavailable, match="on_connect raised"),
    ):
        made.lease()
    assert time.monotonic() - began < 10
    proxy.hear()


@over()
def test_its_own_time_counts(backend: Backend) -> None:
    """on_connect: code that takes longer than connect_timeout cannot be interrupted, but its connection is not used."""
    now = [time.monotonic()]

    def on_connect(conn: Any) -> None:
        now[0] += 60

    with (
        Database(clock=lambda: now[0], on_connect=on_connect, **backend.options) as made,
        pytest.raises(DatabaseUnavailable, match="TimeoutError: it took longer than its time limit"),
    ):
        made.lease()


@pytest.mark.server
def test_a_failure_is_no_fault_of_the_host(mariadb: MariaDB, caplog: pytest.LogCaptureFixture) -> None:
    """on_connect: of several hosts no other one is tried, and none is said to fail."""
    calls = []

    def on_connect(conn: Any) -> None:
        calls.append(conn)
        raise LookupError("no")

    hosts = f"127.0.0.1:{mariadb.port},localhost:{mariadb.port}"
    with (
        Database(f"mysql://guest@{hosts}/test", on_connect=on_connect) as made,
        pytest.raises(DatabaseUnavailable, match="cannot connect: on_connect raised LookupError: no"),
    ):
        made.lease()
    assert len(calls) == 1
    assert "host" not in caplog.text.replace("127.0.0.1", "").replace("localhost", "")


@over(MYSQL, "see")
def test_it_is_called_again_after_a_reset_on_mysql(backend: Backend) -> None:
    """on_connect, C3: with reset=session the next request finds what it has set, and nothing of a request's."""
    calls = []

    def on_connect(conn: Any) -> None:
        calls.append(conn)
        run(conn, "SET @mine = 'first'")

    with database(backend, reset="session", on_connect=on_connect, init_sql=["SET @other = 1"]) as made:
        for _ in range(3):
            with made.connection() as conn:
                assert run(conn, "SELECT @mine, @other")[0] in [("first", 1), [b"first", 1]]
                run(conn, "SET @mine = 'handler', @other = 2")
        told = made.stats()
    assert len(calls) == 4, "for the connection, and after each of three requests"
    assert (told.connects, told.discards, told.statements) == (1, {}, 6)


@over(MYSQL, "see")
def test_a_failure_after_a_reset_discards(backend: Backend) -> None:
    """on_connect: after a reset, too, a failure costs the connection, and never the request."""
    calls = []

    def on_connect(conn: Any) -> None:
        calls.append(conn)
        if len(calls) == 2:
            raise LookupError("not this time")

    with database(backend, reset="session", on_connect=on_connect) as made:
        for _ in range(2):
            with made.connection() as conn:
                run(conn, READ)
        assert made.stats().discards == {"reset failed": 1}


# -- psycopg keeps on the connection object what a handler may change, too


@pytest.mark.server
@pytest.mark.parametrize("reset", ["rollback", "session"])
def test_psycopg_keeps_adapters_and_settings(postgresql: PostgreSQL, reset: Any) -> None:
    """on_connect: registered types, isolation level and handlers last; what a handler changes of them does not."""
    notices: list[str] = []

    def on_connect(conn: Any) -> None:
        conn.adapters.register_loader("int4", psycopg.types.string.TextLoader)
        conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        conn.add_notice_handler(lambda told: notices.append(told.message_primary))

    with Database(postgresql.url(), pool_size=1, reset=reset, on_connect=on_connect) as made:
        for _ in range(3):
            with made.connection() as conn:
                assert run(conn, "SELECT 1")[0][0] == "1"
                assert run(conn, "SHOW transaction_isolation")[0][0] == "serializable"
                run(conn, "DO $$ BEGIN RAISE NOTICE 'hear me'; END $$")
                conn.adapters.register_loader("int4", psycopg.types.numeric.IntLoader)
                assert run(conn, "SELECT 1")[0][0] == 1
                conn.rollback()
                conn.isolation_level = None
                conn.add_notice_handler(print)
        assert made.stats().connects == 1
    assert notices == ["hear me"] * 3


@pytest.mark.server
def test_psycopg_settings_cost_nothing(postgresql: PostgreSQL) -> None:
    """on_connect: a lease that changes nothing is clean, whatever on_connect has set."""

    def on_connect(conn: Any) -> None:
        conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
        conn.add_notice_handler(print)

    with Database(postgresql.url(), on_connect=on_connect) as made:
        with made.connection() as conn:
            raw: Any = conn.driver_connection
        driver = made._driver
        assert driver.inspect(raw) is CLEAN
        raw.isolation_level = None
        assert driver.inspect(raw) is DIRTY


@pytest.mark.server
def test_psycopg_registers_an_enumeration(postgresql: PostgreSQL) -> None:
    """on_connect: psycopg's own way of registering types, which asks the server, works in it."""
    postgresql.execute("CREATE TYPE colour AS ENUM ('red', 'blue')")

    def on_connect(conn: Any) -> None:
        found = psycopg.types.enum.EnumInfo.fetch(conn, "colour")
        assert found is not None
        psycopg.types.enum.register_enum(found, conn)

    try:
        with Database(postgresql.url(), pool_size=1, on_connect=on_connect) as made:
            for _ in range(2):
                with made.connection() as conn:
                    assert run(conn, "SELECT 'blue'::colour")[0][0].name == "blue"
    finally:
        postgresql.execute("DROP TYPE colour")


# -- SQLite's connection can be extended in ways that a lease takes back


def test_sqlite_keeps_functions(tmp_path: Path) -> None:
    """on_connect: a function, a collation and a limit last, and no connection is lost over them."""

    def on_connect(conn: Any) -> None:
        conn.create_function("double", 1, lambda n: 2 * n)
        conn.create_function("lower", 1, lambda text: text.casefold())  # one of SQLite's own
        conn.create_collation("backwards", lambda a, b: (a < b) - (a > b))

    with Database(f"sqlite:///{tmp_path}/a.db", pool_size=1, on_connect=on_connect) as made:
        for _ in range(3):
            with made.connection() as conn:
                assert run(conn, "SELECT double(21), lower('ẞ')") == [(42, "ss")]
                conn.create_function("other", 0, lambda: 1)
        assert made.stats().connects == 1


def test_sqlite_gives_up_what_a_handler_replaced(tmp_path: Path) -> None:
    """on_connect: where a handler replaces what it has set, nobody can put that back, so the connection goes."""

    def on_connect(conn: Any) -> None:
        conn.create_function("double", 1, lambda n: 2 * n)

    with Database(f"sqlite:///{tmp_path}/a.db", pool_size=1, on_connect=on_connect) as made:
        with made.connection() as conn:
            conn.create_function("double", 1, lambda n: 3 * n)
        with made.connection() as conn:
            assert run(conn, "SELECT double(21)") == [(42,)]
        assert made.stats().discards == {"what on_connect had set was replaced": 1}


def test_an_existing_engine_refuses_it(tmp_path: Path) -> None:
    """on_connect: an Engine makes its connections itself, so the option is refused at the start."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/a.db")
    with pytest.raises(ConfigError, match="on_connect: the Engine makes its connections itself"):
        Database(creator=engine, strategy="sqlalchemy", on_connect=print)
