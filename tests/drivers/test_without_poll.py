"""Under eventlet there is no select.poll: its patched module has a select() of its own in place of all others."""

from __future__ import annotations

import select
import socket
from contextlib import closing

import pytest

from drivers.cases import READ, WRITE, Backend, over, run, soon
from wsgidb.drivers.sockets import READABLE, WRITABLE, wait_ready


@pytest.fixture(params=["poll", "select"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of waiting tell the same."""
    if request.param == "select":
        monkeypatch.delattr(select, "poll")


def test_waiting_for_a_socket() -> None:
    """It tells which of the wanted events came, and 0 after the time; it does not wait for what is there already."""
    one, other = socket.socketpair()
    with closing(one), closing(other):
        assert wait_ready(one.fileno(), READABLE, 0.01) == 0
        assert wait_ready(one.fileno(), READABLE | WRITABLE, None) == WRITABLE
        other.send(b"x")
        assert wait_ready(one.fileno(), READABLE, None) == READABLE
        assert wait_ready(one.fileno(), READABLE | WRITABLE, 0) == READABLE | WRITABLE


@over("hear", "plaintext")
def test_a_driver_works(backend: Backend) -> None:
    """C5: connecting, pings, rollbacks and statements with a time limit."""
    driver = backend.driver(**({} if "creator" in backend.options else {"read_timeout": 5}))
    conn = backend.connect(driver)
    driver.ping(conn, soon())
    run(conn, WRITE)
    driver.rollback(conn, soon())
    assert run(conn, READ)[0][0] == 10
