"""S6 under load: an application loaded, and used, in the master of a pre-forking server."""

from __future__ import annotations

import http.client
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

import wsgidb
from strategies.kit import MYSQL, MariaDBBank, MySQLClientBank, together
from support.ports import bind
from support.waiting import until

PACKAGE = str(Path(wsgidb.__file__).parents[1])
REQUESTS, CLIENTS, WORKERS, POOL = 20_000, 8, 4, 4

APPLICATION = """
import os, sys
sys.path.insert(0, {package!r})
from wsgidb import Database, DatabaseMiddleware

database = Database({url!r}, strategy={strategy!r}, pool_size={pool}, acquire_timeout=30)
held = database.lease()  # in the master one is leased for ever, and one idle
with database.connection() as conn, conn.cursor() as cursor:
    cursor.execute("SELECT 1")

def handle(environ, start_response):
    number = environ["QUERY_STRING"]
    with environ["db.conn"].cursor() as cursor:
        cursor.execute("SELECT %s, CONNECTION_ID()", (number,))
        echo, session = cursor.fetchone()
    body = f"{{echo}} {{session}} {{os.getpid()}}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]

application = DatabaseMiddleware(handle, database)
"""


@contextmanager
def gunicorn(directory: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "gunicorn", "--preload", f"--workers={WORKERS}", "--threads=4"]
    command += [f"--bind=127.0.0.1:{port}", "--keep-alive=30", "--log-level=warning", "application"]
    log = directory / "log"
    with log.open("wb") as out, subprocess.Popen(command, cwd=directory, stdout=out, stderr=out) as server:
        try:
            yield server
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(30)
    assert log.read_text() == "", "no error and no warning"


def ask(connection: http.client.HTTPConnection, number: int) -> tuple[int, int]:
    """One request; returns the server's session and the process that answered."""
    connection.request("GET", f"/?{number}")
    response = connection.getresponse()
    body = response.read()
    assert response.status == 200, body
    echo, session, pid = map(int, body.split())
    assert echo == number, "somebody else's answer"
    return session, pid


def answers(port: int) -> bool:
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=5)) as connection:
            return bool(ask(connection, 0))
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("networked", MYSQL, indirect=True)
def test_gunicorn_preload(networked: MariaDBBank, tmp_path: Path) -> None:
    """S6: gunicorn --preload, 4 workers, 20,000 requests over keep-alive connections: each gets its own answer, no
    worker uses a session of another or of the master, and in the end none is left and none was aborted."""
    url = networked.by_driver(networked.server.url())
    requests = REQUESTS if type(networked) is MariaDBBank else REQUESTS // 5
    source = APPLICATION.format(package=PACKAGE, url=url, strategy="pooled", pool=POOL)
    (tmp_path / "application.py").write_text(source)
    (aborted,) = networked.status("Aborted_clients")
    with closing(bind()) as reserved, gunicorn(tmp_path, port := reserved.getsockname()[1]):
        until(lambda: answers(port), timeout=30, what="gunicorn to answer")
        masters = set(networked.server.processes("guest")[:2])

        def client(first: int) -> set[tuple[int, int]]:
            seen = set()
            share = requests // CLIENTS
            step = share // 50  # so many connections for each client reach every worker
            for start in range(first * share, (first + 1) * share, step):
                with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
                    seen |= {ask(connection, number) for number in range(start, start + step)}
            return seen

        pairs = set().union(*together([partial(client, number) for number in range(CLIENTS)], timeout=150))
        sessions = {session for session, _ in pairs}
        assert len(pairs) == len(sessions), "no session belongs to two processes"
        assert len({pid for _, pid in pairs}) == WORKERS
        assert len(sessions) <= WORKERS * POOL
        assert not sessions & masters
        assert masters < set(networked.server.processes("guest")), "the master's are untouched"
    until(lambda: not networked.server.processes("guest"), what="all sessions to end")
    (late,) = networked.status("Aborted_clients")
    held = 0 if type(networked) is MySQLClientBank else 1  # mysqlclient's finalizer says goodbye for it
    assert late - aborted == held, "only the one that the master held to its end"
