"""Handlers that fork in the middle of a request, in a WSGI server under load: the children cost the parent nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults.conftest import Serve
from faults.load import Ledger, Site
from support.mariadb import MariaDB
from support.waiting import until

pytestmark = [pytest.mark.server, pytest.mark.slow]

CLIENTS = 4


def test_forks_under_load(serve: Serve, own_mariadb: MariaDB, ledger: Ledger, keeping: str) -> None:
    """A child that ends at once, one that works with a connection of its own and cleans up, and those that leave
    through the middleware, by an exit or as if the request were theirs, each with copies of all of the parent's: every
    answer is right, no connection of the parent's is lost, and nothing is left of the children."""
    with serve(own_mariadb.url("app"), strategy=keeping, pool_size=2 * CLIENTS) as site:
        before = descriptors(site)
        with site.load("fork", clients=CLIENTS) as seen, site.load("echo", clients=CLIENTS) as echoes:
            seen.more()
            aborted = own_mariadb.status("Aborted_clients")
            seen.more(count=60)
        assert set(seen.kinds) == set(echoes.kinds) == {"served"}
        assert all(answer.body == str(answer.number) for answer in seen + echoes)
        assert own_mariadb.status("Aborted_clients") == aborted
        stats = site.stats()
        assert (stats["leased"], stats["discards"]) == (0, {})
        assert stats["connects"] == stats["open"] <= 2 * CLIENTS
        until(lambda: len(own_mariadb.processes("app")) == stats["open"], what="the children's sessions to end")
        until(lambda: not children(site), what="the children to end")
        until(lambda: descriptors(site) <= before, what="all else to be closed")
    ledger.agrees_with(seen)


def children(site: Site) -> list[str]:
    """Of the worker process."""
    (worker,) = site.server.workers
    return [pid for task in Path(f"/proc/{worker}/task").iterdir() for pid in (task / "children").read_text().split()]


def descriptors(site: Site) -> int:
    """How many the worker has open, beside its sessions."""
    sessions = site.stats()["open"]  # first: once it answers, it is there
    (worker,) = site.server.workers
    return len(list(Path(f"/proc/{worker}/fd").iterdir())) - int(sessions)
