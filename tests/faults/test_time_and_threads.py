"""What comes with the hours: threads that come and go, a clock that is set, connections that grow old together."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading

import pytest

from faults.conftest import PATH
from strategies.kit import run, together
from support.clock import Clock
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.waiting import until
from wsgidb import Database

THREADS, AT_ONCE = 1000, 8


@pytest.mark.slow
@pytest.mark.server
def test_a_thousand_threads(own_mariadb: MariaDB) -> None:
    """thread-local: each of a thousand threads has its connection, and takes it with it: no session, no descriptor and
    no slot is left behind, and none was aborted."""
    aborted = own_mariadb.status("Aborted_clients")
    with Database(own_mariadb.url(), strategy="thread-local") as database:

        def request() -> None:
            with database.connection() as conn:
                assert run(conn, "SELECT 1") == [(1,)]

        request()
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(THREADS // AT_ONCE):
            together([request] * AT_ONCE)
        gc.collect()
        stats = database.stats()
        assert (stats.open, stats.connects, stats.retirements) == (1, 1 + THREADS, {"thread ended": THREADS})
        assert len(database._engine.process.store._homes) == 1  # type: ignore[attr-defined]
        assert len(os.listdir("/proc/self/fd")) <= descriptors
        until(lambda: len(own_mariadb.processes("guest")) == 1, what="the sessions to end")
    until(lambda: not own_mariadb.processes("guest"), what="the last session to end")
    assert own_mariadb.status("Aborted_clients") == aborted


SET = """
import dataclasses, json, sys, time

strategy, step = sys.argv[1], float(sys.argv[2])
day = time.time()
time.time = lambda: day

from support.fakedb import FakeDB
from wsgidb import Database

ages = {"max_lifetime": 3600, "max_idle": 3600, "ping_after": 3600}
with Database(creator=FakeDB().connect, strategy=strategy, **ages) as database:
    for _ in range(4):
        day += step
        with database.connection() as conn:
            conn.cursor().execute("SELECT 1")
            day += step
    print(json.dumps(dataclasses.asdict(database.stats())))
"""


@pytest.mark.parametrize("strategy", ["thread-local", "pooled"])
@pytest.mark.parametrize("step", [-86400.0, 86400.0])
def test_clock_that_is_set(strategy: str, step: float) -> None:
    """The time of day may be set by a day, either way: no connection is retired or pinged because of that, and no
    counter has a day too many. In a process of its own: the clock is chosen when wsgidb is imported."""
    done = subprocess.run(
        [sys.executable, "-c", SET, strategy, str(step)],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": os.pathsep.join(PATH)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout)
    assert (stats["connects"], stats["pings"], stats["retirements"], stats["discards"]) == (1, 0, {}, {})
    assert all(0 <= stats[name] < 60 for name in stats if name.startswith("seconds_"))
    assert stats["seconds_open"] > 0


def test_old_age_comes_one_by_one(fakedb: FakeDB, clock: Clock) -> None:
    """A hundred connections of the same moment are replaced over the jitter's whole range: in no hundredth of their
    life more than a fifth of them, as that would be a stampede."""
    size, lifetime = 100, 1000.0
    with Database(
        creator=fakedb.connect, pool_size=size, max_lifetime=lifetime, max_idle=None, ping_after=None, clock=clock
    ) as database:

        def busy() -> None:
            leases = [database.lease() for _ in range(size)]
            for lease in leases:
                lease.close()

        busy()
        clock.advance(0.89 * lifetime)
        most = 0
        for _ in range(22):  # up to 1.11
            before = database.stats().connects
            clock.advance(0.01 * lifetime)
            busy()
            most = max(most, database.stats().connects - before)
        assert database.stats().connects == 2 * size
        assert most <= size / 5


def test_one_connect_at_a_time_per_request(fakedb: FakeDB, clock: Clock) -> None:
    """All connections too old at the same moment, and few requests: each request replaces its own, no more."""
    with Database(creator=fakedb.connect, pool_size=20, max_lifetime=10, max_idle=None, clock=clock) as database:
        leases = [database.lease() for _ in range(20)]
        for lease in leases:
            lease.close()
        clock.advance(1000)
        start = threading.Barrier(3, timeout=10)

        def request() -> None:
            with database.connection():
                start.wait()

        together([request] * 3)
        assert database.stats().connects == 23
