"""``python -m wsgidb status DIRECTORY``: what a board tells, as text or JSON."""

from __future__ import annotations

import argparse
import json
import sys
from time import sleep
from typing import Any

from ..status.view import view
from .boards import NothingToTell, pools
from .numbers import POSITIVE, Number
from .report import report

EVERY = 2.0
"""Seconds between two looks with --watch."""

CLEAR = "\x1b[H\x1b[2J\x1b[3J"
"""What empties a terminal."""


def add_to(commands: Any) -> None:
    """Add the command to argparse's commands."""
    parser = commands.add_parser("status", help="who uses the connections, over all processes that have a board")
    parser.add_argument("board", metavar="DIRECTORY", help="the option board of the processes")
    parser.add_argument(
        "--watch", action=Number, takes=POSITIVE, nargs="?", const=EVERY, metavar="SECONDS",
        help=f"look again and again, every {EVERY:g} seconds if no other number is given, until Ctrl-C",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print JSON; with --watch one line each time")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Print the board, once or again and again. Returns the exit code. Blocks for reading the board's files only, and
    with --watch until Ctrl-C.

    Raises NothingToTell if the board is empty or cannot be read, but not with --watch, as it may change."""
    if given.watch is None:
        print(_shown(given, 2))
        return 0
    try:
        while True:
            try:
                shown = _shown(given, None)
            except NothingToTell as error:
                print(f"wsgidb: {error}", file=sys.stderr, flush=True)
            else:
                print(f"{CLEAR if sys.stdout.isatty() else ''}{shown}", flush=True)
            sleep(given.watch)
    except KeyboardInterrupt:
        return 0


def _shown(given: argparse.Namespace, indent: int | None) -> str:
    told = [view(pool, None) for pool in pools(given.board)]
    if given.json:
        return json.dumps({"pools": told}, indent=indent)
    return "\n\n".join(map(report, told)) + ("\n" if given.watch else "")
