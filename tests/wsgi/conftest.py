"""A Database on the fake driver, for tests that are about the WSGI protocol alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.fakedb import FakeDB
from wsgidb import Database


def said(fakedb: FakeDB) -> list[str]:
    """All calls of the driver in order, without close(), which only per-request calls."""
    return [name for _, name, _ in fakedb.calls if name != "close"]


@pytest.fixture
def database(fakedb: FakeDB, strategy: Any) -> Iterator[Database]:
    """A Database with each strategy, since the protocol must not depend on the strategy."""
    with Database(creator=fakedb.connect, strategy=strategy) as made:
        yield made
