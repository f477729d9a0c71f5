"""The backend of a driver case."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.cases import Backend, Case, prepared
from drivers.others import Open, opening


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    """One driver and its server; give it by ``@over(…)``."""
    case: Case = request.param
    yield from prepared(case, request.getfixturevalue(case.server) if case.server else None, tmp_path / "contract.db")


@pytest.fixture
def opened() -> Iterator[Open]:
    """Opens a connection by one of the MySQL drivers beside PyMySQL; dropped after the test."""
    yield from opening()
