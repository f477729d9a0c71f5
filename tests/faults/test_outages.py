"""A database that goes and comes back, under load from a real WSGI server: told at once, lost nothing, served again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from faults.conftest import Serve
from faults.load import Ledger, Seen, asleep
from strategies.kit import Worker
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb.pool.backoff import LAST

pytestmark = [pytest.mark.server, pytest.mark.slow]

CLIENTS = 4
SLACK = 2.0
"""Seconds that a busy machine may add to a deadline."""


def recovered(seen: Seen, since: float) -> float:
    """Seconds until the first request was served that began after a moment."""

    def first() -> list[float]:
        later = (answer for answer in seen if answer.status == 200 and answer.began > since)
        return [answer.ended - since for answer in later]

    return until(first, what="service to come back")[0]


def restart(server: MariaDB) -> None:
    server.restart()


def crash(server: MariaDB) -> None:
    server.kill()
    server.start()


@pytest.mark.parametrize("end", [restart, crash])
def test_restart_under_load(
    serve: Serve, own_mariadb: MariaDB, ledger: Ledger, strategy: str, end: Callable[[MariaDB], None]
) -> None:
    """Only what was in flight fails; meanwhile a 503 each, at once; a second after its return all is well, twice. No
    payment is lost, none is made twice."""
    with serve(own_mariadb.url("app"), strategy=strategy, pool_size=CLIENTS) as site:
        with site.load(clients=CLIENTS) as seen:
            took = []
            for _ in range(2):
                seen.more()
                end(own_mariadb)
                took.append(recovered(seen, time.monotonic()))
                calm = seen.calm()
                seen.more()
                assert seen.since(calm) == {"served"}
        assert min(took) < LAST + 0.5
        assert max(took) < LAST + SLACK
        assert set(seen.kinds) <= {"served", "503", "error 1053", "error 1927", "error 2006", "error 2013"}
        broken = [answer for answer in seen if answer.status == 500]
        assert len(broken) <= 2 * 2 * CLIENTS, "those in flight, also on a connection made while it shut down"
        assert seen.longest < LAST + SLACK
        ledger.agrees_with(seen)


def test_kill_of_one_that_runs(serve: Serve, own_mariadb: MariaDB, ledger: Ledger, strategy: str) -> None:
    """KILL while a request runs: that one's error, and nothing else."""
    with serve(own_mariadb.url("app"), strategy=strategy) as site:
        with site.load(clients=CLIENTS) as seen:
            victim = Worker(lambda: site.get("/slow/30"))
            (session,) = until(lambda: asleep(own_mariadb), what="the statement to run")
            seen.more()
            own_mariadb.execute(f"KILL {session}")
            told = victim.outcome()
            seen.more()
        assert told.kind in ("error 1317", "error 1927", "error 2013")
        assert set(seen.kinds) == {"served"}
        ledger.agrees_with(seen)


READ_TIMEOUT, ACQUIRE_TIMEOUT = 0.5, 1.0


def freeze(server: MariaDB, proxy: TCPProxy) -> Callable[[], None]:
    server.freeze()
    return server.thaw


def go_deaf(server: MariaDB, proxy: TCPProxy) -> Callable[[], None]:
    proxy.deaf()
    return proxy.hear


@pytest.mark.parametrize("hang", [freeze, go_deaf])
def test_server_that_hangs(
    serve: Serve,
    own_mariadb: MariaDB,
    ledger: Ledger,
    strategy: str,
    hang: Callable[[MariaDB, TCPProxy], Callable[[], None]],
) -> None:
    """A stopped server, a deaf network: each request is answered within its deadlines, what needs no database is
    served all the time, and normal service comes back by itself."""
    with TCPProxy(own_mariadb.port) as proxy:
        options = {"acquire_timeout": ACQUIRE_TIMEOUT, "connect_timeout": READ_TIMEOUT, "ping_timeout": READ_TIMEOUT}
        options |= {"read_timeout": READ_TIMEOUT, "write_timeout": READ_TIMEOUT}
        with serve(proxy.url_from(own_mariadb.url("app")), strategy=strategy, pool_size=CLIENTS, **options) as site:
            with site.load(clients=CLIENTS) as seen, site.load("plain", clients=1) as plain:
                seen.more()
                heal = hang(own_mariadb, proxy)
                seen.more("503", 3 * CLIENTS)
                plain.more()
                heal()
                healed = time.monotonic()
                assert recovered(seen, healed) < LAST + SLACK
                calm = seen.calm()
                assert calm - healed < ACQUIRE_TIMEOUT + LAST + SLACK
                seen.more()
            assert seen.since(calm) == {"served"}
            assert set(seen.kinds) <= {"served", "503", "error 2006", "error 2013"}
            broken = [answer for answer in seen if answer.status == 500]
            assert len(broken) <= 2 * CLIENTS, "those in flight, also on another connection that was idle"
            assert seen.longest < ACQUIRE_TIMEOUT + 2 * READ_TIMEOUT + SLACK, "acquire, a statement, its rollback"
            assert set(plain.kinds) == {"served"}
            assert plain.longest < SLACK
            ledger.agrees_with(seen)
