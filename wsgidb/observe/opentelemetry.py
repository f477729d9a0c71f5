"""Metrics of a Database for OpenTelemetry: the semantic conventions' for connection pools, and wsgidb's own.

Conventions: https://opentelemetry.io/docs/specs/semconv/database/database-metrics/#connection-pools. The counts come
from `Database.stats` when they are collected. So do the histograms: their durations are noted in the request, which
takes 0.03 µs each, and recorded at the next collection.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from typing import NamedTuple

from opentelemetry.metrics import CallbackOptions, Histogram, Meter, Observation, get_meter

from ..pool.stats import Stats
from .durations import Timings

log = logging.getLogger("wsgidb")

POOL, STATE = "db.client.connection.pool.name", "db.client.connection.state"
BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10)
"""Bounds in seconds, as the conventions advise for durations of a database's client."""

Values = Iterable[tuple[float, dict[str, str]]]
"""Values with the attributes that they have beside the pool's name."""


class Pool:
    """What the instruments know of one Database, which they do not keep alive."""

    def __init__(self, name: str, most: int | None, stats: Callable[[], Stats], timings: Timings) -> None:
        self.attributes = {POOL: name}
        self.most = most
        self.timings = timings
        self._stats = weakref.WeakMethod(stats)

    def stats(self) -> Stats | None:
        """The Database's snapshot; None when it is gone."""
        ask = self._stats()
        return None if ask is None else ask()


_lock = threading.Lock()  # guards the two below
_pools: list[Pool] = []
_registered = False


def register(name: str, most: int | None, stats: Callable[[], Stats], timings: Timings) -> None:
    """Let the metrics of a Database be collected. `stats` is its bound method, and `most` the size of its pool.

    The first one creates the instruments, with the meter provider that is set now or later: an instrument exists once
    in a process. Of two Databases with the same name the second one gets a number."""
    global _registered
    with _lock:
        _pools[:] = [pool for pool in _pools if pool.stats() is not None]
        taken = {pool.attributes[POOL] for pool in _pools}
        names = (name, *(f"{name}#{number}" for number in range(2, len(taken) + 2)))
        _pools.append(Pool(next(free for free in names if free not in taken), most, stats, timings))
        if not _registered:
            _create_instruments()
            _registered = True


def _create_instruments() -> None:
    meter = get_meter("wsgidb", version("wsgidb"))
    histograms = [
        (_histogram(meter, "create_time", "The time it took to create a new connection."), "create"),
        (_histogram(meter, "wait_time", "The time it took to obtain a connection."), "wait"),
        (_histogram(meter, "use_time", "The time between obtaining a connection and returning it."), "use"),
    ]

    def record(pool: Pool) -> None:
        for histogram, kind in histograms:
            for seconds in getattr(pool.timings, kind).take():
                histogram.record(seconds, pool.attributes)

    for instrument in INSTRUMENTS:
        create = getattr(meter, f"create_observable_{instrument.kind}")
        create(instrument.name, [partial(_observe, instrument, record)], instrument.unit, instrument.text)


def _histogram(meter: Meter, name: str, text: str) -> Histogram:
    return meter.create_histogram(
        f"db.client.connection.{name}", unit="s", description=text, explicit_bucket_boundaries_advisory=BUCKETS
    )


def _observe(instrument: Instrument, record: Callable[[Pool], None], _: CallbackOptions) -> Iterable[Observation]:
    """One instrument's values of all Databases; what fails is logged, and never raised into the application's SDK."""
    found = []
    for pool in list(_pools):
        try:
            record(pool)
            stats = pool.stats()
            if stats is not None:
                values = instrument.values(stats, pool.most)
                found += [Observation(value, {**pool.attributes, **more}) for value, more in values]
        except Exception:
            log.exception("metrics: %s of %s cannot be read", instrument.name, pool.attributes[POOL])
    return found


class Instrument(NamedTuple):
    """An instrument whose values come from `Stats`, and the pool's size, when it is collected."""

    kind: str
    name: str
    unit: str
    text: str
    values: Callable[[Stats, int | None], Values]


def _one(value: float) -> Values:
    return [(value, {})]


def _most(stats: Stats, most: int | None) -> Values:
    return [] if most is None else _one(most)


def _by_state(stats: Stats, most: int | None) -> Values:
    return [(stats.idle, {STATE: "idle"}), (stats.leased, {STATE: "used"})]


def _by_reason(counts: dict[str, int]) -> Values:
    return [(count, {"wsgidb.reason": reason}) for reason, count in counts.items()]


NOW, TOTAL = "up_down_counter", "counter"
POOLS = "db.client.connection"
INSTRUMENTS = (
    Instrument(NOW, f"{POOLS}.count", "{connection}", "Connections by state.", _by_state),
    Instrument(NOW, f"{POOLS}.max", "{connection}", "The most connections there may be.", _most),
    Instrument(NOW, f"{POOLS}.idle.max", "{connection}", "The most idle connections there may be.", _most),
    Instrument(NOW, f"{POOLS}.idle.min", "{connection}", "The fewest idle connections kept.", lambda s, _: _one(0)),
    Instrument(NOW, f"{POOLS}.pending_requests", "{request}", "Waiting requests.", lambda s, _: _one(s.waiting)),
    Instrument(TOTAL, f"{POOLS}.timeouts", "{timeout}", "Requests that waited in vain.", lambda s, _: _one(s.timeouts)),
    Instrument(TOTAL, "wsgidb.refusals", "{request}", "Refused because of max_waiting.", lambda s, _: _one(s.refusals)),
    Instrument(TOTAL, "wsgidb.connects", "{connection}", "Connections opened.", lambda s, _: _one(s.connects)),
    Instrument(TOTAL, "wsgidb.connect_failures", "{failure}", "Failed ones.", lambda s, _: _one(s.connect_failures)),
    Instrument(TOTAL, "wsgidb.discards", "{connection}", "Closed as bad.", lambda s, _: _by_reason(s.discards)),
    Instrument(TOTAL, "wsgidb.retirements", "{connection}", "Closed as old.", lambda s, _: _by_reason(s.retirements)),
    Instrument(TOTAL, "wsgidb.open_time", "s", "Connection-seconds open.", lambda s, _: _one(s.seconds_open)),
    Instrument(TOTAL, "wsgidb.leased_time", "s", "Connection-seconds leased.", lambda s, _: _one(s.seconds_leased)),
    Instrument(TOTAL, "wsgidb.busy_time", "s", "Connection-seconds busy.", lambda s, _: _one(s.seconds_executing)),
    Instrument(TOTAL, "wsgidb.statements", "{statement}", "Handlers' statements.", lambda s, _: _one(s.statements)),
)
"""The conventions' first, then wsgidb's own."""
