"""Part 5: what would be gained and lost by not waiting for the ROLLBACK at the end of a request; plain PyMySQL only.

    python benchmarks/rollback_later.py [--requests 300]

"now" waits for the server's reply to ROLLBACK, as wsgidb does. "later" only sends the ROLLBACK, and reads the reply
before the connection's next use. It measures the time of a request twice: with a pause between two requests, in which
the reply arrives, and without a pause. It also counts how many requests that ask at once, on another connection, for
the row that the earlier request changed (FOR UPDATE NOWAIT) find it still locked.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from statistics import median
from typing import Any

import pymysql
from pymysql.constants import COMMAND

from figures import table
from latency import slow_network
from peers import SELECT, Driver
from serving import database

ROUND_TRIPS = (0, 0.5, 2)
"""Round trip times of the network, in ms."""
PAUSE = 0.005
CHANGE = "UPDATE city SET city = CONCAT(city, '!') WHERE city_id = 1"
ASK = "SELECT city FROM city WHERE city_id = 1 FOR UPDATE NOWAIT"


class Now:
    """A connection that ends each request with a ROLLBACK."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.raw: Any = pymysql.connect(**arguments)

    def request(self, sql: str, *args: str) -> None:
        with self.raw.cursor() as cursor:
            cursor.execute(sql, args)
        self.end()

    def end(self) -> None:
        self.raw.rollback()


class Later(Now):
    owed = False

    def request(self, sql: str, *args: str) -> None:
        if self.owed:
            self.raw._read_ok_packet()
        super().request(sql, *args)

    def end(self) -> None:
        self.raw._execute_command(COMMAND.COM_QUERY, "ROLLBACK")
        self.owed = True


def timed(request: Callable[[], object], requests: int, pause: float) -> float:
    """The median time of a request, in ms."""
    took = []
    for _ in range(requests):
        time.sleep(pause)
        began = time.perf_counter()
        request()
        took.append(time.perf_counter() - began)
    return median(took) * 1000


def locked_out(conn: Now, other: Any, requests: int) -> int:
    """Count the requests that find the row locked by a request that has ended."""
    found = 0
    for _ in range(requests):
        conn.request(CHANGE)
        with other.cursor() as cursor:
            try:
                cursor.execute(ASK)
            except pymysql.err.OperationalError:
                found += 1
        other.rollback()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=300)
    requests = parser.parse_args().requests
    rows = []
    with database() as server:
        for delay in ROUND_TRIPS:
            with slow_network(server.url(), delay) as far:
                arguments = {**Driver("pymysql", far).arguments(False), "autocommit": False}
                for kind in (Now, Later):
                    conn, other = kind(arguments), pymysql.connect(**arguments)
                    with closing(conn.raw), closing(other):
                        times = [
                            timed(partial(conn.request, SELECT, "london"), requests, pause)
                            for pause in (PAUSE + delay / 1000, 0)
                        ]
                        found = locked_out(conn, other, requests)
                    cells = [f"{delay} ms", kind.__name__.lower(), *(f"{milliseconds:.2f}" for milliseconds in times)]
                    rows.append([*cells, f"{found} of {requests}"])
    print(table(["round trip", "ROLLBACK", "request, ms", "without a pause, ms", "row still locked"], rows))


if __name__ == "__main__":
    main()
