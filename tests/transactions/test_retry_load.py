"""R14 under load: forced deadlocks that no client sees, and a ledger that is exact."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from strategies.kit import run, together
from support.client import connect
from support.mariadb import MariaDB
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware

pytestmark = [pytest.mark.server, pytest.mark.slow]
PAIRS = 4
DEADLOCKS = int(os.environ.get("RETRY_DEADLOCKS", "1000"))
"""How many are forced; RETRY_DEADLOCKS=10000 takes a minute or two."""
SCHEMES = ("mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector")


@contextmanager
def bank(server: MariaDB) -> Iterator[Any]:
    """Two accounts for each pair of clients, and a ledger."""
    with closing(connect(server.url("root"), autocommit=True)) as own:
        run(own, "CREATE TABLE account (id INT PRIMARY KEY, balance INT)")
        run(own, "CREATE TABLE ledger (payment INT PRIMARY KEY, attempt INT)")
        for number in range(2 * PAIRS):
            run(own, f"INSERT INTO account VALUES ({number}, 1000000)")
        try:
            yield own
        finally:
            run(own, "DROP TABLE account")
            run(own, "DROP TABLE ledger")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_client_sees_a_deadlock(mariadb: MariaDB, scheme: str) -> None:
    """R14: each payment is made exactly once, all clients get a 200, and every repetition was a deadlock's.

    Each payment meets one in the other direction: both have locked their first account before either locks its second
    one. So of each two, one is the victim of a deadlock."""
    meetings, partings = ([threading.Barrier(2, timeout=20) for _ in range(PAIRS)] for _ in range(2))

    def pay(environ: dict[str, Any], start: Any) -> list[bytes]:
        """/pair/side/payment: move 1 from one account to the other, each side in its own direction."""
        conn = environ["db.conn"]
        pair, side, payment = map(int, environ["PATH_INFO"].strip("/").split("/"))
        first, second = 2 * pair + side, 2 * pair + 1 - side
        run(conn, f"UPDATE account SET balance = balance - 1 WHERE id = {first}")
        if environ["wsgidb.attempt"] == 1:
            meetings[pair].wait()
        run(conn, f"UPDATE account SET balance = balance + 1 WHERE id = {second}")
        run(conn, f"INSERT INTO ledger VALUES ({payment}, {environ['wsgidb.attempt']})")
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"paid"]

    rounds = (DEADLOCKS if scheme == SCHEMES[0] else DEADLOCKS // 10) // PAIRS
    url = mariadb.url().replace("mysql+pymysql", scheme)
    with bank(mariadb) as own, Database(url, transaction="request", pool_size=2 * PAIRS) as database:
        site = DatabaseMiddleware(pay, database, retry=3)

        def client(pair: int, side: int) -> Counter[str]:
            seen: Counter[str] = Counter()
            for number in range(rounds):
                payment = (number * PAIRS + pair) * 2 + side
                call = Call(site, f"/{pair}/{side}/{payment}", REQUEST_METHOD="PUT")
                seen[call.status] += call.read() == b"paid"
                partings[pair].wait()  # the next payment would have locked what the second attempt needs
            return seen

        clients = [lambda pair=pair, side=side: client(pair, side) for pair in range(PAIRS) for side in (0, 1)]
        told: Counter[str] = sum(together(clients, timeout=500), Counter())
        stats = database.stats()
        assert told == {"200 OK": 2 * PAIRS * rounds}
        assert run(own, "SELECT COUNT(*), COUNT(DISTINCT payment) FROM ledger") == [(2 * PAIRS * rounds,) * 2]
        assert run(own, "SELECT COUNT(*) FROM ledger WHERE attempt > 1") == [(PAIRS * rounds,)]
        assert run(own, "SELECT DISTINCT balance FROM account") == [(1_000_000,)]
        assert stats.retries == PAIRS * rounds
        assert stats.leased == 0
