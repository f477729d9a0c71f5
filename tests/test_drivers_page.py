"""docs/drivers.md agrees with the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.exceptions import EXCEPTIONS
from wsgidb.drivers import DRIVERS, SHORT

PAGE = (Path(__file__).parents[1] / "docs" / "drivers.md").read_text()
TABLE = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("|")]
LAST = next(place for place, row in enumerate(TABLE) if row[0].startswith("`read_timeout`"))
ROWS = {row[0]: row[1:] for row in TABLE[: LAST + 1]}


@pytest.mark.parametrize("scheme", [*DRIVERS, *SHORT])
def test_every_scheme_has_its_column(scheme: str) -> None:
    """Each url scheme has a column in the table."""
    assert any(f"`{scheme}:" in cell for cell in ROWS["url"])


@pytest.mark.parametrize("extra", sorted({extra for _, _, extra in DRIVERS.values() if extra is not None}))
def test_every_extra_is_named(extra: str) -> None:
    """Each extra that a driver needs is in the row about installing."""
    assert any(f"`wsgidb[{extra}]`" in cell for cell in ROWS["install"])


def test_every_row_has_a_cell_for_each_driver() -> None:
    """No row of the table has a missing cell."""
    assert {len(row) for row in ROWS.values()} == {len(ROWS["url"])}


def test_what_is_impossible_is_said() -> None:
    """The page lists exactly the failures that the tests expect, with the same reasons."""
    found = re.findall(r"^\| (\w+) \| (\w\d) \| (.+?) \|$", PAGE, re.MULTILINE)
    assert {(driver, law): reason for driver, law, reason in found} == EXCEPTIONS
