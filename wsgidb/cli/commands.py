"""The command line: ``python -m wsgidb check URL`` and ``python -m wsgidb options``.

Exit codes: 0 for success, 1 where the database cannot be reached or answers with an error, 2 for a mistake in the
command or in an option.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from ..config.options import OPTIONS
from ..config.settings import Settings
from ..errors import ConfigError, DatabaseUnavailable
from ..observe.server import advice, facts


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command. Returns the exit code; prints no traceback for a user's mistake."""
    parser = argparse.ArgumentParser(prog="python -m wsgidb", description="Look at a database as wsgidb does.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="connect once, and say what the server is and what does not fit")
    check.add_argument("url", nargs="?", help="driver://user:password@host:port/name; without it, WSGIDB_URL is used")
    check.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE", help="an option, such as ssl_mode=required"
    )
    options = commands.add_parser("options", help="list all options")
    for command in (check, options):
        command.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    return _check(given) if given.command == "check" else _options(given.json)


def _check(given: argparse.Namespace) -> int:
    # What the log would say is part of what is printed here.
    logging.getLogger("wsgidb").addHandler(logging.NullHandler())
    logging.getLogger("wsgidb").propagate = False
    try:
        settings = _settings(given.url, given.option)
        told = facts(settings)
    except ConfigError as error:
        print(f"wsgidb: {error}", file=sys.stderr)
        return 2
    except DatabaseUnavailable as error:
        print(f"wsgidb: {error}", file=sys.stderr)
        return 1
    except Exception as error:  # noqa: BLE001 - the driver's, of any kind
        print(f"wsgidb: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    told = {"url": settings.address, **told}
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


def _settings(url: str | None, options: Sequence[str]) -> Settings:
    given: dict[str, Any] = {}
    for text in options:
        name, separator, value = text.partition("=")
        if not separator:
            raise ConfigError(f"--option: takes NAME=VALUE, got {text!r}")
        given[name] = value
    if url is None:
        return Settings.from_env(overrides=given)
    return Settings.of({**given, "url": url})


def _options(as_json: bool) -> int:
    rows = [
        {"name": name, "default": _default(option), "takes": option.metadata["takes"].takes,
         "unit": option.metadata["unit"], "meaning": option.metadata["meaning"]}
        for name, option in OPTIONS.items()
    ]  # fmt: skip
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        unit = f" ({row['unit']})" if row["unit"] else ""
        print(f"{row['name']}{unit}, default {row['default']}\n    takes {row['takes']}\n    {row['meaning']}")
    return 0


def _default(option: Any) -> str:
    default = option.metadata["default"]
    return "none" if default in (None, (), {}) else str(default)

