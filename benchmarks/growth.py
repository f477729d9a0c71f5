"""Part 4: whether costs grow with the number of connections, threads and Databases; and what importing wsgidb costs.

    python benchmarks/growth.py [--rounds 200]

Times are measured on connections that do nothing; memory is measured with PyMySQL as well. Takes half a minute.
"""

from __future__ import annotations

import argparse
import gc
import subprocess
import sys
import threading
import time
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

POOLS = (10, 100, 1_000, 10_000)
THREADS = (10, 64, 256)
DATABASES = (1, 10, 100)
SIZES = {"pooled": POOLS, "thread-local": THREADS, "at once": THREADS, "Databases": DATABASES}
SHOWN = {
    "pooled": "idle connections in a pool",
    "thread-local": "threads, each with a connection of its own",
    "at once": "threads that use one pool at once, CPU",
    "Databases": "Databases, each in turn",
}
EACH = 50
"""How often each of the threads that work at once acquires and releases in one round."""


class Idle:
    """A connection that does nothing. No server would bear ten thousand."""

    def cursor(self) -> None:
        """A DB-API connection has one."""

    commit = rollback = close = cursor


def pool_of(size: int, stack: ExitStack, *url: str, **options: Any) -> Database:
    """Make a pool with that many idle connections."""
    made = stack.enter_context(Database(*url, strategy="pooled", pool_size=size, **options))
    with ExitStack() as all_of_them:
        for _ in range(size):
            all_of_them.enter_context(made.connection())
    return made


def threads_of(size: int, stack: ExitStack) -> Database:
    """Make a connection for each of that many live threads."""
    made = stack.enter_context(Database(creator=Idle, strategy="thread-local"))
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


def at_once(size: int, stack: ExitStack) -> float:
    """The CPU time, in µs, of an acquire and a release by one of that many threads that do nothing else."""
    operation = checkout(pool_of(size, stack, creator=Idle))
    ready, over = threading.Barrier(size + 1), threading.Barrier(size + 1)

    def work() -> None:
        ready.wait(60)
        for _ in range(EACH):
            operation()
        over.wait(60)

    threads = [threading.Thread(target=work) for _ in range(size)]
    for thread in threads:
        thread.start()
    began = time.process_time()
    ready.wait(60)
    over.wait(60)
    spent = time.process_time() - began
    for thread in threads:
        thread.join()
    return spent / (size * EACH) * 1e6


def own_memory(server: Any, count: int = 200) -> float:
    """The bytes that wsgidb needs for each idle connection: the memory of a pool, less that of plain connections."""
    url = server.url()
    driver = Driver("pymysql", url)
    with ExitStack() as stack:

        def plain() -> list[Any]:
            return [driver.module.connect(**driver.arguments(False)) for _ in range(count)]

        def pool() -> Database:
            return pool_of(count, stack, f"{url}?charset=utf8mb4", ssl_mode="disabled")

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


def idle_memory() -> dict[str, float]:
    """The bytes of a slot with an idle connection that needs none, and of a Database, in the largest of each."""
    with ExitStack() as stack:
        slots = traced(lambda: pool_of(POOLS[-1], stack, creator=Idle)) / POOLS[-1]
        databases = traced(lambda: [pool_of(1, stack, creator=Idle) for _ in range(DATABASES[-1])]) / DATABASES[-1]
    return {"slot": slots, "Database": databases}


def measure(rounds: int) -> dict[str, Any]:
    with ExitStack() as stack:
        operations: dict[str, Operation] = {}
        for size in POOLS:
            operations[f"pooled {size}"] = checkout(pool_of(size, stack, creator=Idle))
        for size in THREADS:
            operations[f"thread-local {size}"] = checkout(threads_of(size, stack))
        for size in DATABASES:
            pools = [checkout(pool_of(10, stack, creator=Idle)) for _ in range(size)]
            operations[f"Databases {size}"] = in_turn(pools)
        costs = fastest(operations, rounds)
        for size in THREADS:
            costs[f"at once {size}"] = min(at_once(size, stack) for _ in range(min(rounds, 10)))
    with database() as server:
        memory = own_memory(server)
    return {"costs": costs, "memory": memory, **idle_memory(), "import": import_time()}


def report(figures: dict[str, Any]) -> str:
    costs = figures["costs"]
    head = ["acquire + release, µs", "few", "more", "many", "most", "× from few to most"]
    rows = []
    for row, sizes in SIZES.items():
        cells = [f"{costs[f'{row} {size}']:.2f} ({size:,})" for size in sizes]
        cells[-1:-1] = [""] * (len(POOLS) - len(sizes))
        rows.append([SHOWN[row], *cells, f"{growth(costs, row):.2f}"])
    rest = [
        f"Memory of wsgidb's own for each idle connection: {figures['memory']:.0f} bytes with PyMySQL, and "
        f"{figures['slot']:.0f} of {POOLS[-1]:,} without a driver.",
        f"Memory of a Database with one connection: {figures['Database'] / 1024:.0f} KiB.",
        f"Importing wsgidb: {figures['import']:.0f} ms.",
    ]
    return f"{table(head, rows)}\n\n" + "\n".join(rest)


def growth(costs: dict[str, float], row: str) -> float:
    return costs[f"{row} {SIZES[row][-1]}"] / costs[f"{row} {SIZES[row][0]}"]


def targets(figures: dict[str, Any]) -> list[Target]:
    costs = figures["costs"]
    lines = [
        Target(f"cost of an acquire from {sizes[0]} to {sizes[-1]:,} {SHOWN[row]}, ×", growth(costs, row), most=1.2)
        for row, sizes in SIZES.items()
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
