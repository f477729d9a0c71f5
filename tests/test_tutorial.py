"""The tutorial, followed from its first line to its last, as a reader does it."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.mariadb import MariaDB
from support.reader import Reader

TEXT = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()


@pytest.mark.slow
@pytest.mark.server
def test_the_tutorial_can_be_followed(tmp_path: Path, own_mariadb: MariaDB) -> None:
    """Every file is saved and every command is run, in the page's order, and prints what the page shows."""
    with Reader(tmp_path, own_mariadb) as reader:
        assert reader.follow(TEXT) == {"sh": 1, "python": 4, "console": 9}
