"""Part 4: whether it costs more with more of everything: connections, threads, Databases; and what importing costs.

    python benchmarks/scale.py [--rounds 200]

On SQLite in files, so that a thousand connections are no server's matter.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from checkout import Operation, checkout, fastest
from figures import table, verdict
from wsgidb import Database

SIZES = (10, 100, 1000)


def pool_of(size: int, url: str, stack: ExitStack) -> Database:
    """A pool with that many connections at rest."""
    made = stack.enter_context(Database(url, strategy="pooled", pool_size=size))
    with ExitStack() as all_of_them:
        for _ in range(size):
            all_of_them.enter_context(made.connection())
    return made


def threads_of(size: int, url: str, stack: ExitStack) -> Database:
    """A connection for each of that many threads that live."""
    made = stack.enter_context(Database(url, strategy="thread-local"))
    over, ready = threading.Event(), threading.Barrier(size + 1)

    def work() -> None:
        with made.connection():
            pass
        ready.wait(60)
        over.wait()

    threads = [threading.Thread(target=work) for _ in range(size)]
    for thread in threads:
        thread.start()
    ready.wait(60)
    for thread in threads:
        stack.callback(thread.join)
    stack.callback(over.set)
    return made


def own_memory(url: str, count: int = 200) -> float:
    """Bytes of wsgidb's own for each idle connection, as tracemalloc sees them; the driver's are not its own."""
    with ExitStack() as stack:
        pool_of(10, url, stack)  # what is allocated but once
        tracemalloc.start()
        try:
            pool_of(count, url, stack)
            snapshot = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
    kept = (line for line in snapshot.statistics("filename") if _is_ours(line.traceback[0].filename))
    return sum(line.size for line in kept) / count


def _is_ours(filename: str) -> bool:
    path = Path(filename)
    return "wsgidb" in path.parts and "drivers" not in path.parts


def import_time() -> float:
    """ms that importing wsgidb takes, the fastest of ten."""
    program = "import time; t = time.perf_counter(); import wsgidb; print((time.perf_counter() - t) * 1000)"
    return min(float(subprocess.check_output([sys.executable, "-c", program], text=True)) for _ in range(10))


def measure(rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        url = f"sqlite:///{directory}/city.sqlite3"
        operations: dict[str, Operation] = {}
        for size in SIZES:
            operations[f"pooled {size}"] = checkout(pool_of(size, url, stack))
            operations[f"thread-local {size}"] = checkout(threads_of(size, url, stack))
        operations["10 Databases"] = checkout([pool_of(10, url, stack) for _ in range(10)][-1])
        costs = fastest(operations, rounds)
        memory = own_memory(url)
    return {"costs": costs, "memory": memory, "import": import_time()}


def report(figures: dict[str, Any]) -> str:
    costs = figures["costs"]
    head = ["acquire + release, µs", *map(str, SIZES), "× from 10 to 1,000"]
    rows = []
    for strategy in ("pooled", "thread-local"):
        cells = [f"{costs[f'{strategy} {size}']:.2f}" for size in SIZES]
        rows.append([strategy, *cells, f"{growth(costs, strategy):.2f}"])
    rest = [
        f"One of 10 Databases side by side: {costs['10 Databases']:.2f} µs.",
        f"Memory of wsgidb's own for each idle connection: {figures['memory']:.0f} bytes.",
        f"Importing wsgidb: {figures['import']:.0f} ms.",
    ]
    return f"{table(head, rows)}\n\n" + "\n".join(rest)


def growth(costs: dict[str, float], strategy: str) -> float:
    return costs[f"{strategy} {SIZES[-1]}"] / costs[f"{strategy} {SIZES[0]}"]


def targets(figures: dict[str, Any]) -> list[str]:
    costs = figures["costs"]
    lines = [
        verdict(f"{strategy}: cost of an acquire from 10 to 1,000 connections, ×", growth(costs, strategy), most=1.2)
        for strategy in ("pooled", "thread-local")
    ]
    return [*lines, verdict("bytes of wsgidb's own for each idle connection", figures["memory"], most=1024)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    figures = measure(parser.parse_args().rounds)
    print(report(figures))
    print("\n".join(targets(figures)))


if __name__ == "__main__":
    main()
