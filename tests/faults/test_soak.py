"""The soak of benchmarks/soak.py, a few thousand requests of it: every kind of fault once."""

from __future__ import annotations

import pytest

from faults import soak_http
from faults.soak import Soak, descriptors
from faults.soak_faults import FAULTS
from faults.soak_rows import Row
from support.mariadb import MariaDB
from wsgidb.pool.backoff import LAST

pytestmark = [pytest.mark.server, pytest.mark.slow]

WINDOW = 300
SLACK = 2.0
"""Seconds that a busy machine may add. A new worker has to import all of its application, too."""


def nothing_was_lost(rows: list[Row]) -> None:
    assert {(row.fault, row.leaked, row.lost) for row in rows} == {(row.fault, 0, 0) for row in rows}
    assert max(row.recovery for row in rows) < LAST + SLACK


def test_in_process(own_mariadb: MariaDB, keeping: str) -> None:
    """After each fault, and among handlers that misbehave: no payment is lost, no connection or descriptor leaked, and
    all counters agree with what clients were told and with the server's own. Only what was in flight fails, and nobody
    is told of a fault before it begins or when it is over."""
    soak = Soak(own_mariadb, keeping, seed=1)
    try:
        soak.window(None, 2 * WINDOW)
        before = descriptors() - soak.database.stats().open
        for fault in FAULTS:
            soak.window(fault, WINDOW)
        soak.window(None, WINDOW)
        assert soak.problems == []
        assert descriptors() - soak.database.stats().open <= before
        nothing_was_lost(list(soak.rows.values()))
        assert len(soak.rows) == 1 + len(FAULTS)
        assert soak.payments > 0
        assert soak.log.lines > 0
    finally:
        soak.close()


def test_over_http(keeping: str) -> None:
    """The same from a server's process, with what a network and a dying worker add."""
    rows, problems, requests = soak_http.run(keeping, 1, WINDOW // 4, seed=1)
    assert problems == []
    nothing_was_lost(rows)
    assert len(rows) == len(soak_http.FAULTS)
    assert requests >= len(rows) * WINDOW // 4
