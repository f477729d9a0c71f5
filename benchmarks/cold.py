"""What a lease costs between other work, when its code and data are no longer in the processor's caches.

    python benchmarks/cold.py [--rounds 3000]

Acquire and release are timed twice: hot, in a loop that does nothing else; and cold, with a query in between, during
which the database's process uses the processor. The medians are printed, in µs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from figures import table
from peers import SELECT
from serving import database
from wsgidb import Database

STRATEGIES: tuple[Any, ...] = ("pooled", "thread-local")


def query(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.execute(SELECT, ("london",))
    cursor.close()


def measure(made: Database, between: Callable[[Any], object], rounds: int) -> list[float]:
    """The times of an acquire and of a release, in µs."""
    engine = made._engine
    acquires, releases = [], []
    for _ in range(rounds):
        began = perf_counter()
        slot = engine.acquire()
        acquired = perf_counter()
        between(slot.raw)
        ending = perf_counter()
        engine.release(slot)
        releases.append(perf_counter() - ending)
        acquires.append(acquired - began)
    return [median(acquires) * 1e6, median(releases) * 1e6]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=3000)
    rounds = parser.parse_args().rounds
    rows = []
    with database() as server:
        for strategy in STRATEGIES:
            with Database(server.url(), strategy=strategy, transaction="autocommit", ssl_mode="disabled") as made:
                hot, cold = measure(made, id, rounds), measure(made, query, rounds)
            rows.append([strategy, *(f"{figure:.1f}" for figure in hot + cold)])
    print(table(["µs", "acquire, hot", "release, hot", "acquire, cold", "release, cold"], rows))


if __name__ == "__main__":
    main()
