"""A replica in trouble costs one request half a second now and then, and nobody an error or a stale read."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from scale.clients import Client
from scale.conftest import Make, url_of
from support.waiting import until
from support.wsgi import Call
from wsgidb.scale.replica import PAUSE, PROBE, Replica

pytestmark = [pytest.mark.server, pytest.mark.slow]
LEAST = 60
LONG = dict.fromkeys(("acquire_timeout", "connect_timeout", "ping_timeout"), LEAST)
"""The limits of a pool, much longer than the one for a replica."""


@pytest.fixture(params=["pymysql", "psycopg"])
def driver(request: pytest.FixtureRequest) -> str:
    """One for each kind of server, as it is not the driver that is tested here."""
    return str(request.param)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time for which a request waits for a replica in trouble is longer than the half second of real life, as the
    other replica must always answer within it, on a machine that may be busy."""
    monkeypatch.setattr("wsgidb.scale.replica.PROBE", 2.0)


class Try(NamedTuple):
    """When a request began to try a replica, and when it knew that it was in vain: that costs time, and nothing else
    does."""

    began: float
    failed: float


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[Try]:
    seen: list[Try] = []
    mine = threading.local()

    class Counted(Replica):
        def take(self, request: Any, needed: Any) -> Any:
            mine.began = time.monotonic()
            return super().take(request, needed)

        def _claim(self, now: float) -> bool:
            claimed = super()._claim(now)
            if claimed:
                mine.began = now
            return claimed

        def _fail(self, cause: str) -> None:
            seen.append(Try(mine.began, time.monotonic()))
            super()._fail(cause)

    monkeypatch.setattr("wsgidb.scale.replicas.Replica", Counted)
    return seen


def once_in_a_while(tries: list[Try]) -> bool:
    """Whether each try came when the pause after the one before it was over."""
    return all(later.began - earlier.failed >= PAUSE for earlier, later in itertools.pairwise(tries))


def test_the_times_of_real_life() -> None:
    """The other tests here have a longer PROBE."""
    assert (PROBE, PAUSE) == (0.5, 1.0)


@pytest.mark.parametrize("trouble", ["kill", "freeze"])
def test_reads_go_elsewhere_and_come_back(
    make: Make, servers: Any, n: int, trouble: str, caplog: pytest.LogCaptureFixture, tries: list[Try]
) -> None:
    """One log line tells when it begins, and one when it is over. Meanwhile the other replica serves."""
    first, second = servers.replicas
    app = make(ping_after=0, **LONG)
    client, writer = Client(app), Client(app)
    ports = {client.read(n)[1] for _ in range(2)}
    assert ports == {first.port, second.port}
    getattr(first, trouble)()
    slowest = 0.0
    for _ in range(20):
        began = time.monotonic()
        assert client.read(n)[1] == second.port
        slowest = max(slowest, time.monotonic() - began)
    assert slowest < LEAST, "it waits for no other limit"
    assert tries
    assert once_in_a_while(tries)
    writer.write(n)
    assert {writer.read(n)[0] for _ in range(4)} == {"found"}
    first.thaw()
    first.start()
    until(lambda: client.read(n)[1] == first.port, what="the replica to be used again")
    lines = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    own = [line for line in lines if "this replica" in line]
    assert len(own) == 2
    assert "reads do not go to this replica for now: " in own[0]
    assert own[1].endswith("reads go to this replica again")
    kinds = [event.kind for event in app.database.replicas[0].stats().events]
    assert kinds.count("recovery") >= 1


def test_one_request_at_a_time_tries(make: Make, servers: Any, n: int, tries: list[Try]) -> None:
    """All others pass it by; it is tried about once a second."""
    first, _ = servers.replicas
    app = make(ping_after=0, **LONG)
    client = Client(app)
    client.read(n)
    client.read(n)
    first.freeze()
    client.read(n)
    client.read(n)
    with ThreadPoolExecutor(8) as pool:
        seen = [client.read(n)[1]]
        while len(tries) < 3:
            seen += pool.map(lambda _: Client(app).read(n)[1], range(8))
    assert once_in_a_while(tries)
    assert first.port not in seen


def test_without_any_replica_the_primary_serves(make: Make, servers: Any, n: int) -> None:
    for replica in servers.replicas:
        replica.kill()
    client = Client(make())
    assert {client.read(n) for _ in range(3)} == {("missing", servers.primary.port)}


def test_without_the_primary_those_read_on_who_have_written_nothing(make: Make, servers: Any, n: int) -> None:
    """Who has written what no replica has gets a 503, and no stale page."""
    app = make()
    client, other = Client(app), Client(app)
    for replica in servers.replicas:
        replica.pause()
    client.write(n)
    servers.primary.kill()
    assert other.read(n)[0] == "missing"
    cookies = "; ".join(f"{name}={value}" for name, value in client.cookies.items())
    call = Call(app, f"/read/{n}", REQUEST_METHOD="GET", HTTP_COOKIE=cookies)
    assert call.status.startswith("503")
    call.read()


def test_a_restarted_replica_is_asked_anew(make: Make, servers: Any, driver: str, n: int) -> None:
    """What it had before it may have lost: a new connection is asked what its server has reached."""
    app = make(replicas=[url_of(driver, servers.replicas[0])])
    client = Client(app)
    client.write(n)
    servers.caught_up()
    client.read(n)
    (database,) = app.database.replicas
    talks = database.engine.driver
    asked: list[Any] = []
    reached = talks.reached

    def counted(conn: Any, deadline: float) -> Any:
        asked.append(conn)
        return reached(conn, deadline)

    talks.reached = counted  # type: ignore[method-assign]
    client.read(n)
    assert asked == []
    servers.replicas[0].restart()
    until(lambda: client.read(n)[1] == servers.replicas[0].port, what="the replica")
    assert len(asked) >= 1
