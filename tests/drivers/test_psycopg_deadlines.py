"""C5: whatever hangs in psycopg is over at its deadline; what it sends is counted on the wire."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import psycopg
import pytest

from drivers.cases import READ, WRITE, OnServer, over, run, soon
from drivers.deadlines import LIMIT, MARGIN, driver_of
from support.ports import bind
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb.drivers.base import Driver

pytestmark = pytest.mark.server


@contextmanager
def over_at_deadline() -> Iterator[float]:
    """Give a deadline; what is done with it must raise, not before it (but for a slow clock), nor long after."""
    began = time.monotonic()
    with pytest.raises(psycopg.OperationalError):
        yield began + LIMIT
    assert LIMIT - 0.05 <= time.monotonic() - began < LIMIT + MARGIN


def make(postgresql: PostgreSQL, proxy: TCPProxy, **options: Any) -> Driver:
    return driver_of(proxy.url_from(postgresql.url()), **options)


def test_connect_to_a_server_that_never_answers() -> None:
    """C5: a server that accepts and says nothing costs the deadline, and no descriptor stays open."""
    with closing(bind()) as silent:
        silent.listen()
        driver = driver_of(f"postgresql://guest@127.0.0.1:{silent.getsockname()[1]}/test")
        with over_at_deadline() as deadline:
            driver.connect(deadline)
        peer, _ = silent.accept()
        with closing(peer):
            peer.settimeout(10)
            while peer.recv(1000):
                pass  # until the end


def test_connect_to_a_server_that_answers_too_slowly(postgresql: PostgreSQL, postgresql_proxy: TCPProxy) -> None:
    """C5: the deadline is for all steps of a login together, each of which would be in time."""
    driver = make(postgresql, postgresql_proxy, init_sql=["SELECT 1"])
    postgresql_proxy.delay = LIMIT / 4
    with over_at_deadline() as deadline:
        driver.connect(deadline)


def test_init_sql_is_under_the_deadline(postgresql: PostgreSQL, postgresql_proxy: TCPProxy) -> None:
    """C5: init_sql belongs to connecting."""
    driver = make(postgresql, postgresql_proxy, init_sql=["SELECT pg_sleep(30)"])
    with over_at_deadline() as deadline:
        driver.connect(deadline)


def test_a_deaf_address_leaves_time_for_the_next(postgresql: PostgreSQL, postgresql_proxy: TCPProxy) -> None:
    """C5: of several hosts one that never answers gets its share of the deadline, and no more."""
    postgresql_proxy.deaf()
    places = {"host": "127.0.0.1,127.0.0.1", "port": f"{postgresql_proxy.port},{postgresql.port}"}
    driver = make(postgresql, postgresql_proxy, connect_args=places)
    began, seconds = time.monotonic(), 4.0  # half of it is enough to connect on a busy machine
    with closing(driver.connect(began + seconds)) as conn:
        assert seconds / 2 - 0.05 <= time.monotonic() - began < seconds
        assert conn.info.port == postgresql.port
    postgresql_proxy.hear()


def test_a_refusing_address_costs_nothing(postgresql: PostgreSQL) -> None:
    """C5: nor does one that refuses keep the next from being tried."""
    with closing(bind()) as nobody:
        places = {"host": "127.0.0.1,127.0.0.1", "port": f"{nobody.getsockname()[1]},{postgresql.port}"}
        driver_of(postgresql.url(), connect_args=places).connect(soon()).close()


@pytest.mark.parametrize("what", ["ping", "rollback", "reset"])
def test_hung_work_is_over_at_its_deadline(postgresql: PostgreSQL, postgresql_proxy: TCPProxy, what: str) -> None:
    """C5: ping, rollback and reset of a connection that the network forgot."""
    driver = make(postgresql, postgresql_proxy, reset="session")
    conn = driver.connect(soon())
    run(conn, READ.replace("contract", "(SELECT 1 AS n, 1 AS id) AS contract"))
    postgresql_proxy.forget()
    with over_at_deadline() as deadline:
        getattr(driver, what)(conn, deadline)
    driver.abandon(conn)


def test_work_waits_for_another_thread_until_its_deadline(postgresql: PostgreSQL) -> None:
    """C5: psycopg's own lock, held by another thread, does not hold up a rollback for ever."""
    driver = driver_of(postgresql.url())
    conn = driver.connect(soon())
    with conn.lock, over_at_deadline() as deadline:
        driver.rollback(conn, deadline)
    driver.close(conn)


