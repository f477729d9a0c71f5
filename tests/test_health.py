"""Health checks as WSGI applications, and what they say where something is wrong with the application itself."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from wsgiref.validate import validator

import pytest
from werkzeug.test import Client, TestResponse

from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import Database, DatabaseUnavailable
from wsgidb.health import Health, health, liveness, readiness
from wsgidb.strategies import Slot
from wsgidb.strategies.per_request import PerRequest
from wsgidb.testing import SandboxDatabase

Make = Callable[..., Database]


@pytest.fixture
def make() -> Iterator[Make]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(Database(**options))


def get(app: Any, method: str = "GET") -> TestResponse:
    return Client(validator(app)).open("/", method=method, buffered=True)


class TestBadInput:
    """A check never raises."""

    def test_closed(self, make: Make, fakedb: FakeDB, strategy: str) -> None:
        """A Database that is closed is not ready."""
        database = make(creator=fakedb.connect, strategy=strategy)
        database.close()
        assert health(database) == Health(False, "the Database is closed")

    def test_no_connection(self, make: Make) -> None:
        """A creator that returns something else is an error of the application's, and told as such."""
        assert health(make(creator=dict)) == Health(False, "cannot connect: ConfigError")

    def test_own_words(self, make: Make) -> None:
        """What a driver of the application's own says is not shown."""

        def connect() -> Any:
            raise DatabaseUnavailable("the vault of hunter2 is sealed")

        assert health(make(creator=connect)) == Health(False, "cannot connect")

    def test_a_strategy_that_fails(self, make: Make, caplog: pytest.LogCaptureFixture) -> None:
        """Any other error is in the log, and told by its class."""

        class Broken(PerRequest):
            def take(self) -> Slot:
                raise RuntimeError("hunter2")

        database = make(creator=FakeDB().connect, strategy=Broken)
        assert health(database) == Health(False, "the health check failed: RuntimeError")
        (record,) = [each for each in caplog.records if "the health check failed" in each.getMessage()]
        assert (record.levelno, record.getMessage()) == (logging.ERROR, "creator: the health check failed")
        assert record.exc_info is not None

    def test_the_outage_of_a_sandbox(self) -> None:
        """A sandbox that pretends an outage is not ready."""
        with SandboxDatabase(creator=FakeDB().connect) as database:
            with database.outage():
                assert health(database) == Health(False, "the database is unavailable")
            assert health(database).ready


class TestPages:
    """The checks as WSGI applications."""

    def test_readiness(self, make: Make, fakedb: FakeDB) -> None:
        """200 or 503, with a body of JSON that says why, and that nobody may keep."""
        database = make(creator=fakedb.connect)
        fakedb.fail("connect", FakeDB.OperationalError("server is down"))
        answers = [get(readiness(database))]
        until(lambda: health(database).ready, what="the end of the back-off")
        answers.append(get(readiness(database)))
        assert [(answer.status_code, json.loads(answer.data)) for answer in answers] == [
            (503, {"ready": False, "reason": "cannot connect: OperationalError"}),
            (200, {"ready": True, "reason": "the database answers"}),
        ]
        for answer in answers:
            assert answer.headers["Content-Type"] == "application/json"
            assert answer.headers["Cache-Control"] == "no-store"
            assert answer.content_length == len(answer.data)

    def test_head(self, make: Make, fakedb: FakeDB) -> None:
        """A HEAD request, which HAProxy can send, gets no body."""
        answer = get(readiness(make(creator=fakedb.connect)), "HEAD")
        assert (answer.status_code, answer.data) == (200, b"")

    def test_liveness(self) -> None:
        """A process that answers is alive."""
        answer = get(liveness)
        assert (answer.status_code, json.loads(answer.data)) == (200, {"alive": True})
