"""thread-local under a real gevent server: it works, says what it costs, and `pooled` is what test_http.py runs."""

from __future__ import annotations

import pytest

from servers.conftest import Start
from servers.kit import sessions
from servers.load import load
from support.mariadb import MariaDB
from support.rawhttp import Session
from support.server_kinds import SERVERS
from support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.server]


@pytest.mark.parametrize("name", ["gunicorn gevent", "uWSGI --gevent"])
def test_thread_local_is_a_connection_per_greenlet(name: str, start: Start, database: MariaDB) -> None:
    """S7, S4: each request of another client has a session of its own, which ends with its greenlet; and each process
    that has loaded the application or serves says so in the log, once."""
    until(lambda: not sessions(database), what="the sessions of an earlier server to end")
    with start(name, TEST_STRATEGY="thread-local") as server:
        kind = SERVERS[name]
        found = load(server.port, 40, per_connection=1)
        found.judge(server)
        assert len(found.sessions) == 40
        kept = kind.processes + kind.preloads  # of the greenlets that have loaded the application
        until(lambda: len(sessions(database)) <= kept, what="the greenlets' sessions to end")
        if "keep-alive" not in kind.cannot:
            with Session(server.port) as client:
                bodies = [client.ask("/echo?1").body for _ in range(3)]
            assert len(set(bodies)) == 1, "a client's connection is one greenlet"
        warning = "strategy thread-local keeps no connection here: with gevent each greenlet counts as a thread"
        assert server.said.count(warning) == kept
    until(lambda: not sessions(database), what="all sessions to end")


def test_pooled_does_not_warn(start: Start) -> None:
    """The better choice."""
    with start("gunicorn gevent") as server:
        load(server.port, 8).judge(server)
        assert "WARNING" not in server.said
        assert "keeps no connection" not in server.said
