"""A failover under load: the primary restarts as a replica, and its name leads to another one only later."""

from __future__ import annotations

import time

import pytest

from faults.conftest import Serve
from faults.load import Ledger
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

CLIENTS = 4
LOSSES = {"error 1053", "error 1927", "error 2006", "error 2013"}


def sessions(server: MariaDB) -> int:
    """How many others are logged in, or about to be."""
    sql = "SELECT COUNT(*) FROM information_schema.processlist WHERE user NOT IN ('root', 'system user')"
    return int(server.query(sql)[0][0])


def test_restart_as_replica_under_load(serve: Serve, own_mariadb: MariaDB, primary: MariaDB, strategy: str) -> None:
    """While the name leads to the replica each write is an error, and no connection to it is kept; once it leads to the
    new primary, each connection that is left costs one error at most, and then all are served. No payment is lost or
    made twice."""
    old, new = Ledger(own_mariadb), Ledger(primary)
    with (
        TCPProxy(own_mariadb.port) as proxy,
        serve(proxy.url_from(own_mariadb.url("app")), strategy=strategy, pool_size=CLIENTS) as site,
    ):
        with site.load(clients=CLIENTS) as seen:
            seen.more()
            own_mariadb.options.append("--read-only")
            own_mariadb.restart()
            seen.more("error 1290")
            proxy.retarget(primary.port)
            led = time.monotonic()
            until(lambda: not sessions(own_mariadb), what="the replica to be left")
            seen.more()
            settled = time.monotonic()
            seen.more(count=100)
        stats = site.stats()
    refused = seen.of("error 1290")
    assert len([answer for answer in refused if answer.began > led]) <= CLIENTS, "one for each connection"
    assert {answer.kind for answer in seen if answer.began > settled} == {"served"}
    assert set(seen.kinds) <= {"served", "503", "error 1290", *LOSSES}
    assert stats["discards"]["server read-only or not ready"] == len(refused)
    made = {*old.numbers, *new.numbers}
    assert len(made) == len(old.numbers) + len(new.numbers)
    assert {answer.number for answer in seen.of("served")} <= made
    assert not {answer.number for answer in refused} & made
    for ledger in (old, new):
        ledger.agrees_with([answer for answer in seen if answer.number in ledger.numbers])
