"""The shorter soak: over HTTP, from a WSGI server's process, with a network between it and the database."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import wsgidb
from faults.load import Ledger, Seen, Site
from faults.soak import OPTIONS
from faults.soak_rows import Fault, Row
from support.client import connect
from support.mariadb import MariaDB
from support.processes import frozen
from support.proxy import TCPProxy
from support.servers import Server
from support.waiting import until

CLIENTS, THREADS = 4, 8
GROWTH = 8.0
"""MB that a worker may grow by after its first window."""
PATH = [str(Path(__file__).parents[1]), str(Path(wsgidb.__file__).parents[1])]


@dataclass(frozen=True)
class Said:
    """What has been counted so far: by the worker, by the database server, and by whoever resets connections."""

    worker: int
    stats: dict[str, Any]
    server: dict[str, int]
    resets: int


class Web:
    """One strategy's site, its network and its database."""

    def __init__(self, strategy: str, directory: Path) -> None:
        self.mariadb = MariaDB()
        self.mariadb.start()
        self.ledger = Ledger(self.mariadb)
        self.proxy = TCPProxy(self.mariadb.port)
        url = self.proxy.url_from(self.mariadb.url("app"))
        environ = {"SERVED_URL": url, "SERVED_OPTIONS": json.dumps({**OPTIONS, "strategy": strategy})}
        log = directory / strategy
        self.server = Server("gunicorn gthread", "faults.served:application", log, PATH, THREADS, **environ)
        self.site = Site(self.server.__enter__())
        self.sizes: dict[int, tuple[float, int]] = {}
        """Of each worker after its first window."""
        self.resets = 0
        self.log_in()

    def log_in(self) -> None:
        """To the database, on one session for all questions: asking must not count. Again after a restart."""
        self._watcher = connect(self.mariadb.url("root"), autocommit=True)

    def close(self) -> None:
        self.server.stop()
        self._watcher.close()
        self.proxy.close()
        self.mariadb.close()

    @property
    def worker(self) -> int:
        """The kernel lists children without a lock, and may leave one out that another follows."""
        (pid,) = until(lambda: self.server.workers, what="the server to have a worker")
        return pid

    @property
    def size(self) -> tuple[float, int]:
        """The worker's megabytes, and its descriptors beside those of its sessions."""
        sessions = self.site.stats()["open"]
        pages = int(Path(f"/proc/{self.worker}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1e6, len(os.listdir(f"/proc/{self.worker}/fd")) - sessions

    @property
    def said(self) -> Said:
        with self._watcher.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS WHERE Variable_name IN ('Connections', 'Aborted_clients')")
            server = {name: int(number) for name, number in cursor.fetchall()}
        return Said(self.worker, self.site.stats(), server, self.resets)

    def cut(self) -> None:
        """Reset all at once: who was told of one at once would be back before the last."""
        with frozen(self.worker):
            self.resets += self.proxy.cut()

    def hang_for(self, seconds: float) -> None:
        time.sleep(seconds)


def none(web: Web) -> None:
    """So that the counters must agree to the last."""


def cut(web: Web) -> None:
    web.cut()


def deaf(web: Web) -> None:
    web.proxy.deaf()
    web.hang_for(1.5)
    web.proxy.hear()


def refuse(web: Web) -> None:
    web.proxy.refuse()
    web.cut()
    web.hang_for(0.5)
    web.proxy.accept()


def restart_the_server(web: Web) -> None:
    web.mariadb.restart()
    web.log_in()


def kill_the_worker(web: Web) -> None:
    os.kill(web.worker, signal.SIGKILL)


MAY = frozenset({"503"})  # a thread's first connect may be what is hit
FAULTS = (
    Fault(none, 0),
    Fault(cut, CLIENTS, MAY),
    Fault(deaf, 2 * CLIENTS, MAY),  # it lasts for more than one read_timeout
    Fault(refuse, CLIENTS, MAY),
    Fault(restart_the_server, 2 * CLIENTS, MAY),
    Fault(kill_the_worker, CLIENTS, told=frozenset({"hung up"})),
)


def run(strategy: str, requests: int, window: int, seed: int) -> tuple[list[Row], list[str], int]:
    """At least so many requests, with a fault in each window of them. Returns the table, what did not add up, and the
    number of requests."""
    choose = random.Random(seed)
    rows: dict[str, Row] = {}
    problems: list[str] = []
    everything = Seen()
    with TemporaryDirectory() as directory:
        web = Web(strategy, Path(directory))
        try:
            faults: list[Fault] = []
            said = web.said
            while len(everything) < requests or faults:
                if not faults:
                    faults = choose.sample(FAULTS, len(FAULTS))
                fault = faults.pop()
                name = f"{fault.name} (HTTP)"
                row = rows.setdefault(name, Row(name))
                seen = _window(web, fault, row, window, problems)
                everything += seen
                _audit_counters(web, fault, row, said, seen, problems)
                _audit(web, row, everything, problems)
                said = web.said
            web.site.tells_no_secrets()
        finally:
            web.close()
    return list(rows.values()), problems, len(everything)


def _window(web: Web, fault: Fault, row: Row, window: int, problems: list[str]) -> Seen:
    row.times += 1
    with web.site.load(clients=CLIENTS) as seen:
        seen.more(count=window // 2)
        struck = time.monotonic()
        fault.do(web)
        healed = time.monotonic()

        def served() -> float | None:
            return next((answer.ended for answer in seen[::-1] if answer.began > healed and answer.status == 200), None)

        recovered = until(served, 30, f"service after: {row.fault}")
        calm = seen.calm()
        seen.more(count=window // 2)
    row.requests += len(seen)
    errors = seen.kinds
    del errors["served"]
    row.errors += errors
    row.longest_stall = max(row.longest_stall, seen.longest)
    row.recovery = max(row.recovery, (recovered or healed) - healed)
    if not fault.allows(errors):
        problems.append(f"{row.fault} ({row.times}): errors: {dict(errors)}")
    unprovoked = {answer.kind for answer in seen if answer.ended < struck} | seen.since(calm)
    unprovoked.discard("served")
    if unprovoked:
        problems.append(f"{row.fault} ({row.times}): errors without a fault: {unprovoked}")
    return seen


def _audit_counters(web: Web, fault: Fault, row: Row, before: Said, seen: Seen, problems: list[str]) -> None:
    """Hold them against each other, and against what clients were told. A worker that was killed, and a server that was
    restarted, have taken theirs with them."""
    now = web.said

    def same(what: str, found: object, expected: object) -> None:
        if found != expected:
            problems.append(f"{row.fault} ({row.times}): {what}: {found}, not {expected}")

    ended = sum(now.stats["discards"].values()) + sum(now.stats["retirements"].values())
    same("connects, and their ends", now.stats["connects"] - ended, now.stats["open"])
    if now.worker != before.worker:
        return
    grown = {name: now.stats[name] - before.stats[name] for name in ("acquires", "connects", "connect_failures")}
    same("leases", grown["acquires"], len(seen) - seen.kinds["503"])
    if fault.do is restart_the_server:
        return
    connections = now.server["Connections"] - before.server["Connections"]
    tried = grown["connects"] + grown["connect_failures"]
    if fault.do is refuse:  # the network's refusals do not reach the server
        same("Connections, at least", min(connections, grown["connects"]), grown["connects"])
        same("Connections, at most", max(connections, tried), tried)
    else:
        same("Connections", connections, tried)
    if fault.do is not deaf:  # who hears nothing for too long hangs up
        resets = now.resets - before.resets
        try:
            until(lambda: web.said.server["Aborted_clients"] - before.server["Aborted_clients"] == resets, 5)
        except AssertionError:
            same("Aborted_clients", web.said.server["Aborted_clients"] - before.server["Aborted_clients"], resets)


def _audit(web: Web, row: Row, everything: Seen, problems: list[str]) -> None:
    stats = web.site.stats()
    try:
        until(lambda: len(web.mariadb.processes("app")) == stats["open"], 10)
    except AssertionError:
        problems.append(f"{row.fault}: sessions: {len(web.mariadb.processes('app'))}, not {stats['open']}")
    row.leaked += stats["leased"] + abs(len(web.mariadb.processes("app")) - stats["open"])
    first = web.sizes.setdefault(web.worker, web.size)
    try:
        until(lambda: web.size[1] <= first[1], 10)  # the audit's own requests have one for a moment
    except AssertionError:
        problems.append(f"{row.fault}: descriptors: {web.size[1]}, at first {first[1]}")
    if web.size[0] > first[0] + GROWTH:
        problems.append(f"{row.fault}: memory: {web.size[0]:.1f} MB, at first {first[0]:.1f}")
    try:
        web.ledger.agrees_with(everything)
    except AssertionError as error:
        row.lost += 1
        problems.append(f"{row.fault}: {error}")
