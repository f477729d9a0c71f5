"""``python -m wsgidb check URL``: connect once, and say what the server is and what does not fit."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import Any

from ..config.settings import Settings
from ..errors import ConfigError
from ..observe.server import advice, facts
from .log import kept


def add_to(commands: Any) -> None:
    """Add the command to argparse's commands."""
    parser = commands.add_parser("check", help="connect once, and say what the server is and what does not fit")
    parser.add_argument("url", nargs="?", help="driver://user:password@host:port/name; without it, WSGIDB_URL is used")
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option, such as ssl_mode=required"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    """Connect, ask and print. Returns the exit code. Blocks up to acquire_timeout, and as long as the questions take.

    Raises ConfigError, DatabaseUnavailable, or the driver's error."""
    settings = settings_of(given.url, given.option)
    with kept():  # what the log would say is part of what is printed here
        told = {"url": settings.address, **facts(settings)}
    notes = advice(told, settings)
    if given.json:
        print(json.dumps({**told, "advice": notes}, indent=2))
        return 0
    for name, value in told.items():
        print(f"{LABELS.get(name, name):<22} {_shown(name, value)}")
    for note in notes:
        print(f"\n{note}")
    return 0


LABELS = {
    "url": "database",
    "connect_seconds": "time to connect",
    "round_trip_seconds": "round trip",
    "tls": "TLS",
    "max_connections": "connections allowed",
    "idle_timeout": "idle time-out",
    "read_only": "read-only",
    "journal_mode": "journal mode",
}


def _shown(name: str, value: Any) -> str:
    if name.endswith("_seconds"):
        return f"{1e3 * value:.1f} ms"
    if name == "idle_timeout":
        return "none" if value is None else f"{value:g} s"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "no" if value is None else str(value)


def settings_of(url: str | None, options: Sequence[str] = ()) -> Settings:
    """The settings that the user has given; without a url, those of the environment too. Raises ConfigError."""
    given: dict[str, Any] = {}
    for text in options:
        name, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--option: takes NAME=VALUE, got {text!r}")
        given[name] = value
    if url is None:
        return Settings.from_env(overrides=given)
    return Settings.of({**given, "url": url})
