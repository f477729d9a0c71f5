"""``python -m wsgidb options``: all options, from the table."""

from __future__ import annotations

import argparse
import json
from typing import Any

from ..config.options import OPTIONS


def add_to(commands: Any) -> None:
    """Add the command to argparse's commands."""
    parser = commands.add_parser("options", help="list all options")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print the options. Returns the exit code."""
    rows = [
        {"name": name, "default": _default(option), "takes": option.metadata["takes"].takes,
         "unit": option.metadata["unit"], "meaning": option.metadata["meaning"]}
        for name, option in OPTIONS.items()
    ]  # fmt: skip
    if given.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        unit = f" ({row['unit']})" if row["unit"] else ""
        print(f"{row['name']}{unit}, default {row['default']}\n    takes {row['takes']}\n    {row['meaning']}")
    return 0


def _default(option: Any) -> str:
    default = option.metadata["default"]
    return "none" if default in (None, (), {}) else str(default)
