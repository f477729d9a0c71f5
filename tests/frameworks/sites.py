"""An example that can be sent requests: by a test client in this process, or by HTTP to a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlencode

import load_cities
import wsgidb
from frameworks.clients import FORM, Answer
from frameworks.kit import Framework
from support import packets
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.servers import Server
from wsgidb import Database

PATH = [str(Path(module.__file__ or "").parents[up]) for module, up in ((load_cities, 0), (wsgidb, 1), (packets, 1))]
"""Where a process of its own finds the examples, the package, and these tests."""
EREWHON = "Erewhon"
"""A city whose commit fails."""
DEADLOCK = packets.error(1213, "40001", "Deadlock found when trying to get lock; try restarting transaction")


class Site(Protocol):
    """One framework's example, served somehow."""

    framework: Framework

    def request(self, method: str, target: str, *names: str) -> Answer:
        """Send a request, with a form of cities if *names* are given."""

    def stats(self) -> dict[str, Any]:
        """The numbers of its Database."""

    def has(self, city: str) -> bool:
        """Whether it is in the table, as another connection sees it."""

    def failing_commit(self) -> AbstractContextManager[None]:
        """Within it, the commit of `EREWHON` fails."""


class InProcess:
    """The example called by a test client, on SQLite, where a deferred constraint makes a commit fail."""

    def __init__(self, framework: Framework, path: str) -> None:
        self.framework, self._path = framework, path
        self.application = framework.load()
        self.database: Database = framework.middleware(self.application).database

    def request(self, method: str, target: str, *names: str) -> Answer:
        return self.framework.client(self.application, method, target, [("city", name) for name in names])

    def stats(self) -> dict[str, Any]:
        return asdict(self.database.stats())

    def has(self, city: str) -> bool:
        with Database(f"sqlite:///{self._path}") as own, own.connection() as conn:
            return conn.cursor().execute("SELECT 1 FROM city WHERE city = ?", (city,)).fetchone() is not None

    def failing_commit(self) -> AbstractContextManager[None]:
        return nullcontext()  # by the table's own trigger


class Served:
    """The example on a server, on MariaDB, with a network between the two that makes a commit fail."""

    def __init__(self, framework: Framework, port: int, mariadb: MariaDB, proxy: TCPProxy) -> None:
        self.framework = framework
        self._port, self._mariadb, self._proxy = port, mariadb, proxy

    def request(self, method: str, target: str, *names: str) -> Answer:
        client = HTTPConnection("127.0.0.1", self._port, timeout=30)
        try:
            body = urlencode([("city", name) for name in names]) if names else None
            client.request(method, target, body, {"Content-Type": FORM} if names else {})
            response = client.getresponse()
            return Answer(response.status, response.read(), response.getheader("Location"))
        finally:
            client.close()

    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.request("GET", "/stats").body)
        return found

    def has(self, city: str) -> bool:
        return bool(self._mariadb.query("SELECT 1 FROM city WHERE city = %s", city))

    @contextmanager
    def failing_commit(self) -> Iterator[None]:
        done = self._proxy.answer("COMMIT", lambda: DEADLOCK)
        yield
        assert done.is_set(), "no COMMIT came"


def serving(server: str, framework: Framework, log: Path, **settings: str) -> Server:
    """The framework's example on one of `support.servers`."""
    return Server(server, "frameworks.served:application", log, PATH, FRAMEWORK=framework.name, **settings)
