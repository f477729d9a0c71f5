"""C5 for PyMySQL: whatever hangs, in connecting or after, is over at its deadline. In real time, of small deadlines."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pymysql
import pytest
from pymysql.constants import COMMAND

from drivers.deadlines import LIMIT, MARGIN, READ_TIMEOUT, driver_of, over_at_deadline
from support.clock import Clock
from support.mariadb import MariaDB
from support.ports import bind
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb.config.settings import Settings
from wsgidb.drivers import make_driver
from wsgidb.drivers.activity import Activity
from wsgidb.drivers.mysql.observed import Within
from wsgidb.drivers.pymysql.wire import Wire


@contextmanager
def server_that(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """The url of a server that does to its one client what `talk` says."""
    with bind() as listener:
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as client, contextlib.suppress(OSError):
                talk(client)
                while client.recv(4096):
                    pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"mysql://guest@127.0.0.1:{listener.getsockname()[1]}/test"
        thread.join(10)


def test_connect_without_a_greeting() -> None:
    """C5: a server that accepts and never greets; PyMySQL's own connect_timeout would wait for ever."""
    with server_that(lambda client: None) as url, over_at_deadline() as deadline:
        driver_of(url).connect(deadline)


ENDLESS_GREETING = b"\xff\xff\xff\x00\x0a"
"""The beginning of one of 16 MB."""


def test_connect_to_a_trickle() -> None:
    """C5: a server that sends a byte now and then, each in time for a timeout of its own."""

    def trickle(client: socket.socket) -> None:
        client.sendall(ENDLESS_GREETING)
        client.settimeout(0.05)
        while True:
            client.sendall(b"5")
            with contextlib.suppress(TimeoutError):
                if not client.recv(1):
                    return

    with server_that(trickle) as url, over_at_deadline() as deadline:
        driver_of(url).connect(deadline)


def test_connect_to_a_torrent() -> None:
    """C5: a server that never stops sending, so that no read ever waits for long. Each look at this clock takes ten
    seconds; the last read has as many."""

    def pour(client: socket.socket) -> None:
        client.sendall(ENDLESS_GREETING)
        while True:
            client.sendall(bytes(1 << 12))

    looks = itertools.count()
    with server_that(pour) as url:
        driver = make_driver(Settings.of({"url": url}), lambda: 10.0 * next(looks))
        with pytest.raises(pymysql.OperationalError, match="too slowly"):
            driver.connect(130)


@pytest.mark.server
def test_connect_that_hangs_at_login(mariadb: MariaDB) -> None:
    """C5: a server that greets, and never answers the login."""
    with socket.create_connection(("127.0.0.1", mariadb.port)) as real:
        greeting = real.recv(4096)
    with server_that(lambda client: client.sendall(greeting)) as url, over_at_deadline() as deadline:
        driver_of(url, ssl_mode="disabled").connect(deadline)


@pytest.mark.server
def test_connect_that_hangs_in_the_tls_handshake(tls_mariadb: MariaDB) -> None:
    """C5: a server that greets, and never answers the handshake."""
    with socket.create_connection(("127.0.0.1", tls_mariadb.port)) as real:
        greeting = real.recv(4096)
    with server_that(lambda client: client.sendall(greeting)) as url, over_at_deadline() as deadline:
        driver_of(url, ssl_mode="required").connect(deadline)


@pytest.mark.server
def test_connect_through_a_deaf_network(proxy: TCPProxy, mariadb: MariaDB) -> None:
    """C5: TCP connects, and then there is silence."""
    proxy.deaf()
    with over_at_deadline() as deadline:
        driver_of(proxy.url_from(mariadb.url())).connect(deadline)


@pytest.mark.server
def test_init_sql_within_the_deadline(mariadb: MariaDB) -> None:
    """C5: init_sql is part of connecting; a session that hangs in it does not stay behind."""
    driver = driver_of(mariadb.url(), init_sql=["SELECT SLEEP(20)"])
    with over_at_deadline() as deadline:
        driver.connect(deadline)


