"""The example for gunicorn of docs/deployment.md: its workers are warm before the first request."""

from __future__ import annotations

import http.client
import os
import signal
from contextlib import closing
from pathlib import Path

import pytest

import wsgidb
from support.mariadb import MariaDB
from support.ports import bind
from support.servers import Server
from support.waiting import until

DOCS = Path(__file__).parents[2] / "docs"
PACKAGE = str(Path(wsgidb.__file__).parents[1])
SIZE = 3

SHOP = """
import os, signal
from wsgidb import DatabaseMiddleware

def handle(environ, start_response):
    with environ["db.conn"].cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        body = str(cursor.fetchone()[0]).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]

app = DatabaseMiddleware(handle, os.environ["SHOP_URL"], pool_size={size})
signal.signal(signal.SIGRTMIN, lambda *_: app.database.drain(over=0))
"""


def example(head: str) -> str:
    """The Python block of the page that begins like this."""
    (found,) = (part for part in (DOCS / "deployment.md").read_text().split("```") if part.startswith(head))
    return found.removeprefix("python\n")


def get(server: Server) -> tuple[int, bytes]:
    with closing(http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)) as client:
        client.request("GET", "/")
        response = client.getresponse()
        return response.status, response.read()


def serve(directory: Path, url: str) -> Server:
    config = directory / "gunicorn.conf.py"
    config.write_text(example("python\n# gunicorn.conf.py"))
    (directory / "shop.py").write_text(SHOP.format(size=SIZE))
    return Server(
        "gunicorn gthread --preload", "shop:app", directory / "log", [str(directory), PACKAGE],
        SHOP_URL=url, GUNICORN_CMD_ARGS=f"--config {config}",
    )  # fmt: skip


@pytest.mark.server
def test_gunicorn_preload(tmp_path: Path, own_mariadb: MariaDB) -> None:
    """Each worker opens pool_size connections of its own after the fork, and requests use these; after a signal they
    use others."""
    mariadb = own_mariadb  # which has no other sessions, not even those of earlier tests that are about to end
    with serve(tmp_path, mariadb.url()) as server:
        count = server.kind.processes * SIZE
        until(lambda: len(mariadb.processes("guest")) == count, 30, "the connections of all workers")
        sessions = set(mariadb.processes("guest"))
        assert {int(get(server)[1]) for _ in range(10)} <= sessions
        assert set(mariadb.processes("guest")) == sessions
        for pid in server.workers:
            os.kill(pid, signal.SIGRTMIN)
        assert not {int(get(server)[1]) for _ in range(10)} & sessions


@pytest.mark.server
def test_gunicorn_without_a_database(tmp_path: Path) -> None:
    """A server that is down does not keep the workers from starting; the log says why they are not warm."""
    with closing(bind()) as nobody:
        url = f"mysql://guest@127.0.0.1:{nobody.getsockname()[1]}/shop"
        with serve(tmp_path, url) as server:
            until(lambda: server.said.count("not warm: cannot connect") == server.kind.processes, 30, "both lines")
            assert get(server) == (503, b"Service Unavailable\n")
