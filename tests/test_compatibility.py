"""docs/compatibility.md agrees with the code, and with what the matrix runs on.

``pytest tests/test_compatibility.py --update-docs`` writes the table of versions.
"""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path

import pytest

from support.exceptions import EXCEPTIONS
from support.pages import Row, Table
from wsgidb.drivers import DRIVERS, SHORT

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "compatibility.md"
PAGE = FILE.read_text()
LINES = [line for line in PAGE.partition("\n## Drivers\n")[2].splitlines() if line.startswith("|")]
TABLE = [[cell.strip() for cell in line.strip("|").split("|")] for line in LINES]
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


def versions() -> list[Row]:
    """The versions that the package allows, and those that tox tests."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    tox = (ROOT / "tox.ini").read_text()
    pythons = re.findall(r"Python :: (3\.\d+)", setup["metadata"]["classifiers"])
    (tested,) = re.findall(r"^    py\{([\d,]+)\}-core$", tox, re.MULTILINE)
    assert [version.replace(".", "") for version in pythons] == tested.split(",")
    assert setup["options"]["python_requires"] == f">={pythons[0]}"
    rows: list[Row] = [("Python", "·", pythons[0], ", ".join(pythons))]
    oldest = dict(re.findall(r"^    (?:py310-core-)?lowest: ([\w-]+)(?:\[\w+\])?==([\d.]+)$", tox, re.MULTILINE))
    for extra, package in setup["options.extras_require"].items():
        name, lowest = package.strip().split(">=")
        if name in oldest:
            assert oldest[name].startswith(lowest)
        rows.append((name, f"`wsgidb[{extra}]`", lowest, "this and the newest" if name in oldest else "the newest"))
    return rows


def test_the_versions(pytestconfig: pytest.Config) -> None:
    """They are those of the package and of the matrix. If this fails, use --update-docs."""
    rows = versions()
    header = ("what", "extra", "oldest version", "tested with")
    table = Table(FILE, "versions", header, [(cells[0], cells[1]) for cells in rows])
    if pytestconfig.getoption("update_docs"):
        table.update({(cells[0], cells[1]): cells for cells in rows})
    assert list(table.rows.values()) == rows
