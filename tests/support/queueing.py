"""A simulated server with a pool: what becomes of requests that arrive at given times, with the very rules of
`wsgidb.strategies.overload` and a queue like that of `wsgidb.strategies.pooled`. Hours pass in a second."""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from math import inf

from wsgidb.strategies.overload import Overload


def poisson(rate: float, seconds: float, seed: int = 1, start: float = 0.0) -> Iterator[float]:
    """Times at which so many requests a second arrive, independently of each other."""
    draw = random.Random(seed)
    at = start
    while (at := at + draw.expovariate(rate)) < start + seconds:
        yield at


@dataclass
class Outcome:
    """What became of the requests, each as the time of its arrival and the seconds until its answer."""

    served: list[tuple[float, float]] = field(default_factory=list)
    refused: list[tuple[float, float]] = field(default_factory=list)
    timed_out: list[tuple[float, float]] = field(default_factory=list)

    def between(self, start: float, end: float) -> Outcome:
        """Of the requests that arrived then."""
        groups = ([each for each in group if start <= each[0] < end] for group in vars(self).values())
        return Outcome(*groups)

    def percentile(self, share: float) -> float:
        """The seconds within which this share of those that were served had their answer."""
        seconds = sorted(each for _, each in self.served)
        return seconds[min(int(len(seconds) * share), len(seconds) - 1)]


class Simulation:
    """One process with so many threads and connections; further requests queue in front of the process."""

    def __init__(
        self, law: Overload, size: int, hold: float, *, threads: float = inf, timeout: float = 5.0, seed: int = 2
    ) -> None:
        """Each request holds its connection for `hold` seconds on the average, at random (exponentially), or for
        exactly so long if the seed is 0."""
        self._law, self._size, self._threads, self._timeout = law, size, threads, timeout
        self._hold, self._draw = hold, random.Random(seed) if seed else None
        self._idle, self._busy_threads = size, 0
        self._outside: deque[float] = deque()
        self._waiting: deque[tuple[float, float]] = deque()  # arrival, and when it began to wait
        self._events: list[tuple[float, int, str, float]] = []
        self._count = itertools.count()
        self.outcome = Outcome()

    def run(self, arrivals: Iterable[float]) -> Outcome:
        coming = iter(arrivals)
        arrival = next(coming, None)
        while arrival is not None or self._events:
            if arrival is not None and (not self._events or arrival <= self._events[0][0]):
                self._outside.append(arrival)
                self._enter(arrival)
                arrival = next(coming, None)
                continue
            now, _, what, began = heapq.heappop(self._events)
            if what == "release":
                self._busy_threads -= 1
                self._release(now)
                self._enter(now)
            elif self._waiting and self._waiting[0][1] == began:  # in order, as all have the same patience
                self._answer(self._waiting.popleft()[0], now, self.outcome.timed_out)
                self._enter(now)
        return self.outcome

    def _enter(self, now: float) -> None:
        while self._outside and self._busy_threads < self._threads:
            arrival = self._outside.popleft()
            self._busy_threads += 1
            if self._idle:
                self._idle -= 1
                self._serve(arrival, now)
            elif self._law.shedding and self._law.refuses(len(self._waiting), now, self._size):
                self._answer(arrival, now, self.outcome.refused)
            else:
                if not self._waiting:
                    self._law.was_empty()
                self._waiting.append((arrival, now))
                self._at(now + self._timeout, "timeout", now)

    def _serve(self, arrival: float, now: float) -> None:
        hold = self._draw.expovariate(1 / self._hold) if self._draw else self._hold
        self.outcome.served.append((arrival, now + hold - arrival))
        self._at(now + hold, "release", now)

    def _release(self, now: float) -> None:
        if not self._waiting:
            self._idle += 1
            if self._law.shedding:
                self._law.unawaited()
            return
        arrival, began = self._waiting.popleft()
        self._serve(arrival, now)
        if self._law.handed(now - began, now, self._size):
            while len(self._waiting) > self._law.places(self._size):
                self._answer(self._waiting.popleft()[0], now, self.outcome.refused)

    def _answer(self, arrival: float, now: float, group: list[tuple[float, float]]) -> None:
        self._busy_threads -= 1
        group.append((arrival, now - arrival))

    def _at(self, when: float, what: str, began: float) -> None:
        heapq.heappush(self._events, (when, next(self._count), what, began))
