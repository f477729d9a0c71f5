"""The driver contract's fourth part: what is heard on an idle line, and what is said on a busy one."""

from __future__ import annotations

import gc
import os
import resource
import sys
import threading
import time
from collections.abc import Iterator
from typing import TypeAlias
from urllib.parse import urlsplit

import pytest

from drivers.cases import HEAR, MYSQL, PLAINTEXT, READ, SEE, WRITE, Backend, OnServer, over, run, set_autocommit, soon
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from support.waiting import until

Server: TypeAlias = MariaDB | PostgreSQL


@over(HEAR)
@pytest.mark.parametrize("end", ["kill", "let_idle_timeout_pass"])
def test_check_hears_the_server_hang_up(backend: OnServer, end: str) -> None:
    """C2: a kill and the server's time limit for idle sessions are heard without asking, and a ping confirms them."""
    driver = backend.driver()
    conn = backend.connect(driver)
    check = driver.watch(conn)
    getattr(backend, end)(conn)
    until(lambda: check(0), what="the check to hear it")
    told = r"2013|2006|2026|2055|Lost|gone away|terminating connection|closed the connection"
    with pytest.raises(Exception, match=told):
        driver.ping(conn, soon())


@pytest.fixture
def falling(backend: OnServer, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server of the backend's kind that a test may shut down; the backend leads there."""
    tls = backend.server.ca is not None
    with type(backend.server)(tls=tls) as server:
        if "url" in backend.options:
            parts = urlsplit(backend.options["url"])
            backend.options["url"] = parts._replace(netloc=urlsplit(server.url()).netloc).geturl()
            if tls:
                backend.options["ssl_ca"] = str(server.ca)
        else:
            backend.options["connect_args"] = {"port": server.port}
        yield server


@over(HEAR)
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_check_hears_the_server_go(backend: Backend, falling: Server, end: str) -> None:
    """C2: a server's shutdown and its crash are heard without asking."""
    driver = backend.driver()
    check = driver.watch(backend.connect(driver))
    assert not check(0)
    getattr(falling, end)()
    until(lambda: check(0), what="the check to hear it")


@over(HEAR, SEE, MYSQL)
def test_what_is_heard_is_proof_but_for_tls(backend: Backend) -> None:
    """C2: on a plaintext line whatever comes unasked is bad news; under TLS it may be a session ticket."""
    driver = backend.driver()
    assert driver.readable_is_dead(backend.connect(driver)) is (PLAINTEXT in backend.can)


@over(HEAR)
def test_check_works_at_any_descriptor(backend: OnServer) -> None:
    """C2: select(2) would fail at descriptors of 1024 and above."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 2048)), hard))
    ballast = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        driver = backend.driver()
        conn = backend.connect(driver)
        check = driver.watch(conn)
        assert not check(0)
        backend.kill(conn)
        until(lambda: check(0), what="the check to hear it")
    finally:
        for descriptor in ballast:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@over(HEAR)
def test_looking_costs_nobody_its_turn(backend: OnServer) -> None:
    """No other thread gets the interpreter while the check looks: it never waits, so it need not let go. Where it
    does, a request among busy threads stands in line once more than one without a check."""
    check = backend.driver().watch(backend.connect(backend.driver()))
    waiting, turns = threading.Lock(), []
    waiting.acquire()

    def wait_for_a_turn() -> None:
        with waiting:
            turns.append(1)

    other = threading.Thread(target=wait_for_a_turn)
    before = sys.getswitchinterval()
    gc.collect()  # which lets go as well, where it closes what other tests have left
    gc.disable()
    # From here on nobody has to let go. Therefore start() returns no sooner than the other waits for the lock.
    sys.setswitchinterval(60)
    try:
        other.start()
        waiting.release()
        end = time.perf_counter() + 0.05  # long enough for the other to wake up
        while time.perf_counter() < end:
            check(0)
        assert turns == []
    finally:
        sys.setswitchinterval(before)
        gc.enable()
        other.join()


@pytest.fixture
def wire(backend: OnServer, request: pytest.FixtureRequest) -> TCPProxy:
    """The line between driver and server; the backend leads there."""
    proxy: TCPProxy = request.getfixturevalue(backend.proxy)
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


@over(PLAINTEXT, MYSQL)
def test_a_changed_autocommit_costs_one_more(backend: Backend, wire: TCPProxy) -> None:
    """C4: autocommit is set back only where a handler has changed it."""
    driver = backend.driver()
    conn = backend.connect(driver)
    set_autocommit(conn, True)
    with wire.counting() as said:
        driver.rollback(conn, soon())
    assert said == ["QUERY ROLLBACK", "QUERY SET AUTOCOMMIT = 0"]


@over(PLAINTEXT, MYSQL, SEE)
@pytest.mark.parametrize(
    ("transaction", "init", "expected"),
    [
        ("manual", [], []),
        ("manual", ["SET @mine = 1"], ["QUERY SET @mine = 1"]),
        ("manual", ["SELECT @mine = 1"], ["QUERY SELECT @mine = 1", "QUERY COMMIT"]),
        ("autocommit", ["SET @mine = 1"], ["QUERY SET @mine = 1"]),
    ],
)
def test_init_sql_costs_a_commit_at_most(
    backend: Backend, wire: TCPProxy, transaction: str, init: list[str], expected: list[str]
) -> None:
    """C4: connecting commits only what there may be to commit."""
    driver = backend.driver(transaction=transaction, init_sql=init)
    with wire.counting() as said:
        backend.connect(driver)
    assert [command for command in said if command.endswith(("@mine = 1", "COMMIT"))] == expected


@over(PLAINTEXT, SEE)
def test_nothing_to_commit_costs_nothing(backend: Backend, wire: TCPProxy) -> None:
    """C4: commit says nothing where nothing was said since the last one."""
    driver = backend.driver()
    conn = backend.connect(driver)
    run(conn, WRITE)
    with wire.counting() as said:
        driver.commit(conn)
        driver.commit(conn)
    assert len(said) == 1
    assert backend.stored == 11


@over(PLAINTEXT, SEE)
def test_ping_is_one_round_trip(backend: OnServer, wire: TCPProxy) -> None:
    """C4: the driver's ping, or the configured statement in its place."""
    conn = backend.connect(backend.driver())
    with wire.counting() as said:
        backend.driver().ping(conn, soon())
        backend.driver(ping_query=READ).ping(conn, soon())
    assert said == [backend.ping_command, f"QUERY {READ}"]


@over(PLAINTEXT)
@pytest.mark.parametrize("how", ["close", "abandon"])
def test_goodbye(backend: OnServer, wire: TCPProxy, how: str) -> None:
    """close says goodbye, so that the server counts no aborted client; abandon says nothing to a server, except for a
    creator's connection, of which only close() is known."""
    driver = backend.driver()
    conn = driver.connect(soon())
    with wire.counting() as said:
        getattr(driver, how)(conn)
        del conn
    assert said == ([] if how == "abandon" and backend.name != "creator-pymysql" else [backend.goodbye])
