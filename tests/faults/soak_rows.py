"""The table of a soak: its faults, what clients may be told of each, and what came of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

LOST = frozenset({"error 1053", "error 1317", "error 1927", "error 2006", "error 2013"})
"""What a statement may say whose connection is lost, or is about to be."""


@dataclass(frozen=True)
class Fault:
    """Something that is done to a server or its network, and what clients may be told of it."""

    do: Callable[[Any], Any]
    lost: int
    """Requests that may be lost: those in flight."""
    may: frozenset[str] = frozenset()
    """Other kinds of error, any number of them."""
    told: frozenset[str] = LOST
    """What is told of those that are lost."""

    @property
    def name(self) -> str:
        return self.do.__name__.replace("_", " ")

    def allows(self, errors: Counter[str]) -> bool:
        lost = sum(errors[kind] for kind in self.told)
        return lost <= self.lost and (+errors).keys() <= self.told | self.may


@dataclass
class Row:
    """What came of one kind of fault."""

    fault: str
    times: int = 0
    requests: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    longest_stall: float = 0.0
    recovery: float = 0.0
    """The longest time from the fault's end until a request was served again."""
    leaked: int = 0
    """Leases without a request, and sessions that the server has and the Database does not."""
    lost: int = 0
    """Payments that were confirmed and are not there, are there twice, or are there though they were refused."""
