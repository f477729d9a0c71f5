"""Part 4: whether costs grow with the number of connections, threads and Databases; and what importing wsgidb costs.

    python benchmarks/growth.py [--rounds 200]

Times are measured on SQLite files, so that no server has to bear a thousand connections; memory is measured with
PyMySQL.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import tempfile
import threading
import tracemalloc
from collections.abc import Callable
from contextlib import ExitStack
from itertools import cycle
from typing import Any

from checkout import Operation, checkout, fastest
from figures import Target, judged, table
from peers import Driver
from serving import database
from wsgidb import Database

SIZES = (10, 100, 1000)


def pool_of(size: int, url: str, stack: ExitStack, **options: Any) -> Database:
    """Make a pool with that many idle connections."""
    made = stack.enter_context(Database(url, strategy="pooled", pool_size=size, **options))
    with ExitStack() as all_of_them:
        for _ in range(size):
            all_of_them.enter_context(made.connection())
    return made


def threads_of(size: int, url: str, stack: ExitStack) -> Database:
    """Make a connection for each of that many live threads."""
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


def own_memory(server: Any, count: int = 200) -> float:
    """The bytes that wsgidb needs for each idle connection: the memory of a pool, less that of plain connections."""
    url = server.url()
    driver = Driver("pymysql", url)
    with ExitStack() as stack:

        def plain() -> list[Any]:
            return [driver.module.connect(**driver.arguments(False)) for _ in range(count)]

        def pool() -> Database:
            return pool_of(count, f"{url}?charset=utf8mb4", stack, ssl_mode="disabled")

        (plain(), pool())  # so that what is allocated only once does not count
        theirs, ours = traced(plain), traced(pool)
    return (ours - theirs) / count


def traced(make: Callable[[], object]) -> int:
    """The bytes that are allocated while the objects are made, and are in use as long as they are kept."""
    gc.collect()
    tracemalloc.start()
    try:
        made = make()
        gc.collect()
        found = tracemalloc.get_traced_memory()[0]
        del made
        return found
    finally:
        tracemalloc.stop()


def import_time() -> float:
    """The time that importing wsgidb takes, in ms; the fastest of ten."""
    program = "import time; t = time.perf_counter(); import wsgidb; print((time.perf_counter() - t) * 1000)"
    return min(float(subprocess.check_output([sys.executable, "-c", program], text=True)) for _ in range(10))


def in_turn(operations: list[Operation]) -> Operation:
    following = cycle(operations).__next__
    return lambda: following()()


def measure(rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        url = f"sqlite:///{directory}/city.sqlite3"
        operations: dict[str, Operation] = {}
        for size in SIZES:
            operations[f"pooled {size}"] = checkout(pool_of(size, url, stack))
            operations[f"thread-local {size}"] = checkout(threads_of(size, url, stack))
        operations["10 Databases"] = in_turn([checkout(pool_of(10, url, stack)) for _ in range(10)])
        costs = fastest(operations, rounds)
    with database() as server:
        memory = own_memory(server)
    return {"costs": costs, "memory": memory, "import": import_time()}


def report(figures: dict[str, Any]) -> str:
    costs = figures["costs"]
    head = ["acquire + release, µs", *map(str, SIZES), "× from 10 to 1,000"]
    rows = []
    for strategy in ("pooled", "thread-local"):
        cells = [f"{costs[f'{strategy} {size}']:.2f}" for size in SIZES]
        rows.append([strategy, *cells, f"{growth(costs, strategy):.2f}"])
    rest = [
        f"10 Databases side by side, each in turn: {costs['10 Databases']:.2f} µs.",
        f"Memory of wsgidb's own for each idle connection: {figures['memory']:.0f} bytes.",
        f"Importing wsgidb: {figures['import']:.0f} ms.",
    ]
    return f"{table(head, rows)}\n\n" + "\n".join(rest)


def growth(costs: dict[str, float], strategy: str) -> float:
    return costs[f"{strategy} {SIZES[-1]}"] / costs[f"{strategy} {SIZES[0]}"]


def targets(figures: dict[str, Any]) -> list[Target]:
    costs = figures["costs"]
    lines = [
        Target(f"{strategy}: cost of an acquire from 10 to 1,000 connections, ×", growth(costs, strategy), most=1.2)
        for strategy in ("pooled", "thread-local")
    ]
    return [*lines, Target("bytes of wsgidb's own for each idle connection", figures["memory"], most=1024)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=200)
    figures = measure(parser.parse_args().rounds)
    print(report(figures))
    print(judged(targets(figures)))


if __name__ == "__main__":
    main()
