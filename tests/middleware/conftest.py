"""A Database of the fake driver, where a test is about the protocol alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.fakedb import FakeDB
from wsgidb import Database


@pytest.fixture(params=["pooled", "thread-local", "per-request"])
def strategy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["pooled", "thread-local"])
def keeping(request: pytest.FixtureRequest) -> str:
    """A strategy that keeps connections between requests."""
    return str(request.param)


def said(fakedb: FakeDB) -> list[str]:
    """All calls of the driver in order, but for the end of connections, which is per-request's last word."""
    return [name for _, name, _ in fakedb.calls if name != "close"]


@pytest.fixture
def database(fakedb: FakeDB, strategy: str) -> Iterator[Database]:
    """Of each strategy: the protocol does not depend on it."""
    with Database(creator=fakedb.connect, strategy=strategy) as made:
        yield made
