"""The statistics of several processes as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import fields, replace
from typing import Any

from ..pool.durations import Durations
from ..pool.stats import Stats

NOW = ("limit", "open", "idle", "leased", "waiting", "holders", "waiters", "events")
"""The fields that tell of the present, and end with the process; all other numbers are sums."""


def empty(name: str) -> Stats:
    """The statistics of a pool that has done nothing yet."""
    made: dict[str, Any] = {
        field.name: {"float": 0.0, "dict[str, int]": {}, "Durations": Durations()}.get(str(field.type), 0)
        for field in fields(Stats)
    }
    return Stats(**{**made, "name": name, "limit": None, "holders": (), "waiters": (), "events": ()})


def departed(stats: Stats) -> Stats:
    """What remains of the statistics of a process that has ended: its sums."""
    nothing = empty(stats.name)
    return replace(stats, pid=0, **{name: getattr(nothing, name) for name in NOW})


def total(name: str, each: Iterable[Stats]) -> Stats:
    """The sums over several processes. Its `pid` is 0, and its `limit` None if one of them has no limit."""
    rows = list(each)
    alive = [stats for stats in rows if stats.pid]
    limits = [stats.limit for stats in alive]
    added = {
        field.name: _sum([getattr(stats, field.name) for stats in rows], getattr(empty(name), field.name))
        for field in fields(Stats)
        if field.name not in ("name", "pid", "limit")
    }
    limit = None if None in limits or not limits else sum(filter(None, limits))
    summed = Stats(name=name, pid=0, limit=limit, **added)
    return replace(
        summed,
        holders=tuple(sorted(summed.holders, key=lambda holder: -holder.seconds)),
        waiters=tuple(sorted(summed.waiters, key=lambda waiter: -waiter.seconds)),
        events=tuple(sorted(summed.events, key=lambda event: -event.seconds)),
    )


def _sum(values: list[Any], start: Any) -> Any:
    if isinstance(start, dict):
        counted: Counter[str] = Counter()
        for value in values:
            counted.update(value)
        return dict(counted)
    return sum(values, start)
