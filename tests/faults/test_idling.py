"""Connections that end, or are forgotten, while they idle: what that costs the requests that come after it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from faults.conftest import Serve
from faults.load import Site, asleep
from strategies.kit import Worker
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

CONNECTIONS = 4
PING_TIMEOUT = 1.0
"""More than a busy machine takes for the pings that are answered."""
SLACK = 1.0
"""Seconds that a busy machine may add to it."""


def all_at_once(site: Site, server: MariaDB) -> None:
    """Requests that hold so many connections at the same time."""
    workers = [Worker(lambda: site.get("/slow/30")) for _ in range(CONNECTIONS)]
    until(lambda: len(asleep(server)) == CONNECTIONS, what="all to be slow")
    for session in asleep(server):
        server.execute(f"KILL QUERY {session}")
    assert [worker.outcome().kind for worker in workers] == ["error 1317"] * CONNECTIONS


def warm(site: Site, server: MariaDB) -> None:
    all_at_once(site, server)
    assert site.stats()["idle"] == site.stats()["connects"] == CONNECTIONS


def idle_out(server: MariaDB, proxy: TCPProxy) -> None:
    until(lambda: not server.processes("app"), what="the time limit to end idle sessions")


def kill(server: MariaDB, proxy: TCPProxy) -> None:
    server.kill_connections("app")


def forget(server: MariaDB, proxy: TCPProxy) -> None:
    proxy.forget()


def start_over(server: MariaDB, proxy: TCPProxy) -> None:
    server.restart()


@pytest.mark.parametrize("end", [idle_out, kill, forget, start_over])
def test_burst_after_idling(
    serve: Serve, own_mariadb: MariaDB, keeping: str, end: Callable[[MariaDB, TCPProxy], None]
) -> None:
    """C2: connections that the server ended, or the network forgot: no error in the burst that follows, and no wait
    but ping_timeout where nobody was told of the end."""
    limit = {"init_sql": ["SET wait_timeout = 2"]} if end is idle_out else {}
    with TCPProxy(own_mariadb.port) as proxy:
        url = proxy.url_from(own_mariadb.url("app"))
        with serve(url, strategy=keeping, ping_after=0, ping_timeout=PING_TIMEOUT, **limit) as site:
            warm(site, own_mariadb)
            end(own_mariadb, proxy)
            answers = site.burst("echo", 8)
            assert {(answer.status, answer.body) for answer in answers} == {
                (200, str(answer.number)) for answer in answers
            }
            assert max(answer.seconds for answer in answers) < PING_TIMEOUT + SLACK


def test_first_request_after_idling(serve: Serve, own_mariadb: MariaDB, keeping: str) -> None:
    """C2: of all that the network forgot, the first that is met costs ping_timeout, the others nothing; and none an
    error."""
    with TCPProxy(own_mariadb.port) as proxy:
        url = proxy.url_from(own_mariadb.url("app"))
        with serve(url, strategy=keeping, ping_after=0, ping_timeout=PING_TIMEOUT) as site:
            warm(site, own_mariadb)
            assert proxy.forget() == CONNECTIONS
            answers = [site.get(f"/echo/{number}") for number in range(12)]
            assert [(answer.status, answer.body) for answer in answers] == [(200, str(n)) for n in range(12)]
            slowest = max(answers, key=lambda answer: answer.seconds)
            assert PING_TIMEOUT <= slowest.seconds < PING_TIMEOUT + SLACK
            assert keeping != "pooled" or slowest is answers[0]
            all_at_once(site, own_mariadb)
            stats = site.stats()
            assert stats["pings_failed"] == 1, "nobody else waited for one"
            assert stats["discards"].pop("ping failed") == 1
            assert stats["discards"].keys() == {"idle when a ping was not answered"}
