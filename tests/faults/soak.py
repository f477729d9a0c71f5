"""A long run of requests with random faults, and its accounts: what was lost or leaked, how long it took to recover.

It goes in windows of some thousand requests. In the middle of each a fault is done and undone; at its end, when nothing
moves, all is held against what the server says: sessions, counters, and the ledger.
"""

from __future__ import annotations

import gc
import logging
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from itertools import count
from typing import Any

import pymysql

from faults.soak_clients import Client, execute
from faults.soak_rows import Fault, Row
from support.client import connect
from support.mariadb import PASSWORDS, MariaDB
from support.waiting import until
from wsgidb import Database, DatabaseMiddleware, Stats

THREADS, POOL = 4, 3
OPTIONS: dict[str, Any] = {
    "acquire_timeout": 2,
    "connect_timeout": 1,
    "read_timeout": 1,
    "write_timeout": 1,
    "ping_timeout": 0.5,
    "max_lifetime": 20,
    "leak_after": 30,
}
LIMIT = 30
"""Seconds after which a request that was not answered is a failure of the run."""
SECRET = PASSWORDS["app"]


class Listener(logging.Handler):
    """Counts log lines, and those with the password."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines = self.secrets = 0

    def emit(self, record: logging.LogRecord) -> None:
        self.lines += 1
        self.secrets += SECRET in self.format(record)


# -- the run


class Soak:
    """One strategy, one server, many requests. `rows` is the table, `problems` what did not add up."""

    def __init__(self, server: MariaDB, strategy: Any, seed: int) -> None:
        self.server, self.seed = server, seed
        self.random = random.Random(seed)
        self.rows: dict[str, Row] = {}
        self.problems: list[str] = []
        self.requests = self.payments = 0
        self.numbers = count(1)
        self.over = False
        self.calm, self.healed_at = True, 0.0
        self.gate = threading.Barrier(THREADS + 1)
        self.log = Listener()
        logger = logging.getLogger("wsgidb")
        self._level = logger.level
        logger.setLevel(logging.DEBUG)
        logger.addHandler(self.log)
        self._prepare()
        self.database = Database(server.url("app"), strategy=strategy, pool_size=POOL, **OPTIONS)
        self.app = DatabaseMiddleware(lambda environ, start: environ["client"].handle(environ, start), self.database)
        self.clients = [Client(self, index) for index in range(THREADS)]
        for client in self.clients:
            client.start()

    def _prepare(self) -> None:
        self._log_in()
        for name in ("account", "ledger", "never"):
            self.admin(f"DROP TABLE IF EXISTS {name}")
        self.admin("CREATE TABLE account (id INT PRIMARY KEY, balance INT)")
        self.admin("CREATE TABLE ledger (number INT)")
        self.admin("CREATE TABLE never (n INT)")
        self.admin(f"INSERT INTO account VALUES {', '.join(f'({number}, 0)' for number in range(2 * THREADS))}")

    def close(self) -> None:
        self.over = True
        self.gate.abort()
        for client in self.clients:
            client.join(10)
        self.database.close()
        logger = logging.getLogger("wsgidb")
        logger.removeHandler(self.log)
        logger.setLevel(self._level)
        self._admin.close()

    # -- the server, as its administrator sees it, on one session

    def _log_in(self) -> None:
        self._admin = connect(self.server.url("root"), autocommit=True)

    def admin(self, sql: str) -> Any:
        return execute(self._admin, sql)

    def counter(self, name: str) -> int:
        return int(self.admin(f"SHOW GLOBAL STATUS LIKE '{name}'")[0][1])

    def sessions(self) -> list[int]:
        return [row[0] for row in self.admin("SELECT id FROM information_schema.processlist WHERE user = 'app'")]

    def kill(self, sessions: list[int]) -> None:
        for session in sessions:
            try:
                self.admin(f"KILL {session}")
            except pymysql.OperationalError as error:
                if error.args[0] != 1094:  # gone by itself in the meantime
                    raise

    # -- windows

    def window(self, fault: Fault | None, requests: int) -> None:
        """So many requests at the least, with a fault in their middle."""
        name = "none" if fault is None else fault.name
        row = self.rows.setdefault(name, Row(name))
        row.times += 1
        self.over, self.calm, self.healed_at = False, True, float("inf")
        for client in self.clients:
            client.forget()
        before, said = self.database.stats(), self._said()
        self.gate.wait(LIMIT)
        if fault is not None:
            self._past(requests // 4)
            self._suffer(fault, row, requests // 4)
            self._past(requests // 4)
        self._past(requests - self._done())
        self.over = True
        self.gate.wait(LIMIT)
        self.requests += self._done()
        self._audit(row, before, said)
        self._audit_errors(row, fault)

    def _suffer(self, fault: Fault, row: Row, requests: int) -> None:
        """A fault for so many requests; it is over when every client was served, and no back-off is left of it: while
        one lasts, whoever finds no connection alive is told so."""
        self.calm = False
        heal = fault.do(self)
        self._past(requests, patience=1.5)
        heal()
        self.healed_at = time.monotonic()
        until(lambda: all(client.served_at for client in self.clients), 30, f"service after: {row.fault}")
        until(lambda: self.database._engine.process.backoff.cause is None, 30, f"the end of back-off: {row.fault}")
        row.recovery = max(row.recovery, min(client.served_at for client in self.clients) - self.healed_at)
        self.calm = True

    def _done(self) -> int:
        return sum(client.requests for client in self.clients)

    def _past(self, more: int, patience: float = float("inf")) -> None:
        """Wait for so many more requests, or, where they hang, for so many seconds."""
        wanted, late = self._done() + more, time.monotonic() + patience
        while self._done() < wanted and time.monotonic() < late:
            time.sleep(0.002)

    # -- accounts

    def _said(self) -> tuple[int, int]:
        return self.counter("Connections"), self.counter("Aborted_clients")

    def _audit(self, row: Row, before: Stats, said: tuple[int, int]) -> None:
        """Hold all against each other, as nothing moves."""
        gc.collect()  # what bodies that were never closed hold
        stats = self.database.stats()
        leases, refused = (sum(n) for n in zip(*((c.leases, c.errors["503"]) for c in self.clients), strict=True))
        self._same(row, "leases", stats.acquires - before.acquires, leases)
        self._same(row, "requests", self._done(), leases + refused)
        ended = sum(stats.discards.values()) + sum(stats.retirements.values())
        self._same(row, "connects, and their ends", stats.connects - ended, stats.open)
        self._same(row, "log lines with a password", self.log.secrets, 0)
        row.leaked += stats.leased + self._settled(row, "sessions", lambda: len(self.sessions()), stats.open)
        self._settled(row, "Threads_connected", lambda: self.counter("Threads_connected"), stats.open + 1)
        if row.fault not in ("restart", "crash"):  # which begin the server's counters anew
            tried = stats.connects - before.connects + stats.connect_failures - before.connect_failures
            self._settled(row, "Connections", lambda: self.counter("Connections") - said[0], tried)
        if row.fault == "none":
            new = Counter(stats.discards) - Counter(before.discards)
            rude = new.total() - new["closed by the application or the driver"]
            self._settled(row, "Aborted_clients", lambda: self.counter("Aborted_clients") - said[1], rude)
        self._look_into_ledger(row)

    def _audit_errors(self, row: Row, fault: Fault | None) -> None:
        """Clients were told of the fault, if at all, while it lasted, and of nothing else."""
        errors: Counter[str] = Counter()
        unprovoked: Counter[str] = Counter()
        for client in self.clients:
            row.requests += client.requests
            row.longest_stall = max(row.longest_stall, client.stall)
            errors += client.errors
            unprovoked += client.unprovoked
        row.errors += errors
        self._same(row, "errors without a fault", dict(unprovoked), {})
        if fault is not None and not fault.allows(errors):
            self.problems.append(f"{row.fault} ({row.times}): errors: {dict(errors)}")

    def _look_into_ledger(self, row: Row) -> None:
        confirmed = set().union(*(client.confirmed for client in self.clients))
        refused = set().union(*(client.refused for client in self.clients))
        noted = [number for (number,) in self.admin("SELECT number FROM ledger")]
        there = set(noted)
        row.lost += len(confirmed - there) + len(noted) - len(there) + len(refused & there)
        self.payments += len(noted)
        sums = self.admin("SELECT SUM(balance), SUM(ABS(balance)) FROM account")[0]
        self._same(row, "balances", (int(sums[0]), int(sums[1])), (0, 2 * self.payments))
        self._same(row, "rows that nobody committed", self.admin("SELECT COUNT(*) FROM never")[0][0], 0)
        self.admin("TRUNCATE TABLE ledger")

    def _same(self, row: Row, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.problems.append(f"{row.fault} ({row.times}): {what}: {found}, not {expected}")

    def _settled(self, row: Row, what: str, found: Callable[[], int], expected: int) -> int:
        """The same for what the server counts, which may be a moment late. Returns the difference."""
        try:
            until(lambda: found() == expected, 5)
        except AssertionError:
            self._same(row, what, found(), expected)
        return abs(found() - expected)


def memory() -> float:
    """Of this process, in MB."""
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
