"""The parts of sockets.py that no driver's own tests force to the edge."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator

import pytest

from wsgidb.drivers.sockets import wait_readable

SOON = 0.05


@pytest.fixture(params=[True, False], ids=["poll", "select"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[socket.socket, ...]]:
    """Two ends of a line; without select.poll, which eventlet removes, it is select.select that waits."""
    if not request.param:
        monkeypatch.delattr(select, "poll")
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def test_what_can_be_read_is_seen_at_once(pair: tuple[socket.socket, ...]) -> None:
    """C5: waiting ends as soon as there is something to read."""
    ours, theirs = pair
    theirs.send(b"x")
    began = time.monotonic()
    assert wait_readable(ours.fileno(), 10) is True
    assert time.monotonic() - began < 5


def test_an_end_is_seen_too(pair: tuple[socket.socket, ...]) -> None:
    """C5: the peer's close can be read."""
    ours, theirs = pair
    theirs.close()
    assert wait_readable(ours.fileno(), 10) is True


def test_waiting_is_over_at_its_end(pair: tuple[socket.socket, ...]) -> None:
    """C5: where nothing comes, it takes the seconds that were given."""
    ours, _ = pair
    began = time.monotonic()
    assert wait_readable(ours.fileno(), SOON) is False
    assert time.monotonic() - began >= SOON * 0.9
