"""The ends of processes: a server's own, and those of its workers while it goes on serving."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from servers.conftest import Start
from servers.kit import Site, sessions
from servers.load import Load, load
from support.mariadb import MariaDB
from support.server_kinds import SERVERS
from support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.server]

RECYCLE = 100


def able(check: str) -> list[str]:
    return [name for name, kind in SERVERS.items() if check not in kind.cannot]


@contextmanager
def started(start: Start, name: str, database: MariaDB, masters: int = 1, **options: Any) -> Iterator[Site]:
    """A server that is asked to end with SIGTERM; then every connection must have been closed with a goodbye, but for
    what the table says."""
    until(lambda: not sessions(database), what="the sessions of an earlier server to end")
    aborted = database.status("Aborted_clients")
    with start(name, **options) as server:
        site = Site(server, database)
        yield site
        site.settle()
        # A process that is being replaced may take a second over it.
        until(lambda: len(site.sessions()) <= site.most, what="the sessions of earlier processes to end")
        left = len(site.sessions())
    until(lambda: not sessions(database), what="all sessions to end")
    aborted = database.status("Aborted_clients") - aborted
    if "stop" in site.kind.cannot:
        assert aborted >= left, "who can do it after all has to tell so in the table"
    else:
        assert aborted == masters * site.kind.abandoned, server.said[-3000:]


@pytest.mark.parametrize("name", SERVERS)
def test_a_graceful_stop(name: str, start: Start, database: MariaDB) -> None:
    """S7: after SIGTERM."""
    with started(start, name, database) as site:
        load(site.port, 64, per_connection=1).judge(site.server)


@pytest.mark.parametrize("name", able("recycling"))
def test_recycling(name: str, start: Start, database: MariaDB) -> None:
    """S6, S7: processes that are replaced after some requests cost no client an error, and close what is theirs."""
    found = Load()
    with started(start, name, database, recycle=RECYCLE) as site:

        def enough() -> bool:
            found.add(load(site.port, 2 * RECYCLE, per_connection=1))
            return len(found.processes) > site.kind.processes + 1

        until(enough, 60, "processes to be replaced")
        found.judge(site.server)


@pytest.mark.parametrize("name", able("reload"))
def test_reload(name: str, start: Start, database: MariaDB) -> None:
    """S6, S7: processes that are replaced on request, under load: likewise."""
    found = Load()
    with started(start, name, database, masters=2) as site:
        before = load(site.port, 64, per_connection=1)
        assert site.kind.reloads is not None

        def replaced() -> bool:
            more = load(site.port, 100, per_connection=1)
            found.add(more)
            return not before.processes & more.processes

        site.kind.reloads(site.server)
        until(replaced, 60, "new processes")
        found.add(before)
        found.judge(site.server)
