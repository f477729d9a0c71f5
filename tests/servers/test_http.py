"""The same checks on every server, while it runs: raw bytes from the socket, and what the database's server sees."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator

import pytest
import requests

from servers.conftest import ROWS, Start
from servers.kit import POOL_SIZE, Site, sessions
from servers.load import load
from support.client import connect
from support.mariadb import MariaDB
from support.rawhttp import Client, Session, request
from support.server_kinds import SERVERS
from support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.server]

REQUESTS = 5000
WITHOUT_DATE = re.compile(rb"(?i)\r\ndate: [^\r]*")
CONCURRENT = [name for name, kind in SERVERS.items() if kind.threads > 1]


@pytest.fixture(scope="module", params=SERVERS)
def site(request: pytest.FixtureRequest, start: Start, database: MariaDB) -> Iterator[Site]:
    until(lambda: not sessions(database), what="the sessions of an earlier server to end")
    with start(request.param) as server:
        yield Site(server, database)


def test_keep_alive_and_content_length(site: Site) -> None:
    """R3: a connection serves one request after the other, where the server can; and every length arrives."""
    with Session(site.port) as session:
        for number in range(3):
            reply = session.ask(f"/echo?{number}")
            assert (reply.status, reply.framing) == (200, "length")
            assert reply.body.startswith(f"{number} ".encode())
            if "keep-alive" in site.kind.cannot:
                assert session.ended()
                return
        assert session.kept


def test_a_client_library(site: Site) -> None:
    """R3, R5: requests reads lengths, streams and bodiless responses, over one connection where the server can."""
    url = f"http://127.0.0.1:{site.port}"
    with requests.Session() as session:
        ask = requests.request if "keep-alive" in site.kind.cannot else session.request
        for _ in range(2):
            assert ask("GET", f"{url}/page", timeout=20).text == "hello"
            assert ask("HEAD", f"{url}/page", timeout=20).headers["Content-Length"] == "5"
            unchanged = ask("GET", f"{url}/page", headers={"If-None-Match": '"1"'}, timeout=20)
            assert (unchanged.status_code, unchanged.content) == (304, b"")
            assert ask("GET", f"{url}/none", timeout=20).status_code == 204
            assert len(ask("GET", f"{url}/rows", timeout=20).text.splitlines()) == ROWS


def test_rows_arrive_while_they_are_read(site: Site) -> None:
    """R4: a stream's first rows are with the client while the database still sends; the lease lasts to its end."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(20)
        client = Client(site.port, f"/rows?{listener.getsockname()[1]}")
        gate, _ = listener.accept()
        with gate:
            client.read_until(b"\n3 ")
            (session,) = [each["Id"] for each in site.sessions() if each["Command"] == "Query"]
    reply = client.read()
    assert (reply.status, reply.complete) == (200, True)
    assert reply.framing == ("close" if "chunks" in site.kind.cannot else "chunks")
    found = [line.split()[:2] for line in reply.body.decode().splitlines()]
    assert found == [[str(number), str(session)] for number in range(1, ROWS + 1)]
    site.settle()


def test_a_client_that_leaves(site: Site) -> None:
    """R4: in the middle of a stream, more often than there are connections; each is given back."""
    for _ in range(site.kind.processes * POOL_SIZE + 1):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(20)
            client = Client(site.port, f"/rows?{listener.getsockname()[1]}")
            gate, _ = listener.accept()
            with gate:
                client.read_until(b"\n3 ")
                client.leave()
        site.settle()
    assert request(site.port, "/echo?7").body.startswith(b"7 ")
    site.settle()
    assert len(site.sessions()) <= site.most


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("target", ["/page", "/stream", "/none"])
@pytest.mark.parametrize("headers", ["", 'If-None-Match: "1"\r\n'])
def test_a_reply_is_as_without_the_middleware(site: Site, method: str, target: str, headers: str) -> None:
    """R5: HEAD, 204, 304, lengths and streams; only chunks may be joined on their way, as Apache does now and then."""
    replies = [request(site.port, path, method, headers) for path in (target, f"/bare{target}")]
    wrapped, bare = ((WITHOUT_DATE.sub(b"", each.head), each.body, each.excess, each.complete) for each in replies)
    assert wrapped == bare
    assert replies[0].complete
    assert replies[0].status == (204 if target == "/none" else 304 if headers and target == "/page" else 200)


@pytest.mark.parametrize("site", CONCURRENT, indirect=True)
def test_requests_at_once_share_no_connection(site: Site, database: MariaDB) -> None:
    """S4, S2: all that fit the pool wait for the database at the same time, threads or greenlets, each on a session
    of its own."""
    at_once = min(POOL_SIZE, site.kind.threads)
    bodies: list[bytes] = []

    def ask(number: int) -> None:
        bodies.append(request(site.port, f"/wait?{number}").body)

    locking = connect(database.url("root"))
    with locking.cursor() as cursor:
        cursor.execute("SELECT id FROM note WHERE id = 1 FOR UPDATE")
    threads = [threading.Thread(target=ask, args=(number,)) for number in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        until(lambda: sum(each["Command"] == "Query" for each in site.sessions()) == at_once, 30, "all to wait")
    finally:
        locking.close()
        for thread in threads:
            thread.join()
    answers = [body.split() for body in bodies]
    assert sorted(int(number) for number, _, _ in answers) == list(range(at_once))
    assert len({session for _, session, _ in answers}) == at_once


def test_load(site: Site) -> None:
    """S4, S6: thousands of requests from many clients, each with its own answer and no error of any kind; no process
    used another's session, and in the end none is left at work, nor more than there may be."""
    found = load(site.port, REQUESTS, per_connection=1 if "keep-alive" in site.kind.cannot else 50)
    found.judge(site.server)
    assert len(found.answers) == REQUESTS
    assert len(found.processes) == site.kind.processes
    site.settle()
    assert len(site.sessions()) <= site.most
