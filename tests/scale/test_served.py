"""R15: two processes of gunicorn under load, with every kind of lag: no client reads less than it has written."""

from __future__ import annotations

import threading
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

import wsgidb
from scale.conftest import url_of
from support.servers import Server

pytestmark = [pytest.mark.server, pytest.mark.slow]

TESTS, PACKAGE = Path(__file__).parents[1], Path(wsgidb.__file__).parents[1]
CLIENTS, WRITES, READS = 4, 5, 4


class Browser(threading.Thread):
    """Writes notes, and reads each of them a few times."""

    def __init__(self, port: int, first: int, ports: dict[int, str]) -> None:
        super().__init__()
        self._port, self._first, self._ports = port, first, ports
        self._cookies: dict[str, str] = {}
        self.stale: list[int] = []
        self.where: list[str] = []

    def run(self) -> None:
        for n in range(self._first, self._first + WRITES):
            assert self._ask("POST", f"/write/{n}")[0] == "found"
            for _ in range(READS):
                found, server = self._ask("GET", f"/read/{n}")
                self.where.append(server)
                if found != "found":
                    self.stale.append(n)

    def _ask(self, method: str, path: str) -> tuple[str, str]:
        conn = HTTPConnection("127.0.0.1", self._port, timeout=30)  # a new one each time, so that both processes serve
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        conn.request(method, path, headers={"Cookie": cookies} if cookies else {})
        response = conn.getresponse()
        for header in response.headers.get_all("Set-Cookie", []):
            name, _, value = header.partition(";")[0].partition("=")
            self._cookies[name] = value
        found, _, server = response.read().decode().partition(" ")
        conn.close()
        return found, self._ports.get(int(server), "primary")


@pytest.mark.parametrize("driver", ["pymysql", "psycopg"])
@pytest.mark.parametrize("lag", [0, 1, 5, "stopped", "killed", "frozen"])
def test_nobody_reads_less_than_it_has_written(servers: Any, driver: str, lag: Any, tmp_path: Path) -> None:
    """Neither with a lag of the one replica, nor while it is stopped, killed or frozen."""
    first, second = servers.replicas
    if isinstance(lag, int):
        for replica in servers.replicas:
            replica.delay(lag)
    elif lag == "stopped":
        first.pause()
    ports = {first.port: "first", second.port: "second"}
    settings = {
        "WSGIDB_URL": url_of(driver, servers.primary),
        "WSGIDB_REPLICAS": "\n".join(url_of(driver, replica) for replica in servers.replicas),
        "WSGIDB_TRANSACTION": "request",
        "WSGIDB_READ_TIMEOUT": "2",
    }
    path = [str(TESTS), str(PACKAGE)]
    with Server("gunicorn gthread --preload", "scale.notes:site", tmp_path / "log", path, **settings) as site:
        if lag == "killed":
            first.kill()
        elif lag == "frozen":
            first.freeze()
        browsers = [Browser(site.port, 1 + 100 * number, ports) for number in range(CLIENTS)]
        for browser in browsers:
            browser.start()
        for browser in browsers:
            browser.join(60)
    assert [browser.stale for browser in browsers] == [[]] * CLIENTS
    where = [server for browser in browsers for server in browser.where]
    assert len(where) == CLIENTS * WRITES * READS
    if lag in ("stopped", "killed", "frozen"):
        assert "first" not in where
