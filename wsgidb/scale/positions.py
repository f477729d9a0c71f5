"""Positions: how far a server has come. Their text form, and how they are compared.

The text is short and contains nothing that a cookie or a header would have to escape: ``0-8``, or ``0-8_1-30`` if there
are transactions of several sources. A source is a GTID domain of MariaDB, a server's UUID of MySQL, or PostgreSQL's
log, which is called lsn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..drivers.states import Position

MOST = 8
"""How many sources a text may have. Whoever has written to more of them reads from the primary."""
_ONE = r"[0-9a-z-]{1,40}-[0-9]{1,20}"
TEXT = re.compile(rf"{_ONE}(?:_{_ONE}){{0,{MOST - 1}}}")

PRIMARY = "primary"
"""The source that no replica has: whoever needs it reads from the primary."""
ONLY_PRIMARY: Position = {PRIMARY: 1}


def parse(text: str) -> Position:
    """The position that a client claims to need. What is malformed is ignored, so that it is empty then."""
    if TEXT.fullmatch(text) is None:
        return {}
    if "_" not in text:
        source, _, number = text.rpartition("-")
        return {source: int(number)}
    return merged(parse(each) for each in text.split("_"))


def text_of(position: Position) -> str:
    if len(position) > MOST:
        position = ONLY_PRIMARY
    return "_".join(f"{source}-{number}" for source, number in sorted(position.items()))


def merged(positions: Iterable[Position]) -> Position:
    """The position that covers all of these, and no more than needed."""
    found: Position = {}
    for position in positions:
        for source, number in position.items():
            if number > found.get(source, -1):
                found[source] = number
    return found


class Needed(Position):
    """A position that a client needs to see."""

    everywhere = False
    """Whether each replica is known to have it. Then nobody needs to know it any more."""


def covers(reached: Position, needed: Position) -> bool:
    """Whether a server that has reached the one position has all that the other one needs."""
    for source, number in needed.items():  # noqa: SIM110 - all() takes three times as long
        if reached.get(source, -1) < number:
            return False
    return True
