"""The end of worker processes: one that is killed takes only its own with it, and a graceful one leaves nothing."""

from __future__ import annotations

import os
import signal

import pytest

from faults.conftest import Serve
from faults.load import Ledger, asleep
from strategies.kit import Worker
from support.mariadb import MariaDB
from support.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

CLIENTS = 4


def test_worker_that_is_killed(serve: Serve, own_mariadb: MariaDB, ledger: Ledger, strategy: str) -> None:
    """SIGKILL under load: those in flight are hung up on, the server ends the worker's sessions and what they had open,
    and the next worker serves. No payment is there by half."""
    with serve(own_mariadb.url("app"), strategy=strategy) as site:
        with site.load(clients=CLIENTS) as seen:
            seen.more()
            request = Worker(lambda: site.get("/slow/30"))
            until(lambda: asleep(own_mariadb), what="the statement to run")
            sessions = {*own_mariadb.processes("app")} - {*asleep(own_mariadb)}  # the sleeper is noticed late
            (pid,) = site.server.workers
            os.kill(pid, signal.SIGKILL)
            assert request.outcome().kind == "hung up"
            until(lambda: site.server.workers not in ([], [pid]), what="another worker")
            seen.more()
            until(lambda: not sessions.intersection(own_mariadb.processes("app")), what="its sessions to end")
            seen.more()
        assert set(seen.kinds) <= {"served", "hung up"}
        assert seen.kinds["hung up"] <= CLIENTS, "those in flight"
        ledger.agrees_with(seen)


def test_graceful_stop(serve: Serve, own_mariadb: MariaDB, strategy: str) -> None:
    """SIGTERM with a request in flight: it is answered, and every session ends with a goodbye."""
    aborted = own_mariadb.status("Aborted_clients")
    with serve(own_mariadb.url("app"), strategy=strategy) as site:
        site.burst("echo", 8)
        request = Worker(lambda: site.get("/slow/3"))
        until(lambda: asleep(own_mariadb), what="the statement to run")
        site.server.stop()
        assert request.outcome().status == 200
    until(lambda: not own_mariadb.processes("app"), what="the sessions to end")
    assert own_mariadb.status("Aborted_clients") == aborted
