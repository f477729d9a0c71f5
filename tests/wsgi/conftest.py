"""A Database of the fake driver, where a test is about the protocol alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.fakedb import FakeDB
from wsgidb import Database


def said(fakedb: FakeDB) -> list[str]:
    """All calls of the driver in order, but for the end of connections, which is per-request's last word."""
    return [name for _, name, _ in fakedb.calls if name != "close"]


@pytest.fixture
def database(fakedb: FakeDB, strategy: str) -> Iterator[Database]:
    """Of each strategy: the protocol does not depend on it."""
    with Database(creator=fakedb.connect, strategy=strategy) as made:
        yield made
