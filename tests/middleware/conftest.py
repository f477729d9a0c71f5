"""A Database of the fake driver, where a test is about the protocol alone."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.fakedb import FakeDB
from wsgidb import Database


@pytest.fixture
def database(fakedb: FakeDB) -> Iterator[Database]:
    with Database(creator=fakedb.connect) as made:
        yield made
