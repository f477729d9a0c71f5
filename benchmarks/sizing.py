"""Part 6: how many connections? Measures dead connection time and waiting, by the size of the pool and the load.

    python benchmarks/sizing.py [--seconds 2]

Requests arrive whether or not earlier ones have ended, and each holds a connection for a statement of 4 ms. The figures
are the share of the open connections' time in which nobody used them, and the 99th percentile of the time from a
request's arrival until it has a connection. Each source is under its load for a second before anything is counted.
"""

from __future__ import annotations

import argparse
import queue
import threading
import time
from collections.abc import Callable, Iterator
from statistics import quantiles
from typing import Any

from figures import table
from serving import database
from wsgidb import Database

THREADS = 32
HOLD = "DO SLEEP(0.004)"
SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24)
Arrivals = Callable[[float], Iterator[float]]


def evenly(rate: float) -> Arrivals:
    return lambda seconds: (number / rate for number in range(int(seconds * rate)))


def bursts(size: int, every: float) -> Arrivals:
    return lambda seconds: (number * every for number in range(int(seconds / every)) for _ in range(size))


LOADS = {
    "steady: 400 a second": (evenly(400), 1),
    "bursty: 24 at once, every 0.1 s": (bursts(24, 0.1), 1),
    "sparse: 20 a second": (evenly(20), 4),
}
"""When requests arrive, and the factor by which a load lasts longer so that there are enough requests."""


def run(made: Database, arrivals: Arrivals, seconds: float, warm_up: float) -> tuple[float, float]:
    """The dead connection time, and the 99th percentile of waiting in ms."""
    waits: list[float] = []
    line: queue.SimpleQueue[float | None] = queue.SimpleQueue()

    def work() -> None:
        while (arrived := line.get()) is not None:
            with made.connection() as conn:
                waits.append(time.perf_counter() - arrived)
                conn.cursor().execute(HOLD)

    def offer(seconds: float) -> None:
        began = time.perf_counter()
        for moment in arrivals(seconds):
            time.sleep(max(0.0, began + moment - time.perf_counter()))
            line.put(time.perf_counter())
        time.sleep(max(0.0, began + seconds - time.perf_counter()))

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    offer(warm_up)
    waits.clear()
    before = made.stats()
    offer(seconds)
    for _ in threads:
        line.put(None)
    for thread in threads:
        thread.join()
    after = made.stats()
    leased, opened = after.seconds_leased - before.seconds_leased, after.seconds_open - before.seconds_open
    return 1 - leased / opened, quantiles(waits, n=100, method="inclusive")[98] * 1000


def measure(url: str, seconds: float) -> dict[str, dict[str, tuple[float, float]]]:
    """The figures of `run`, by load and source."""
    sources: dict[str, dict[str, Any]] = {f"pooled {size}": {"pool_size": size} for size in SIZES}
    sources |= {strategy: {"strategy": strategy} for strategy in ("thread-local", "per-request")}
    figures: dict[str, dict[str, tuple[float, float]]] = {}
    for load, (arrivals, times) in LOADS.items():
        figures[load] = {}
        for name, options in sources.items():
            with Database(url, transaction="autocommit", acquire_timeout=60, queue_target=None, **options) as made:
                figures[load][name] = run(made, arrivals, seconds * times, seconds / 2)
    return figures


def report(figures: dict[str, dict[str, tuple[float, float]]]) -> str:
    head = ["dead connection time, p99 of waiting", *figures]
    rows = [
        [name, *(f"{found[name][0]:.0%}, {found[name][1]:.1f} ms" for found in figures.values())]
        for name in next(iter(figures.values()))
    ]
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=2.0)
    with database() as server:
        print(report(measure(server.url(), parser.parse_args().seconds)))


if __name__ == "__main__":
    main()
