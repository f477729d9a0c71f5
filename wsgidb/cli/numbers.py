"""Numbers on the command line, within bounds."""

from __future__ import annotations

import argparse
from typing import Any

from ..config.values import Parser, number

MOST = 1_000_000
POSITIVE = number(above=0, most=MOST)
COUNT = number(least=1, most=MOST, whole=True)
SHARE = number(above=0, most=1)


class Number(argparse.Action):
    """An argument that a parser of option values takes, and whose error says what it takes."""

    def __init__(self, *args: Any, takes: Parser, **options: Any) -> None:
        super().__init__(*args, **options)
        self._takes = takes

    def __call__(self, parser: argparse.ArgumentParser, given: Any, value: Any, option: str | None = None) -> None:
        try:
            setattr(given, self.dest, self._takes(value))
        except ValueError:
            parser.error(f"{option}: takes {self._takes.takes}, got {value!r}")
