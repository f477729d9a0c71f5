"""The metrics, whatever they are exported to: each with the values that it has of a snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from ..pool.durations import Durations
from ..pool.stats import Stats

POOL, STATE, REASON = "db.client.connection.pool.name", "db.client.connection.state", "wsgidb.reason"
POOLS = "db.client.connection"
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""Bounds of histograms in seconds, as the conventions advise for durations of a database's client."""

Values = Iterable[tuple[float, dict[str, str]]]
"""Values with the attributes that they have beside the pool's name."""

NOW, TOTAL = "up_down_counter", "counter"


class Instrument(NamedTuple):
    """A metric with a current value (NOW), or one that only grows (TOTAL)."""

    kind: str
    name: str
    unit: str
    text: str
    values: Callable[[Stats], Values]


class Times(NamedTuple):
    """A histogram of durations in seconds."""

    name: str
    text: str
    values: Callable[[Stats], Durations]


def _one(value: float) -> Values:
    return [(value, {})]


def _limit(stats: Stats) -> Values:
    return [] if stats.limit is None else _one(stats.limit)


def _by_state(stats: Stats) -> Values:
    return [(stats.idle, {STATE: "idle"}), (stats.leased, {STATE: "used"})]


def _by_reason(counts: dict[str, int]) -> Values:
    return [(count, {REASON: reason}) for reason, count in counts.items()]


INSTRUMENTS = (
    Instrument(NOW, f"{POOLS}.count", "{connection}", "Connections by state.", _by_state),
    Instrument(NOW, f"{POOLS}.max", "{connection}", "The most connections there may be.", _limit),
    Instrument(NOW, f"{POOLS}.idle.max", "{connection}", "The most idle connections there may be.", _limit),
    Instrument(NOW, f"{POOLS}.idle.min", "{connection}", "The fewest idle connections kept.", lambda _: _one(0)),
    Instrument(NOW, f"{POOLS}.pending_requests", "{request}", "Waiting requests.", lambda s: _one(s.waiting)),
    Instrument(TOTAL, f"{POOLS}.timeouts", "{timeout}", "Requests that waited in vain.", lambda s: _one(s.timeouts)),
    Instrument(TOTAL, "wsgidb.refusals", "{request}", "Refused, as too many were waiting.", lambda s: _one(s.refusals)),
    Instrument(TOTAL, "wsgidb.connects", "{connection}", "Connections opened.", lambda s: _one(s.connects)),
    Instrument(
        *(TOTAL, "wsgidb.connect_failures", "{failure}", "Failures to open one.", lambda s: _one(s.connect_failures))
    ),
    Instrument(TOTAL, "wsgidb.discards", "{connection}", "Closed as bad.", lambda s: _by_reason(s.discards)),
    Instrument(TOTAL, "wsgidb.retirements", "{connection}", "Closed as old.", lambda s: _by_reason(s.retirements)),
    Instrument(TOTAL, "wsgidb.lost_transactions", "{transaction}", "Ended by the server.", lambda s: _one(s.lost)),
    Instrument(
        *(TOTAL, "wsgidb.uncommitted_writes", "{request}", "Rolled back at the end.", lambda s: _one(s.rolled_back))
    ),
    Instrument(TOTAL, "wsgidb.retries", "{request}", "Repeated requests.", lambda s: _one(s.retries)),
    Instrument(TOTAL, "wsgidb.open_time", "s", "Connection-seconds open.", lambda s: _one(s.seconds_open)),
    Instrument(TOTAL, "wsgidb.dead_time", "s", "Not leased.", lambda s: _one(s.seconds_open - s.seconds_leased)),
    Instrument(
        *(TOTAL, "wsgidb.held_idle_time", "s", "Leased, but executing nothing."),
        lambda s: _one(s.seconds_leased - s.seconds_executing),
    ),
    Instrument(TOTAL, "wsgidb.busy_time", "s", "Executing a statement.", lambda s: _one(s.seconds_executing)),
    Instrument(TOTAL, "wsgidb.statements", "{statement}", "Handlers' statements.", lambda s: _one(s.statements)),
    Instrument(TOTAL, "wsgidb.errors", "{error}", "Statements that failed.", lambda s: _one(s.errors)),
)
"""The conventions' first, then wsgidb's own."""

TIMES = (
    Times(f"{POOLS}.create_time", "The time it took to create a new connection.", lambda s: s.create_times),
    Times(f"{POOLS}.wait_time", "The time it took to obtain a connection.", lambda s: s.wait_times),
    Times(f"{POOLS}.use_time", "The time between obtaining a connection and returning it.", lambda s: s.use_times),
)
"""All of them are the conventions'."""
