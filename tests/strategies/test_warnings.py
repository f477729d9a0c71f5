"""thread-local logs a warning on servers where it makes no sense, and only there."""

from __future__ import annotations

import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

import wsgidb
from strategies.conftest import MakeDatabase
from strategies.kit import PER_THREAD, Worker, run
from support.fakedb import FakeDB
from wsgidb import DatabaseMiddleware

SUPPORT = str(Path(__file__).parents[1])
PACKAGE = str(Path(wsgidb.__file__).parents[1])


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        """No access log on the tests' output."""


class Threaded(ThreadingMixIn, WSGIServer):
    """A thread for every request."""


def served(app: Callable[..., Any], server_class: type[WSGIServer], requests: int) -> None:
    with make_server("127.0.0.1", 0, app, server_class, Quiet) as server:
        serving = Worker(server.serve_forever)
        try:
            for _ in range(requests):
                with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/", timeout=10) as response:
                    assert response.status == 200
        finally:
            server.shutdown()
            serving.outcome()


@pytest.mark.parametrize("server_class", [Threaded, WSGIServer])
def test_thread_per_request(
    fake: MakeDatabase,
    fakedb: FakeDB,
    strategy: str,
    server_class: type[WSGIServer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """thread-local warns once on a server that starts a thread for each request; nothing else warns."""

    def handle(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        run(environ["db.conn"], "SELECT 1")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "0")])
        return [b""]

    served(DatabaseMiddleware(handle, fake(strategy=strategy)), server_class, 3)
    pointless = strategy in PER_THREAD and server_class is Threaded
    expected = f"strategy {strategy} keeps no connection here: this server starts a thread for every request"
    assert [record.levelname for record in caplog.records] == ["WARNING"] * pointless
    assert all(record.getMessage().startswith(expected) for record in caplog.records)
    assert (fakedb.opened == 3) is (pointless or strategy == "per-request")


@pytest.mark.parametrize("patched", [True, False])
def test_gevent(strategy: str, patched: bool) -> None:
    """thread-local warns once under gevent's monkey patching, where each request is a greenlet; not without it."""
    pytest.importorskip("gevent", reason="gevent does not support this Python")
    code = f"""
import sys
sys.path[:0] = [{SUPPORT!r}, {PACKAGE!r}]
import gevent, gevent.monkey
if {patched}: gevent.monkey.patch_all()
import logging
logging.basicConfig(stream=sys.stdout)
from support.fakedb import FakeDB
from wsgidb import Database
database = Database(creator=FakeDB().connect, strategy={strategy!r})
for _ in range(3):
    with database.connection() as conn:
        conn.cursor().execute("SELECT 1")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert len(lines) == (strategy in PER_THREAD and patched)
    assert all("with gevent each greenlet counts as a thread" in line for line in lines)
