"""The replicas of the tests lag, stop and come back as they are told."""

from __future__ import annotations

from typing import Any

import pytest

from support.waiting import until

pytestmark = pytest.mark.server


@pytest.fixture(params=["mariadb", "postgresql"])
def servers(request: pytest.FixtureRequest) -> Any:
    servers = request.getfixturevalue(f"replicated_{request.param}")
    servers.primary.execute("CREATE TABLE followed (n INT PRIMARY KEY)")
    servers.caught_up()
    yield servers
    servers.primary.execute("DROP TABLE followed")


def rows(server: Any) -> list[Any]:
    return [n for (n,) in server.query("SELECT n FROM followed ORDER BY n")]


def test_a_replica_applies_what_the_primary_commits_when_it_may(servers: Any) -> None:
    delayed, paused = servers.replicas
    delayed.delay(600)
    paused.pause()
    servers.primary.execute("INSERT INTO followed VALUES (1)")
    assert not delayed.has_caught_up()
    delayed.delay(1)
    until(lambda: rows(delayed) == [1], what="the delay to pass")
    assert rows(paused) == []
    assert not paused.has_caught_up()
    paused.resume()
    until(lambda: rows(paused) == [1], what="the paused replica")


def test_healing_ends_whatever_was_done(servers: Any) -> None:
    first, second = servers.replicas
    first.delay(600)
    servers.primary.execute("INSERT INTO followed VALUES (1)")
    first.freeze()
    second.kill()
    servers.primary.kill()
    servers.heal()
    assert [rows(server) for server in (servers.primary, first, second)] == [[1], [1], [1]]
