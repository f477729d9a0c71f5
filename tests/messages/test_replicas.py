"""The option replicas: the sentences of docs/troubleshooting.md and docs/logging.md, provoked."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from support import quoted
from support.clock import Clock
from support.fakedb import FakeDB
from support.quoted import fits, shown
from wsgidb import ConfigError, Database, DatabaseMiddleware
from wsgidb.lease.proxy import settle
from wsgidb.scale.replica import Replica, explain_refusals

MYSQL, CLIENT = "mysql://app@127.0.0.1:1/shop", "mysql+mysqldb://app@127.0.0.1:1/shop"


def wrap(url: str, **options: object) -> Callable[[], object]:
    return lambda: DatabaseMiddleware(lambda environ, start_response: [], url, **options)  # type: ignore[arg-type]


CASES = {
    "replica_if: needs replicas": wrap(MYSQL, replica_if=bool),
    "replicas: <driver> cannot tell what a replica has": wrap("sqlite:///a.db", replicas=["sqlite:///b.db"]),
    "replicas: <database> needs another driver than the primary": wrap(MYSQL, replicas=[CLIENT]),
    "has transaction=request; nothing is committed on a replica": wrap(
        MYSQL, replicas=[Database(MYSQL, transaction="request")]
    ),
}


@pytest.mark.parametrize("fragment", CASES)
def test_a_mistake_gets_the_error_of_the_page(fragment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CASES[fragment]()
    shown(fragment, caught.value)


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Callable[[str], None]:
    """Asserts that the line of both pages that has this fragment was logged, as a warning."""

    def logged(fragment: str) -> None:
        (line,) = [line for line in quoted.log_lines() if fragment in line]
        (text,) = [record.getMessage() for record in caplog.records if fragment in record.getMessage()]
        explained = quoted.blocks(quoted.section("troubleshooting.md", "## Warnings in the log"))
        assert fits(line, text)
        assert any(fits(each, text) for each in explained)

    return logged


def test_trouble(fakedb: FakeDB, clock: Clock, logged: Callable[[str], None]) -> None:
    """It begins once and ends once, however many requests come."""
    with Database(creator=fakedb.connect, clock=clock) as database:
        replica = Replica(database)
        for n in range(1, 4):
            fakedb.fail("connect", FakeDB.OperationalError("down"), n=n)
        for _ in range(3):
            assert replica.take(None, None) is None
            clock.advance(5)
        logged("reads do not go to this replica for now")
        slot = replica.take(None, None)
        assert slot is not None
        database.engine.release(slot)
        logged("reads go to this replica again")


def test_a_write(fakedb: FakeDB, monkeypatch: pytest.MonkeyPatch, logged: Callable[[str], None]) -> None:
    """The request is named."""
    with Database(creator=fakedb.connect) as database:
        monkeypatch.setattr(database.engine.driver, "refused_write", lambda error: True)
        explain_refusals(database)
        conn = database.lease(("GET", "", "/orders"))
        for _ in range(2):
            assert conn.driver_connection is not None
            activity = next(iter(database.engine.process.open)).activity
            assert database.engine.classify(activity, FakeDB.OperationalError("read-only")) is None
        logged("a write was refused, as the request was sent to a replica")
        settle(conn, success=True)
