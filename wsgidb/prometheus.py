"""Metrics for Prometheus: a collector for prometheus_client (``pip install 'wsgidb[prometheus]'``).

    from prometheus_client import REGISTRY
    from wsgidb.prometheus import Collector

    REGISTRY.register(Collector(database))

The metrics are those of docs/observing.md, with names in Prometheus' style. With the option `board` every process of a
server reports the sums over all of them, so that it does not matter which one is scraped.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector as Base

from .database import Database
from .observe.instruments import BUCKETS, INSTRUMENTS, POOL, REASON, STATE, TOTAL, Instrument, Times
from .observe.instruments import TIMES as HISTOGRAMS
from .observe.sources import Pool, Source

__all__ = ["Collector"]

LABELS = {"db.client.connection.count": (STATE,), "wsgidb.discards": (REASON,), "wsgidb.retirements": (REASON,)}
"""The labels of a metric, beside the pool's name."""


def _plain(name: str) -> str:
    return name.replace(".", "_")


class Collector(Base):
    """Collects the metrics of a Database, and with its option `board` those of all processes.

    >>> from prometheus_client import CollectorRegistry
    >>> database = Database("sqlite:///shop.db", name="shop", pool_size=4)
    >>> registry = CollectorRegistry()
    >>> registry.register(Collector(database))
    >>> registry.get_sample_value("db_client_connection_max", {"db_client_connection_pool_name": "shop"})
    4
    """

    def __init__(self, database: Database) -> None:
        """Never blocks."""
        self._source = Source(database)

    def describe(self) -> list[Metric]:
        """Registering must not read the board: nothing is described, and nothing is collected for it."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics of now. Blocks for reading the board only."""
        pools = self._source.pools()
        for instrument in INSTRUMENTS:
            yield self._values(instrument, pools)
        for times in HISTOGRAMS:
            yield self._histogram(times, pools)
        processes = GaugeMetricFamily("wsgidb_processes", "Processes that are alive.", labels=[_plain(POOL)])
        for pool in pools:
            processes.add_metric([pool.name], len(pool.rows))
        yield processes

    @staticmethod
    def _values(instrument: Instrument, pools: list[Pool]) -> Metric:
        kind = CounterMetricFamily if instrument.kind == TOTAL else GaugeMetricFamily
        unit = "_seconds" if instrument.unit == "s" else ""
        labels = [POOL, *LABELS.get(instrument.name, ())]
        family: Metric = kind(_plain(instrument.name) + unit, instrument.text, labels=[_plain(each) for each in labels])
        for pool in pools:
            stats = pool.ever if instrument.kind == TOTAL else pool.now
            for value, more in instrument.values(stats):
                family.add_metric([pool.name, *(more[label] for label in labels[1:])], value)  # type: ignore[attr-defined]
        return family

    @staticmethod
    def _histogram(times: Times, pools: list[Pool]) -> Metric:
        family = HistogramMetricFamily(f"{_plain(times.name)}_seconds", times.text, labels=[_plain(POOL)])
        for pool in pools:
            seen = times.values(pool.ever)
            buckets = [(f"{bound:g}", float(seen.at_most(bound))) for bound in BUCKETS]
            family.add_metric([pool.name], [*buckets, ("+Inf", float(seen.count))], seen.seconds)
        return family
