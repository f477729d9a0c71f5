"""How much a pool has to do: given by the user, or measured from a board."""

from __future__ import annotations

from dataclasses import dataclass

from ..observe.rows import Row
from ..observe.sources import Pool

SHORT = 60.0
"""Seconds that a measurement should last at least."""


@dataclass(frozen=True)
class Load:
    """Requests that take connections, and how long they use them."""

    rate: float
    """How many requests per second take a connection, in all processes together."""
    use: float
    """How many seconds a request uses its connection, on average."""

    @property
    def in_use(self) -> float:
        """How many connections are in use on average, by Little's law."""
        return self.rate * self.use

    def part(self, processes: int) -> Load:
        """The load of one of several processes that share it evenly."""
        return Load(self.rate / processes, self.use)


@dataclass(frozen=True)
class Measured:
    """What the processes of a board have done in the latest minutes."""

    load: Load
    """The load of all together."""
    busiest: float
    """How many connections the process with the most of them had in use on average."""
    processes: int
    """How many processes are alive."""
    sizes: list[int | None]
    """How many connections a process may have; more than one number if they differ, None for no limit."""
    seconds: float
    """How long the longest of them has been measured."""
    saturated: bool
    """Whether the pool is so busy that it may have kept requests from coming."""


def measured(pool: Pool) -> Measured | None:
    """The load of a pool; None if no lease has begun and ended in the latest minutes."""
    leases = [row.recent.use_times for row in pool.rows]
    ended = sum(durations.count for durations in leases)
    rates = [_rate(row) for row in pool.rows]
    if not ended or not sum(rates):
        return None
    load = Load(sum(rates), sum(durations.seconds for durations in leases) / ended)
    limit = pool.now.limit
    return Measured(
        load,
        max(rates) * load.use,
        len(pool.rows),
        sorted({row.stats.limit for row in pool.rows}, key=lambda size: size or 0),
        pool.recent.seconds,
        pool.now.waiting > 0 or (limit is not None and load.in_use > 0.8 * limit),
    )


def _rate(row: Row) -> float:
    """How many leases per second have begun in a process. Since its row was written, none has; and the first one counts
    for a whole second, as a process is measured from it on."""
    return row.recent.wait_times.count / max(1.0, row.recent.seconds + row.age)
