"""The option acquire with clients that send the body of their request slowly, on servers that do not wait for it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import wsgidb
from support.rawhttp import request
from support.servers import Server
from support.waiting import until

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
HEAD = b"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\n"


@pytest.fixture(params=["gunicorn gthread", "uWSGI"])
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def serving(server: str, directory: Path, acquire: str) -> Server:
    path = [str(TESTS), str(Path(wsgidb.__file__).parents[1])]
    settings = {"UPLOADS_URL": f"sqlite:///{directory}/uploads.db", "UPLOADS_ACQUIRE": acquire}
    return Server(server, "wsgi.uploads:application_in_middleware", directory / "log", path, 8, **settings)


def state(port: int) -> tuple[int, int]:
    """How many handlers are reading a request's body, and how many connections are leased."""
    reading, leased = request(port, "/state", "GET").body.split()
    return int(reading), int(leased)


@pytest.fixture
def silent(request: pytest.FixtureRequest) -> Iterator[ExitStack]:
    """Clients that send the head of a POST and nothing else; they disconnect at the end."""
    with ExitStack() as stack:
        yield stack


def post(port: int, clients: ExitStack) -> None:
    for _ in range(2):
        client = clients.enter_context(socket.create_connection(("127.0.0.1", port), timeout=30))
        client.sendall(HEAD)


def begin_to_post(port: int, clients: ExitStack) -> None:
    post(port, clients)
    until(lambda: state(port)[0] == 2, what="both handlers to read the body")


def test_with_acquire_request_slow_uploads_hold_connections(server: str, silent: ExitStack, tmp_path: Path) -> None:
    """acquire=request: two silent clients hold a pool of two, and others get a 503 until they leave."""
    with serving(server, tmp_path, "request") as running:
        begin_to_post(running.port, silent)
        assert state(running.port) == (2, 2)
        assert request(running.port, "/", "GET").status == 503
        silent.close()
        until(lambda: state(running.port)[1] == 0, what="the connections to be back")
        assert request(running.port, "/", "GET").status == 200


def test_with_first_use_slow_uploads_hold_nothing(server: str, silent: ExitStack, tmp_path: Path) -> None:
    """acquire=first-use: two silent clients hold no connection, and others are served."""
    with serving(server, tmp_path, "first-use") as running:
        begin_to_post(running.port, silent)
        assert state(running.port) == (2, 0)
        assert request(running.port, "/", "GET").status == 200
        assert state(running.port) == (2, 0)


@pytest.mark.parametrize("server", ["Waitress"])
def test_a_server_that_reads_the_body_first_is_not_affected(server: str, silent: ExitStack, tmp_path: Path) -> None:
    """Waitress calls the application when it has the whole body, so a slow client holds nothing in any case."""
    with serving(server, tmp_path, "request") as running:
        post(running.port, silent)
        assert request(running.port, "/", "GET").status == 200
        assert state(running.port) == (0, 0)
