"""The driver contract's fourth part: what is heard on an idle line, and what is said on a busy one."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.cases import HEAR, PLAINTEXT, READ, SEE, WRITE, Backend, OnMariaDB, over, run, soon
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.waiting import until


def kill(backend: Backend, conn: Any) -> None:
    backend.query(f"KILL {conn.thread_id()}")


def let_wait_timeout_pass(backend: Backend, conn: Any) -> None:
    run(conn, "SET wait_timeout = 1")


@over(HEAR)
@pytest.mark.parametrize("end", [kill, let_wait_timeout_pass])
def test_check_hears_the_server_hang_up(backend: Backend, end: Callable[[Backend, Any], None]) -> None:
    """C2: KILL and wait_timeout are heard without asking, and a ping confirms them."""
    driver = backend.driver()
    conn = backend.connect(driver)
    check = driver.watch(conn)
    end(backend, conn)
    until(lambda: check(0), what="the check to hear it")
    with pytest.raises(Exception, match=r"2013|2006|Lost|gone away"):
        driver.ping(conn, soon())


@pytest.fixture
def falling(backend: Backend, request: pytest.FixtureRequest) -> Iterator[MariaDB]:
    """A server of the backend's kind that a test may shut down; the backend leads there."""
    assert isinstance(backend, OnMariaDB)
    tls = backend.server.ca is not None
    with MariaDB(tls=tls) as server:
        if "url" in backend.options:
            backend.options["url"] = server.url()
            if tls:
                backend.options["ssl_ca"] = str(server.ca)
        else:
            backend.options["connect_args"] = {"port": server.port}
        yield server


@over(HEAR)
@pytest.mark.parametrize("end", [MariaDB.stop, MariaDB.kill])
def test_check_hears_the_server_go(backend: Backend, falling: MariaDB, end: Callable[[MariaDB], None]) -> None:
    """C2: a server's shutdown and its crash are heard without asking."""
    driver = backend.driver()
    check = driver.watch(backend.connect(driver))
    assert not check(0)
    end(falling)
    until(lambda: check(0), what="the check to hear it")


@over(HEAR, SEE)
def test_what_is_heard_is_proof_but_for_tls(backend: Backend) -> None:
    """C2: on a plaintext line whatever comes unasked is bad news; under TLS it may be a session ticket."""
    driver = backend.driver()
    assert driver.readable_is_dead(backend.connect(driver)) is (PLAINTEXT in backend.can)


@over(HEAR)
def test_check_works_at_any_descriptor(backend: Backend) -> None:
    """C2: select(2) would fail at descriptors of 1024 and above."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2048)), hard))
    ballast = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        driver = backend.driver()
        conn = backend.connect(driver)
        check = driver.watch(conn)
        assert not check(0)
        kill(backend, conn)
        until(lambda: check(0), what="the check to hear it")
    finally:
        for descriptor in ballast:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def wire(backend: Backend, proxy: TCPProxy) -> TCPProxy:
    """The line between driver and server; the backend leads there."""
    if "url" in backend.options:
        backend.options["url"] = proxy.url_from(backend.options["url"])
    else:
        backend.options["connect_args"] = {"port": proxy.port}
    return proxy


@over(PLAINTEXT)
def test_looking_costs_no_round_trip(backend: Backend, wire: TCPProxy) -> None:
    """C4: watch, the check and inspect say nothing to the server."""
    driver = backend.driver()
    conn = backend.connect(driver)
    with wire.counting() as said:
        check = driver.watch(conn)
        for _ in range(3):
            check(0)
            driver.inspect(conn)
    assert said == []


@over(PLAINTEXT)
def test_rollback_is_one_round_trip(backend: Backend, wire: TCPProxy) -> None:
    """C4: ROLLBACK and nothing else, where autocommit was left alone."""
    driver = backend.driver()
    conn = backend.connect(driver)
    run(conn, WRITE)
    with wire.counting() as said:
        driver.rollback(conn, soon())
    assert said == ["QUERY ROLLBACK"]


@over(PLAINTEXT)
def test_a_changed_autocommit_costs_one_more(backend: Backend, wire: TCPProxy) -> None:
    """C4: autocommit is set back only where a handler has changed it."""
    driver = backend.driver()
    conn = backend.connect(driver)
    conn.autocommit(True)
    with wire.counting() as said:
        driver.rollback(conn, soon())
    assert said == ["QUERY ROLLBACK", "QUERY SET AUTOCOMMIT = 0"]


@over(PLAINTEXT, SEE)
def test_ping_is_one_round_trip(backend: Backend, wire: TCPProxy) -> None:
    """C4: the driver's ping, or the configured statement in its place."""
    conn = backend.connect(backend.driver())
    with wire.counting() as said:
        backend.driver().ping(conn, soon())
        backend.driver(ping_query=READ).ping(conn, soon())
    assert said == ["PING", f"QUERY {READ}"]


@over(PLAINTEXT)
@pytest.mark.parametrize(("how", "last"), [("close", ["QUIT"]), ("abandon", [])])
def test_goodbye(backend: Backend, wire: TCPProxy, how: str, last: list[str]) -> None:
    """close says goodbye, so that the server counts no aborted client; abandon says nothing to a server."""
    driver = backend.driver()
    conn = driver.connect(soon())
    with wire.counting() as said:
        getattr(driver, how)(conn)
        del conn
    assert said == last
