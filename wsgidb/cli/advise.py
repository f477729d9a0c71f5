"""``python -m wsgidb advise``: how many connections the pool of each process should have."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any, NoReturn

from ..observe.server import facts
from ..observe.sources import Pool
from . import sizing
from .boards import NothingToTell, pools
from .check import settings_of
from .load import Load, Measured, measured
from .log import kept
from .numbers import COUNT, POSITIVE, SHARE, Number
from .sizing import Targets

NUMBERS = (
    ("--rate", POSITIVE, "RATE", "requests per second that take a connection, in all processes together"),
    ("--use", POSITIVE, "SECONDS", "how long a request uses its connection, on average"),
    ("--processes", COUNT, "N", "default: as many as the board has, or 1"),
    ("--wait-share", SHARE, "SHARE", "the share of requests that may wait (default: 0.01)"),
    ("--mean-wait", POSITIVE, "SECONDS", "how long a request may wait on average, those included that do not wait"),
    ("--max-connections", COUNT, "N", "how many the server allows"),
)


def add_to(commands: Any) -> None:
    """Add the command to argparse's commands."""
    parser = commands.add_parser(
        "advise", help="how large a pool should be",
        description="The smallest pool_size with which few requests wait, by Little's law and Erlang C. Give the load "
        "by --rate and --use, or let it be measured from a board; then numbers that are given replace measured ones.",
    )  # fmt: skip
    parser.add_argument("url", nargs="?", help="the server's url, to ask how many connections it allows")
    parser.add_argument("--board", metavar="DIRECTORY", help="the option board of the processes")
    parser.add_argument("--pool", metavar="NAME", help="which pool of the board, if it has several")
    for name, takes, unit, text in NUMBERS:
        parser.add_argument(name, action=Number, takes=takes, metavar=unit, help=text)
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run, mistake=parser.error)


def run(given: argparse.Namespace) -> int:
    """Compute and print. Returns the exit code. Blocks for reading the board's files and for asking the server only.

    Raises NothingToTell, ConfigError, DatabaseUnavailable, or the driver's error."""
    if given.board is None and (given.rate is None or given.use is None):
        _mistake(given, "give --rate and --use, or --board")
    if given.board is None and given.pool is not None:
        _mistake(given, "--pool is for --board")
    if given.url is not None and given.max_connections is not None:
        _mistake(given, "give a url or --max-connections, not both")
    found = None if given.board is None else _measured(_chosen(pools(given.board), given), given)
    load = found.load if found is not None else Load(given.rate, given.use)
    load = Load(given.rate or load.rate, given.use or load.use)
    processes = given.processes or (found.processes if found is not None else 1)
    wanted = None if given.wait_share is None and given.mean_wait is not None else given.wait_share or 0.01
    targets = Targets(wanted, given.mean_wait)
    advice = sizing.advise(load, processes, targets)
    if advice is None:
        _mistake(given, f"no pool is large enough: {load.in_use:.6g} connections would be in use on average")
    allowed = given.max_connections if given.url is None else _allowed(given)
    notes = [*sizing.notes(advice, allowed), *([] if found is None else sizing.notes_on_measurement(advice, found))]
    if given.json:
        print(json.dumps({**sizing.plain(advice, allowed, found), "advice": notes}, indent=2))
    else:
        print("\n".join([*sizing.sentences(advice, found), *notes]))
    return 0


def _mistake(given: argparse.Namespace, text: str) -> NoReturn:
    fail: Callable[[str], NoReturn] = given.mistake  # argparse's: it ends the process
    fail(text)


def _chosen(found: list[Pool], given: argparse.Namespace) -> Pool:
    names = [pool.name for pool in found]
    if given.pool is not None and given.pool not in names:
        _mistake(given, f"--pool: the board has no {given.pool!r}, but {', '.join(names)}")
    if given.pool is None and len(found) > 1:
        _mistake(given, f"the board has several pools; choose one with --pool: {', '.join(names)}")
    return found[0] if given.pool is None else found[names.index(given.pool)]


def _measured(pool: Pool, given: argparse.Namespace) -> Measured:
    found = measured(pool)
    if found is None:
        raise NothingToTell(
            f"{given.board} tells of no request of {pool.name} in the latest minutes (telemetry=false?)"
        )
    return found


def _allowed(given: argparse.Namespace) -> int:
    with kept():
        told = facts(settings_of(given.url))
    if "max_connections" not in told:
        _mistake(given, f"the url is of a {told.get('server', 'server')}, which allows any number of connections")
    return int(told["max_connections"])
