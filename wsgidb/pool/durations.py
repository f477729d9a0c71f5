"""How long something took, each time: counts in fixed buckets, which add up over connections and processes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import add, sub

STEPS = (1, 1.3, 1.6, 2, 2.5, 3.2, 4, 5, 6.3, 8)
BOUNDS = (*(float(f"{step}e{power}") for power in range(-5, 3) for step in STEPS), 1e3)
"""The upper bounds of the buckets, in seconds: ten for each power of ten, from 10 µs to 1000 s. One more bucket has
what took longer."""

BUCKETS = len(BOUNDS) + 1


@dataclass(frozen=True)
class Durations:
    """How often something happened, and how long it took."""

    counts: tuple[int, ...] = (0,) * BUCKETS
    """How many durations there were in each bucket of BOUNDS."""
    seconds: float = 0.0
    """Their sum."""

    @property
    def count(self) -> int:
        """How many durations there were."""
        return sum(self.counts)

    def at_most(self, bound: float) -> int:
        """How many of them were not longer than `bound`, which is one of BOUNDS."""
        return sum(self.counts[: bisect_left(BOUNDS, bound) + 1])

    def quantile(self, share: float) -> float | None:
        """The number of seconds that this share of them did not exceed, to the bucket's upper bound; None if there were
        none. What took longer than the last bound counts as the last bound."""
        rank = share * self.count
        for bound, reached in zip((*BOUNDS, BOUNDS[-1]), _cumulative(self.counts), strict=True):
            if reached and reached >= rank:
                return bound
        return None

    def __add__(self, other: Durations) -> Durations:
        return Durations(tuple(map(add, self.counts, other.counts)), self.seconds + other.seconds)

    def __sub__(self, earlier: Durations) -> Durations:
        """What was added since then. Never negative, as a snapshot may miss what just happens."""
        counts = tuple(max(0, each) for each in map(sub, self.counts, earlier.counts))
        return Durations(counts, max(0.0, self.seconds - earlier.seconds))

    def values(self) -> Iterator[tuple[float, int]]:
        """Each bucket's count with one duration of that bucket, such that all of them together have the true sum."""
        buckets = zip((0.0, *BOUNDS), (*BOUNDS, self.seconds), self.counts, strict=True)
        edges = [bucket for bucket in buckets if bucket[2]]
        least = sum(low * n for low, _, n in edges)
        room = sum((high - low) * n for low, high, n in edges)
        share = min(1.0, max(0.0, (self.seconds - least) / room)) if room else 0.0
        for low, high, n in edges:
            yield low + share * (high - low), n


def _cumulative(counts: Iterable[int]) -> Iterator[int]:
    reached = 0
    for count in counts:
        reached += count
        yield reached


class DurationCounter:
    """Collects durations. Its caller holds a lock, or is the only one who adds."""

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one duration."""
        self.counts[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def merge(self, counts: Iterable[int], seconds: float) -> None:
        """Count what another one has collected."""
        self.counts[:] = map(add, self.counts, counts)
        self.seconds += seconds

    def snapshot(self) -> Durations:
        """What was collected so far."""
        return Durations(tuple(self.counts), self.seconds)
