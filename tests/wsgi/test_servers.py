"""R3, R5 on real servers: the client gets byte for byte what it gets without the middleware."""

from __future__ import annotations

import ast
import re
import socket
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path

import pytest

import wsgidb
from support.rawhttp import Reply, request
from support.server_kinds import PLAIN
from support.servers import Server
from support.waiting import until

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parents[1]
SOURCE = (TESTS / "wsgi" / "served.py").read_text()
CASES = [
    node.name
    for node in ast.parse(SOURCE).body
    if isinstance(node, ast.FunctionDef) and any(getattr(mark, "id", "") == "case" for mark in node.decorator_list)
]
CASES.remove("big_list")  # it is for the test with a slow client


@pytest.fixture(scope="module", params=PLAIN)
def server(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def port(server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    directory = tmp_path_factory.mktemp("server")
    path = [str(TESTS), str(Path(wsgidb.__file__).parents[1])]
    url = f"sqlite:///{directory}/served.sqlite3"
    with Server(server, "wsgi.served:application", directory / "log", path, SERVED_URL=url) as running:
        yield running.port


def raw(port: int, target: str, method: str = "GET") -> bytes:
    """The bytes of a response, without its date."""
    return re.sub(rb"(?i)\r\ndate: [^\r]*", b"", request(port, target, method).raw)


def leased(port: int) -> int:
    return int(request(port, "/leased").body)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_client_gets_the_same_bytes(port: int, case: str, method: str) -> None:
    """R5: write(), exc_info, HEAD, 204, 304, lengths, chunks and errors work as without the middleware."""
    bare = raw(port, f"/bare/{case}", method)

    assert raw(port, f"/wrap/{case}", method) == bare
    assert leased(port) == 0
    assert bare.startswith(b"HTTP/1.") or case == "raises", "where uWSGI hangs up without a word"


@pytest.mark.parametrize("case", [case for case in CASES if case not in ("raises_midway", "replaced")])
def test_a_client_gets_the_same_bytes_with_first_use(port: int, case: str) -> None:
    """R5: the client cannot tell that status and headers were held back until the first byte."""
    assert raw(port, f"/lazy/{case}") == raw(port, f"/bare/{case}")
    assert leased(port) == 0


def test_a_replaced_head_leaves_nothing_of_the_first_with_first_use(port: int) -> None:
    """R5: headers that are held back are replaced completely. gunicorn by itself would send those of both calls."""
    head, _, body = raw(port, "/lazy/replaced").partition(b"\r\n\r\n")
    assert head.split(b" ", 1)[1].startswith(b"500 ")
    assert b"X-First" not in head
    assert body == b"oops"


KEEPERS = ["one_item_list", "long_list", "one_item_tuple", "generator_with_length", "file_wrapper", "flask_page"]


@pytest.mark.parametrize("server", ["gunicorn gthread", "Waitress"], indirect=True)
@pytest.mark.parametrize("case", [*KEEPERS, "sized", "werkzeug_page"])
def test_content_length_and_keep_alive_survive(port: int, case: str) -> None:
    """R3: the server keeps the client's connection if it keeps it for the bare application."""
    lengths = []
    for kind in ("bare", "wrap"):
        client = HTTPConnection("127.0.0.1", port, timeout=30)
        client.connect()
        connection = client.sock
        for _ in range(2):
            client.request("GET", f"/{kind}/{case}")
            response = client.getresponse()
            lengths.append(response.getheader("Content-Length"))
            assert response.read() != b""
            assert client.sock is connection, "kept alive"
        client.close()
    assert len(set(lengths)) == 1
    assert lengths[0] is not None or case in ("one_item_tuple", "one_item_list", "sized")


SLOW = ["gunicorn gthread", "Waitress", "Werkzeug"]


@pytest.mark.parametrize("server", SLOW, indirect=True)
def test_a_slow_client_holds_no_connection(port: int) -> None:
    """R3: the database connection is free for others while the client still reads."""
    with socket.create_connection(("127.0.0.1", port), timeout=30) as slow:
        slow.sendall(b"GET /wrap/big_list HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        data = bytearray(slow.recv(2000))

        until(lambda: leased(port) == 0, what="the connection to be back while the client still reads")

        while piece := slow.recv(1_000_000):
            data += piece
    reply = Reply(bytes(data))
    assert (reply.header("Content-Length"), len(reply.body)) == ("40000000", 40_000_000)
