"""A fixture for pytest, which pytest finds where wsgidb is installed. It does nothing until a test requests it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .keywords import SandboxOptions, Unpack
    from .testing import SandboxDatabase


@pytest.fixture
def wsgidb_sandbox() -> Iterator[Callable[..., SandboxDatabase]]:
    """A function that makes a `wsgidb.testing.SandboxDatabase` and takes the same arguments. After the test, everything
    that was done with it is undone."""
    from .testing import SandboxDatabase

    made: list[SandboxDatabase] = []

    def make(url: str | None = None, /, **options: Unpack[SandboxOptions]) -> SandboxDatabase:
        made.append(SandboxDatabase(url, **options))
        return made[-1]

    yield make
    for database in reversed(made):
        database.close()