@pytest.mark.server
@pytest.mark.parametrize("name", ["ping", "rollback"])
def test_deaf_network(proxy: TCPProxy, mariadb: MariaDB, name: str) -> None:
    """C5: a ping or rollback that nobody answers is over at its deadline, not at the driver's read timeout."""
    driver = driver_of(proxy.url_from(mariadb.url()), read_timeout=READ_TIMEOUT)
    conn = driver.connect(time.monotonic() + 10)
    proxy.deaf()
    with over_at_deadline() as deadline:
        getattr(driver, name)(conn, deadline)
    assert isinstance(driver.inspect(conn), str)


@pytest.mark.server
@pytest.mark.parametrize("name", ["ping", "rollback"])
def test_frozen_server(own_mariadb: MariaDB, name: str) -> None:
    """C5: a server that hangs."""
    driver = driver_of(own_mariadb.url())
    conn = driver.connect(time.monotonic() + 10)
    own_mariadb.freeze()
    with over_at_deadline() as deadline:
        getattr(driver, name)(conn, deadline)


@pytest.mark.server
@pytest.mark.parametrize("full", [False, True])
def test_polite_close_waits_for_nobody(proxy: TCPProxy, mariadb: MariaDB, full: bool) -> None:
    """C5: saying goodbye to nobody takes no time, even where the line is stuffed."""
    driver = driver_of(proxy.url_from(mariadb.url()))
    conn = driver.connect(time.monotonic() + 10)
    proxy.deaf()
    if full:
        conn._sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                conn._sock.send(bytes(1 << 16))
        conn._sock.settimeout(None)
    began = time.monotonic()
    driver.close(conn)
    assert time.monotonic() - began < MARGIN
    assert not conn.open


class Line:
    """A connection's socket that notes each time limit it is given."""

    def __init__(self, real: socket.socket) -> None:
        self._real, self.limits = real, list[float | None]()

    def settimeout(self, seconds: float | None) -> None:
        self.limits.append(seconds)
        self._real.settimeout(seconds)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.mark.server
def test_polite_close_waits_for_a_moment(mariadb: MariaDB, clock: Clock) -> None:
    """C5: on a line that is stuffed the goodbye gets a tenth of a second."""
    driver = make_driver(Settings.of({"url": mariadb.url()}), clock)
    conn = driver.connect(clock() + 10)
    conn._sock = line = Line(conn._sock)
    driver.close(conn)
    assert line.limits == [pytest.approx(0.1)]


class Interrupt(BaseException):
    """As a worker's timeout or GreenletExit."""


@contextmanager
def reading() -> Iterator[tuple[Any, socket.socket]]:
    """The part of our connection that reads, and the server's end of its line."""
    ours, theirs = socket.socketpair()
    wire: Any = Wire(defer_connect=True, ssl_disabled=True)
    wire._sock, wire._rfile, wire._seen = ours, ours.makefile("rb"), Activity()
    with ours, theirs:
        yield wire, theirs
        wire._force_close()


def test_a_reply_in_pieces() -> None:
    """C5: what comes in small pieces before the deadline is what was sent. Each look at this clock brings a piece."""
    sent = bytes(range(256)) * 2
    pieces = (sent[start : start + 3] for start in range(0, len(sent), 3))
    with reading() as (wire, server):

        def clock() -> float:
            server.sendall(next(pieces, b""))
            return 0.0

        with Within(wire, 10.0, clock):
            assert [wire._read_bytes(size) for size in (4, 300)] == [sent[:4], sent[4:304]]


def test_a_reply_that_is_complete_at_last() -> None:
    """C5: what has come is taken, though the deadline is over by then."""
    sent = bytes(300)
    with reading() as (wire, server):
        server.sendall(sent)
        looks = iter((0.0, 11.0))
        with Within(wire, 10.0, lambda: next(looks)):
            assert wire._read_bytes(300) == sent


@pytest.mark.parametrize("late", [0.0, 1.0])
def test_a_reply_that_is_late(late: float) -> None:
    """C5: from the deadline on there is no waiting for the rest. Each look at this clock brings a byte."""
    with reading() as (wire, server):

        def clock() -> float:
            server.sendall(b"x")
            return 10.0 + late

        with pytest.raises(pymysql.OperationalError, match=r"2013.*too slowly"), Within(wire, 10.0, clock):
            wire._read_bytes(400)
        assert not wire.open


