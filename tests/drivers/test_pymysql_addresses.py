"""C5 for a host with several addresses: one deadline for all of them."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pymysql
import pytest

from drivers.deadlines import LIMIT, MARGIN, driver_of, over_at_deadline
from support.mariadb import MariaDB
from support.ports import bind


@pytest.fixture
def full_port() -> Iterator[int]:
    """A port whose queue is full: the kernel answers no more, as a firewall that drops packets."""
    with bind() as listener, contextlib.ExitStack() as queue:
        listener.listen(0)
        where = listener.getsockname()
        while True:
            waiting = queue.enter_context(socket.socket())
            waiting.settimeout(0.2)
            try:
                waiting.connect(where)
            except TimeoutError:
                break
        yield where[1]


def test_connect_that_tcp_does_not_answer(full_port: int) -> None:
    """C5: a host that drops packets."""
    with over_at_deadline() as deadline:
        driver_of(f"mysql://guest@127.0.0.1:{full_port}/test").connect(deadline)


def resolve(monkeypatch: pytest.MonkeyPatch, *ports: int) -> None:
    """Let every host name have one address per port."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in ports]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: found)


@pytest.mark.server
def test_first_address_is_deaf(mariadb: MariaDB, full_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: of a host's addresses a deaf one leaves time for the next."""
    resolve(monkeypatch, full_port, mariadb.port)
    driver = driver_of("mysql://guest@db.example/test")
    began, seconds = time.monotonic(), 4.0  # half of it is enough to connect on a busy machine
    conn = driver.connect(began + seconds)
    assert seconds / 2 - 0.05 <= time.monotonic() - began < seconds
    driver.close(conn)


def test_all_addresses_are_deaf(full_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: three addresses have one deadline, not three."""
    resolve(monkeypatch, full_port, full_port, full_port)
    with over_at_deadline() as deadline:
        driver_of("mysql://guest@db.example/test").connect(deadline)


def test_refused_addresses_are_tried_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """C5: what is refused is no reason to wait, and the error names the host."""
    with bind() as one, bind() as other:
        resolve(monkeypatch, one.getsockname()[1], other.getsockname()[1])
        began = time.monotonic()
        with pytest.raises(pymysql.OperationalError, match=r"db\.example.*refused"):
            driver_of("mysql://guest@db.example/test").connect(began + 10)
        assert time.monotonic() - began < MARGIN


def test_unix_socket_that_nobody_serves(tmp_path: Path) -> None:
    """C5: a Unix socket whose queue is full; with a time limit the kernel says so at once, without one it waits."""
    path = str(tmp_path / "full")
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
                waiting.setblocking(False)
                waiting.connect(path)
        began = time.monotonic()
        with pytest.raises(pymysql.OperationalError, match=path):
            driver_of(f"mysql://guest@/test?unix_socket={path}").connect(began + LIMIT)
        assert time.monotonic() - began < LIMIT + MARGIN
