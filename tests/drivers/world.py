"""Several hosts without a network: each of them fails, or hangs, or says of itself what a test wants."""

from __future__ import annotations

from typing import Any

from support.clock import Clock
from support.fakedb import FakeConnection, FakeDB
from wsgidb import Database
from wsgidb.drivers.base import SERVER_OPTIONS
from wsgidb.drivers.generic import Generic
from wsgidb.drivers.hosts import Server, in_arguments
from wsgidb.drivers.networked import Networked


class World(Networked, Generic):
    """A driver whose hosts are those of `hosts`. `attempts` has the host of each attempt to connect, and `asked` that
    of each question."""

    name = "world"
    options = SERVER_OPTIONS
    usual_port = 1
    hosts: dict[str, str]
    attempts: list[str]
    asked: list[str]
    db: FakeDB

    def _given(self, deadline: float) -> dict[str, Any]:
        assert self.settings.url is not None
        return {**in_arguments(self.settings.url), **self.settings.url.query, **self.connect_args(deadline)}

    def _open(self, arguments: dict[str, Any], deadline: float) -> Any:
        host = arguments["host"]
        self.attempts.append(host)
        if self.hosts[host] == "frozen":
            assert isinstance(self.clock, Clock)
            self.clock.advance(max(deadline - self.clock(), 0))
            raise FakeDB.OperationalError("timed out")
        if self.hosts[host] == "refused":
            raise FakeDB.OperationalError("refused")
        return self._known(self.db.connect(host))

    def _look(self, conn: FakeConnection, deadline: float, new: bool) -> Server:
        host = conn.args[0]
        self.asked.append(host)
        if self.hosts[host] == "not ready":
            error = FakeDB.OperationalError("not ready")
            self.activity(conn).failed(error)  # as a driver's observed connection notes it
            raise error
        return Server(self.hosts[host] in ("read-only", "standby"), self.hosts[host] == "standby")

    def is_read_only(self, error: BaseException) -> bool:
        return str(error) in ("read-only", "not ready")

    def is_not_ready(self, error: BaseException) -> bool:
        return str(error) == "not ready"


class Site:
    """A Database over such hosts, and what was seen of them."""

    def __init__(self, clock: Clock, hosts: dict[str, str], query: str = "", **options: Any) -> None:
        self.hosts, self.clock = hosts, clock
        self.attempts: list[str] = []
        self.asked: list[str] = []
        self.db = FakeDB()
        members = {"hosts": hosts, "attempts": self.attempts, "asked": self.asked, "db": self.db}
        driver: Any = type("Driver", (World,), members)
        url = f"world://{','.join(hosts)}/db{query}"
        self.database = Database(url, driver=driver, clock=clock, **options)

    def new(self) -> str:
        """The host of one more connection, which is the caller's only for a moment."""
        with self.database.connection() as conn:
            return str(conn.args[0])

    def seen(self) -> tuple[list[str], list[str]]:
        """The attempts and questions since this was called last."""
        seen = list(self.attempts), list(self.asked)
        self.attempts.clear()
        self.asked.clear()
        return seen