def test_a_command_that_nobody_takes() -> None:
    """C5: what cannot be sent, for whatever reason of the system's, is the driver's error of a lost connection."""
    with reading() as (wire, server):
        server.close()
        with pytest.raises(pymysql.OperationalError, match=r"2006.*[Bb]roken pipe"), Within(wire, 10.0, lambda: 0.0):
            wire._write_bytes(b"x")
        assert not wire.open


def test_an_interrupt_in_the_middle_of_a_reply() -> None:
    """R2: nobody reads on where somebody else was interrupted."""

    def clock() -> float:
        raise Interrupt

    with reading() as (wire, _):
        with pytest.raises(Interrupt), Within(wire, 10.0, clock):
            wire._read_bytes(4)
        assert not wire.open


@pytest.mark.server
@pytest.mark.parametrize("timeout", [READ_TIMEOUT, None])
def test_read_timeout_is_the_drivers_own_again(mariadb: MariaDB, clock: Clock, timeout: float | None) -> None:
    """C5: what limits connecting, pings and rollbacks does not limit the statements between them."""
    options = {"url": mariadb.url(), "read_timeout": timeout, "write_timeout": timeout}
    driver = make_driver(Settings.of(options), clock)
    conn = driver.connect(clock() + 10)
    for use in (None, driver.ping, driver.rollback):
        if use is not None:
            use(conn, clock() + 10)
        clock.advance(20)
        assert conn._sock.gettimeout() == timeout
        with conn.cursor() as cursor:
            cursor.execute("SELECT SLEEP(0.05)")  # longer than any wait for what is overdue
            assert cursor.fetchone() == (0,)
    driver.close(conn)


@pytest.mark.server
def test_read_timeout_limits_statements(mariadb: MariaDB) -> None:
    """read_timeout is the driver's, for statements: such a connection is not kept."""
    driver = driver_of(mariadb.url(), read_timeout=LIMIT)
    conn = driver.connect(time.monotonic() + 10)
    driver.ping(conn, time.monotonic() + 10)
    with over_at_deadline(), conn.cursor() as cursor:
        cursor.execute("SELECT SLEEP(20)")
    assert isinstance(driver.inspect(conn), str)


@pytest.mark.server
def test_abandon_does_not_wait_for_a_reader(mariadb: MariaDB) -> None:
    """R8: a connection on which another thread waits for its reply is dropped at once, and that thread ends."""
    driver = driver_of(mariadb.url())
    conn = driver.connect(time.monotonic() + 10)
    errors: list[BaseException] = []

    def read() -> None:
        try:
            conn.query(f"SELECT SLEEP(20), {id(conn)}")
        except BaseException as error:  # noqa: BLE001 - whatever it is, the thread must end
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    running = f"SELECT 1 FROM information_schema.processlist WHERE info = 'SELECT SLEEP(20), {id(conn)}'"
    until(lambda: mariadb.query(running), what="the statement to run")
    assert driver.inspect(conn) == "in the middle of a statement"
    began = time.monotonic()
    driver.abandon(conn)
    thread.join(10)
    assert time.monotonic() - began < MARGIN
    assert len(errors) == 1


@pytest.mark.server
def test_abandon_of_a_line_that_was_reset(proxy: TCPProxy, mariadb: MariaDB) -> None:
    """R8: it raises nothing where there is nobody to be told any more, though a reply is still to come."""
    driver = driver_of(proxy.url_from(mariadb.url()))
    conn = driver.connect(time.monotonic() + 10)
    check = driver.watch(conn)
    conn._execute_command(COMMAND.COM_QUERY, b"SELECT SLEEP(20)")
    proxy.cut()
    until(lambda: check(0), what="the reset to arrive")
    driver.abandon(conn)
    assert not conn.open


@pytest.mark.server
def test_a_reader_that_has_not_begun_yet_is_told_of_the_loss(mariadb: MariaDB) -> None:
    """R8: a thread that has sent its statement when the lease ends, and is about to read, gets the driver's error."""
    driver = driver_of(mariadb.url())
    conn = driver.connect(time.monotonic() + 10)
    conn._execute_command(COMMAND.COM_QUERY, "SELECT 1")
    driver.abandon(conn)
    with pytest.raises(pymysql.err.OperationalError, match="Lost connection"):
        conn._read_query_result()