@pytest.mark.parametrize("option", ["read_timeout", "write_timeout"])
def test_statements_have_the_configured_timeouts(
    postgresql: PostgreSQL, postgresql_proxy: TCPProxy, option: str
) -> None:
    """read_timeout, write_timeout: a statement whose reply does not come, or that cannot be sent, is an error, and
    its connection is of no use any more."""
    driver = make(postgresql, postgresql_proxy, transaction="autocommit", **{option: LIMIT})  # so there is no BEGIN
    conn = driver.connect(soon())
    postgresql_proxy.deaf()
    began = time.monotonic()
    text = "" if option == "read_timeout" else "x" * 50_000_000
    with pytest.raises(psycopg.OperationalError) as caught:
        conn.execute("SELECT %s::text", (text,))
    assert LIMIT - 0.05 <= time.monotonic() - began < LIMIT + 2 * MARGIN
    assert driver.is_disconnect(caught.value)
    assert driver.inspect(conn) == "closed by the application or the driver"
    postgresql_proxy.hear()


def test_a_slow_statement_is_no_error_without_a_timeout(postgresql: PostgreSQL, postgresql_proxy: TCPProxy) -> None:
    """read_timeout: without it, and within it, a statement may take its time."""
    for options in ({}, {"read_timeout": 5}):
        conn = make(postgresql, postgresql_proxy, **options).connect(soon())
        postgresql_proxy.delay = 0.1
        assert run(conn, "SELECT 1") == [(1,)]
        postgresql_proxy.delay = 0
        conn.close()


@pytest.mark.parametrize("end", [PostgreSQL.freeze])
def test_frozen_server(own_postgresql: PostgreSQL, end: Callable[[PostgreSQL], None]) -> None:
    """C5: neither a ping nor a connect waits for a server that hangs."""
    driver = driver_of(own_postgresql.url())
    conn = driver.connect(soon())
    end(own_postgresql)
    with over_at_deadline() as deadline:
        driver.ping(conn, deadline)
    with over_at_deadline() as deadline:
        driver.connect(deadline)
    driver.close(conn)


@over("postgresql", "plaintext")
def test_what_is_said(backend: OnServer, postgresql_proxy: TCPProxy) -> None:
    """C4: BEGIN is psycopg's own; a prepared statement costs one more when it is made, and again after a ROLLBACK.
    A new connection asks whether there is a pooler."""
    driver = make(backend.server, postgresql_proxy, reset="session", init_sql=["SET lock_timeout = 0"])
    with postgresql_proxy.counting() as said:
        conn = driver.connect(soon())
    asked = "QUERY SELECT pg_catalog.pg_backend_pid()"
    opening = "QUERY BEGIN\n;\nSET lock_timeout = 0\n;\nCOMMIT"
    assert said == [asked, opening]
    with postgresql_proxy.counting() as said:
        for _ in range(7):
            run(conn, READ)
        conn.rollback()
    prepared = [text for text in said if text not in ("QUERY BEGIN", f"QUERY {READ}")]
    assert said[:6] == ["QUERY BEGIN", *[f"QUERY {READ}"] * 5]
    assert prepared[-2:] == ["QUERY ROLLBACK", "QUERY DEALLOCATE ALL"]
    assert prepared[0] == f"PREPARE {READ}"
    assert len(prepared) == 5
    run(conn, WRITE)
    with postgresql_proxy.counting() as said:
        driver.reset(conn, soon())
    assert said == ["EXECUTE ROLLBACK", "EXECUTE DISCARD ALL", opening]  # in the pipeline
    number = conn.info.backend_pid
    driver.close(conn)
    until(lambda: number not in backend.sessions(), what="the session to end")
