"""Queues in front of a pool: how many requests wait, and for how long, if they arrive independently of each other.

A pool is what queueing theory calls M/M/c: random arrivals, random use times, c connections, one queue. Little's law
gives the load: arrivals per second × seconds of use = connections in use on average. Erlang's formulas give the rest:
https://en.wikipedia.org/wiki/Erlang_(unit)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

MOST = 100_000
"""The most connections that a pool can have."""


@dataclass(frozen=True)
class Queue:
    """What is to be expected of a pool of this size."""

    connections: int
    """How many connections it has."""
    wait_share: float
    """The share of requests that find no free connection: from 0 to 1."""
    mean_wait: float | None
    """How many seconds a request waits on average, those included that do not wait; None if the load is more than the
    connections can bear, so that waiting times grow without end."""


def queue(load: float, use: float, connections: int) -> Queue:
    """A pool of that many connections, of which `load` would be in use on average, each for `use` seconds."""
    return next(islice(_queues(load, use), connections - 1, None))


def smallest(load: float, use: float, wait_share: float | None, mean_wait: float | None) -> Queue | None:
    """The smallest pool that keeps both targets, of which None is no target; None if MOST connections do not."""
    for found in islice(_queues(load, use), MOST):
        if (
            found.mean_wait is not None
            and (wait_share is None or found.wait_share <= wait_share)
            and (mean_wait is None or found.mean_wait <= mean_wait)
        ):
            return found
    return None


def _queues(load: float, use: float) -> Iterator[Queue]:
    """Pools of one connection, two, three and so on.

    `lost` is Erlang B: the share of requests that would be lost if nobody could wait. Its recursion has neither
    factorials nor powers, and each term is positive, so that nothing overflows and no digits are cancelled."""
    lost = 1.0
    for connections in count(1):
        lost = load * lost / (connections + load * lost)
        if connections <= load:
            yield Queue(connections, 1.0, None)
        else:
            free = connections - load
            share = lost * connections / (free + load * lost)  # Erlang C
            yield Queue(connections, share, share * use / free)
