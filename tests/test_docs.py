"""The generated pages of the documentation are up to date."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_table_of_options_is_up_to_date() -> None:
    """docs/options.md is what tools/options-table writes now. If this fails, run the tool again."""
    written = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "options-table")], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert (ROOT / "docs" / "options.md").read_text() == written
    assert "| `pool_size` | `10` | a whole number >= 1 and <= 100000 | connections |" in written
