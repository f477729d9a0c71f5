"""Metrics of a Database for OpenTelemetry: the semantic conventions' for connection pools, and wsgidb's own.

Conventions: https://opentelemetry.io/docs/specs/semconv/database/database-metrics/#connection-pools. All values come
from `Database.stats` when they are collected, those of the histograms, too: a request does nothing for them.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version

from opentelemetry.metrics import CallbackOptions, Histogram, Observation, get_meter

from ..pool.durations import Durations
from ..pool.stats import Stats
from .instruments import BUCKETS, INSTRUMENTS, POOL, TIMES, Instrument

log = logging.getLogger("wsgidb")


class Pool:
    """What the instruments know of one Database, which they do not keep alive."""

    def __init__(self, name: str, stats: Callable[[], Stats]) -> None:
        self.attributes = {POOL: name}
        self.stats = weakref.WeakMethod(stats)
        self._lock = threading.Lock()  # guards the two below: several readers may collect at a time
        self._pid = 0
        self._recorded: dict[str, Durations] = {}

    def record(self, stats: Stats, histograms: dict[str, Histogram]) -> None:
        """Record the durations since the last collection. A histogram takes them one by one."""
        with self._lock:
            if self._pid != stats.pid:  # what came before was recorded by the parent of this process
                self._pid, self._recorded = stats.pid, {}
            for times in TIMES:
                now = times.values(stats)
                new = now - self._recorded.get(times.name, Durations())
                self._recorded[times.name] = self._recorded.get(times.name, Durations()) + new
                for seconds, count in new.values():
                    for _ in range(count):
                        histograms[times.name].record(seconds, self.attributes)


_lock = threading.Lock()  # guards the two below
_pools: list[Pool] = []
_registered = False


def register(name: str, stats: Callable[[], Stats]) -> None:
    """Let the metrics of a Database be collected. `stats` is its bound method.

    The first one creates the instruments, with the meter provider that is set now or later: an instrument exists once
    in a process."""
    global _registered
    with _lock:
        _pools[:] = [pool for pool in _pools if pool.stats() is not None]
        _pools.append(Pool(name, stats))
        if not _registered:
            _create_instruments()
            _registered = True


def _create_instruments() -> None:
    meter = get_meter("wsgidb", version("wsgidb"))
    histograms = {
        times.name: meter.create_histogram(
            times.name, unit="s", description=times.text, explicit_bucket_boundaries_advisory=BUCKETS
        )
        for times in TIMES
    }
    for instrument in INSTRUMENTS:
        create = getattr(meter, f"create_observable_{instrument.kind}")
        create(instrument.name, [partial(_observe, instrument, histograms)], instrument.unit, instrument.text)


def _observe(
    instrument: Instrument, histograms: dict[str, Histogram], _: CallbackOptions
) -> Iterable[Observation]:
    """One instrument's values of all Databases; what fails is logged, and never raised into the application's SDK."""
    found = []
    for pool in list(_pools):
        try:
            ask = pool.stats()
            if ask is not None:
                stats = ask()
                pool.record(stats, histograms)
                found += [Observation(value, {**pool.attributes, **more}) for value, more in instrument.values(stats)]
        except Exception:
            log.exception("metrics: %s of %s cannot be read", instrument.name, pool.attributes[POOL])
    return found
