"""A database that gives no connections, or too few: a 503 for whoever gets none, no storm, and an end to it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

import pymysql
import pytest

from faults.conftest import THREADS, Serve
from faults.load import Ledger, asleep
from strategies.kit import Worker
from support.client import connect
from support.mariadb import PASSWORDS, MariaDB
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb.pool.backoff import LAST

pytestmark = [pytest.mark.server, pytest.mark.slow]

CLIENTS = 4
SLACK = 2.0
"""Seconds that a busy machine may add to a deadline."""

Relief = Callable[[], object]


def down(server: MariaDB, held: ExitStack) -> Relief:
    server.stop()
    return server.start


def full(server: MariaDB, held: ExitStack) -> Relief:
    """1040: max_connections, all of which somebody else has."""
    server.execute("SET GLOBAL max_connections = 10")

    def granted() -> Any:
        try:
            return connect(server.url())
        except pymysql.OperationalError:  # the session that has just ended has its place for a moment
            return None

    for _ in range(10):
        held.enter_context(until(granted, what="a place"))
    return held.close


def limited(server: MariaDB, held: ExitStack) -> Relief:
    """1226: the user's own limit."""
    server.execute("ALTER USER app@'%' WITH MAX_USER_CONNECTIONS 1")
    held.enter_context(connect(server.url("app")))
    return held.close


def locked_out(server: MariaDB, held: ExitStack) -> Relief:
    """1045: the password was changed, and is changed back."""
    server.execute("ALTER USER app@'%' IDENTIFIED BY 'another'")
    return lambda: server.execute("ALTER USER app@'%%' IDENTIFIED BY %s", PASSWORDS["app"])


def crowded(server: MariaDB, held: ExitStack) -> Relief:
    """1203: the limit of all users that have none of their own, which has to be there from the server's start."""
    server.options.append(f"--max-user-connections={THREADS}")
    server.restart()
    for _ in range(THREADS):
        held.enter_context(connect(server.url("app")))
    return held.close


@pytest.mark.parametrize(
    ("refuse", "code"),
    [(down, "2003|2013"), (full, "1040"), (limited, "1226"), (crowded, "1203"), (locked_out, "1045")],
)
def test_no_connection_at_start(
    serve: Serve,
    own_mariadb: MariaDB,
    ledger: Ledger,
    strategy: str,
    refuse: Callable[[MariaDB, ExitStack], Relief],
    code: str,
) -> None:
    """The application starts, and answers 503, each at once; S5: connects are few, also as the network counts them,
    and nobody queues up; and a second after the relief it serves, without a restart."""
    with ExitStack() as held, TCPProxy(own_mariadb.port) as proxy:
        relieve = refuse(own_mariadb, held)
        url = proxy.url_from(own_mariadb.url("app"))
        with serve(url, strategy=strategy, pool_size=CLIENTS) as site:
            began = time.monotonic()
            with site.load(clients=CLIENTS) as seen:
                seen.more("503", 100)
                stats, connections = site.stats(), proxy.connections
                lasted = time.monotonic() - began
                assert set(seen.kinds) == {"503"}
                assert stats["connects"] == stats["open"] == stats["waiting"] == stats["waits"] == 0
                ramp = 8  # the intervals before the longest
                assert 1 <= stats["connect_failures"] <= connections <= CLIENTS + ramp + 2 * lasted / LAST
                assert re.search(rf"cannot connect: OperationalError: \(({code}), ", site.server.said)
                assert site.get("/plain/7").body == "7"
                relieve()
                back = time.monotonic()
                seen.more()
                first = min(answer.ended for answer in seen.of("served"))
                assert first - back < LAST + 0.5
            assert set(seen.kinds) <= {"503", "served"}
            assert seen.longest < LAST + SLACK
            stats = site.stats()
            assert stats["connects"] + stats["connect_failures"] == proxy.connections
            ledger.agrees_with(seen)


def test_exhausted_pool(serve: Serve, own_mariadb: MariaDB) -> None:
    """Two connections, held by slow requests: two more wait and are told at acquire_timeout, a fifth at once; each with
    Retry-After. Afterwards both connections are back."""
    wait = 3.0
    with serve(own_mariadb.url("app"), strategy="pooled", pool_size=2, acquire_timeout=wait, max_waiting=2) as site:
        holders = [Worker(lambda: site.get("/slow/30")) for _ in range(2)]
        until(lambda: len(asleep(own_mariadb)) == 2, what="both to be slow")
        waiters = [Worker(lambda: site.get("/echo/1")) for _ in range(2)]
        until(lambda: site.stats()["waiting"] == 2, what="two to wait")
        refused = site.get("/echo/2")
        assert (refused.kind, refused.retry_after) == ("503", "1")
        assert refused.seconds < wait
        for waiter in waiters:
            told = waiter.outcome()
            assert (told.kind, told.retry_after) == ("503", "1")
            assert wait <= told.seconds < wait + SLACK
        for session in asleep(own_mariadb):
            own_mariadb.execute(f"KILL QUERY {session}")
        assert [holder.outcome().kind for holder in holders] == ["error 1317"] * 2
        stats = site.stats()
        assert (stats["idle"], stats["leased"], stats["waiting"]) == (2, 0, 0)
        assert (stats["timeouts"], stats["refusals"], stats["discards"]) == (2, 1, {})
        assert {answer.status for answer in site.burst("echo", 2)} == {200}


def test_first_come_first_served(serve: Serve, own_mariadb: MariaDB, ledger: Ledger) -> None:
    """S3: one connection, held by a slow request: six that wait for it one behind the other are served in that order,
    as the server tells."""
    with serve(own_mariadb.url("app"), strategy="pooled", pool_size=1, acquire_timeout=20) as site:
        holder = Worker(lambda: site.get("/slow/30"))
        (session,) = until(lambda: asleep(own_mariadb), what="the statement to run")
        waiters: list[Worker] = []
        for number in range(1, 7):
            waiters.append(Worker(partial(site.get, f"/pay/{number}")))
            until(lambda: site.stats()["waiting"] == len(waiters), what="it to wait behind the others")
        own_mariadb.execute(f"KILL QUERY {session}")
        assert [waiter.outcome().kind for waiter in waiters] == ["served"] * 6
        assert holder.outcome().kind == "error 1317"
        assert ledger.numbers == [1, 2, 3, 4, 5, 6]
        assert site.stats()["connects"] == 1


def test_more_clients_than_connections(serve: Serve, own_mariadb: MariaDB, ledger: Ledger) -> None:
    """S3: eight clients and a pool of two: all are served within acquire_timeout, though most of them have to wait."""
    with serve(own_mariadb.url("app"), strategy="pooled", pool_size=2) as site:
        with site.load(clients=8) as seen:
            seen.more(count=300)
        assert set(seen.kinds) == {"served"}
        assert site.stats()["waits"] > 0
        assert len(own_mariadb.processes("app")) <= 2
        ledger.agrees_with(seen)
