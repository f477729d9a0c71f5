"""Transactions that lock each other out, time out, and lose their connections, from a WSGI server under load."""

from __future__ import annotations

import random
import time
from contextlib import suppress

import pymysql
import pytest

from faults.conftest import Serve
from faults.load import Ledger
from support.mariadb import MariaDB
from support.proxy import TCPProxy

pytestmark = [pytest.mark.server, pytest.mark.slow]

OWN = "Internal Server Error\n"
"""wsgidb's page for a COMMIT that failed, or whose outcome nobody knows: all of it."""
LOSSES = {f"error {code}" for code in (1317, 1927, 2006, 2013)}
HANDLERS = {"manual": ("transfer", "transfer"), "request": ("transfer", "stubborn")}
WANTED = {"manual": "error 2013 of COMMIT", "request": OWN}


STATEMENTS = [
    "UPDATE account SET balance = balance - 1 WHERE id = 1",
    "UPDATE account SET balance = balance + 1 WHERE id = 2",
    "COMMIT",
]
LOCK = "SET STATEMENT innodb_lock_wait_timeout = 10 FOR UPDATE account SET balance = balance + SLEEP(1.8) WHERE id = 1"


def harass(server: MariaDB, proxy: TCPProxy, choose: random.Random) -> None:
    """KILL a session in the middle of a transaction, and lose the reply to a statement of another."""
    sessions = server.query("SELECT trx_mysql_thread_id FROM information_schema.innodb_trx")
    if sessions:
        with suppress(pymysql.OperationalError):  # 1094: gone by itself in the meantime
            server.execute(f"KILL {choose.choice(sessions)[0]}")
    assert proxy.lose_reply(choose.choice(STATEMENTS)).wait(20)


@pytest.mark.parametrize("transaction", HANDLERS)
def test_transactions_under_faults(
    serve: Serve, own_mariadb: MariaDB, ledger: Ledger, keeping: str, transaction: str
) -> None:
    """Deadlocks, lock timeouts, killed sessions and lost replies, all at once: a success is told of what was committed
    only, an error before the COMMIT of what was not, no transfer is there by half, and a COMMIT of unknown outcome is
    a page that says nothing."""
    own_mariadb.execute("SET GLOBAL innodb_lock_wait_timeout = 1")
    choose = random.Random(8)
    first, second = HANDLERS[transaction]
    with (
        TCPProxy(own_mariadb.port) as proxy,
        serve(proxy.url_from(own_mariadb.url("app")), strategy=keeping, transaction=transaction) as site,
    ):
        with site.load(first, clients=3) as seen, site.load(second, clients=3) as others:
            seen.more("error 1213", 3)
            own_mariadb.execute(LOCK)
            began = time.monotonic()
            while (gone := time.monotonic() - began) < 2 or not (seen.kinds + others.kinds)[WANTED[transaction]]:
                assert gone < 30, "no COMMIT was hit"
                harass(own_mariadb, proxy, choose)
            seen.more()
            others.more()
        assert site.stats()["leased"] == 0
    seen += others
    kinds = set(seen.kinds)
    assert kinds <= {"served", "error 1205", "error 1213", OWN, *LOSSES, *(f"{loss} of COMMIT" for loss in LOSSES)}
    assert kinds & LOSSES
    assert "error 1205" in kinds
    assert (OWN in kinds) is (transaction == "request")
    ledger.agrees_with(seen)
    failed = {answer.number for answer in seen if answer.kind.startswith("error") and "COMMIT" not in answer.kind}
    assert not failed.intersection(ledger.numbers), "what failed before its COMMIT was committed"
