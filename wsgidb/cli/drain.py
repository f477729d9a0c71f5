"""``python -m wsgidb drain DIRECTORY``: have the connections of all processes of a board replaced."""

from __future__ import annotations

import argparse
from typing import Any

from ..config.values import number
from .boards import NothingToTell, pools
from .numbers import MOST, Number

OVER = 10.0
"""Seconds within which the connections are replaced, if no other number is given."""


def add_to(commands: Any) -> None:
    """Add the command to argparse's commands."""
    parser = commands.add_parser("drain", help="have the connections replaced that all processes of a board have open")
    parser.add_argument("board", metavar="DIRECTORY", help="the option board of the processes")
    parser.add_argument("--pool", metavar="NAME", help="the name of the pool; without it, all pools are drained")
    parser.add_argument(
        "--over", action=Number, takes=number(least=0, most=MOST), default=OVER, metavar="SECONDS",
        help=f"within how many seconds they are replaced, {OVER:g} if no other number is given",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Ask for the drain, and print how many connections there are. Returns the exit code. Blocks for the board's files
    only: each process notices at its next request, or at its next health check.

    Raises NothingToTell if no process is there to be asked."""
    from ..observe.drains import ask  # only where there are locks of files

    alive = [pool for pool in pools(given.board) if pool.rows]
    asked = [pool for pool in alive if given.pool in (None, pool.name)]
    if not asked:
        names = ", ".join(pool.name for pool in alive) or "none"
        which = "" if given.pool is None else f" of the pool {given.pool!r}"
        raise NothingToTell(f"{given.board} has no process{which} that is alive; pools with such a process: {names}")
    ask(given.board, given.pool, given.over)
    for pool in asked:
        processes = "1 process" if len(pool.rows) == 1 else f"{len(pool.rows)} processes"
        connections = "1 open connection" if pool.now.open == 1 else f"{pool.now.open} open connections"
        print(f"{pool.name}: {processes} with {connections}, to be replaced within {given.over:g} s")
    return 0
