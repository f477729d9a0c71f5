"""A soak test: a million requests with random faults, and a table of the effects.

    python benchmarks/soak.py [--requests 1000000] [--http 20000] [--seed 1] [--strategies thread-local,pooled]

It needs the packages of `make test` (.venv/bin/python has them) and starts its own MariaDB servers. The first number is
for requests within this process, the second for requests over HTTP; the strategies share both. It exits with 1 if
anything was lost or leaked, grew, or did not add up, or if a client was told of an error without a fault.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from faults import soak_http
from faults.soak import Soak, descriptors, memory
from faults.soak_faults import FAULTS
from faults.soak_rows import Row
from support.mariadb import MariaDB

HEAD = ("fault", "times", "requests", "errors by kind", "longest stall", "recovery", "leaked", "lost")
GROWTH = 8.0
"""MB by which a process may grow between the first fifth of the run and its end, because allocators vary."""


def in_process(strategy: str, requests: int, window: int, seed: int) -> tuple[list[Row], list[str]]:
    """The rows of one strategy, and a list of what did not add up."""
    choose = random.Random(seed)
    with MariaDB() as server:
        soak = Soak(server, strategy, seed)
        before: tuple[float, int] | None = None
        while soak.requests < requests:
            for fault in (None, *choose.sample(FAULTS, len(FAULTS))):
                soak.window(fault, window)
            if before is None and soak.requests >= requests / 5:
                before = memory(), descriptors() - soak.database.stats().open
        after = memory(), descriptors() - soak.database.stats().open
        problems = soak.problems
        if before is not None:
            print(f"{strategy}: from {before[0]:.1f} MB and {before[1]} descriptors to {after[0]:.1f} and {after[1]}")
            if after[0] > before[0] + GROWTH or after[1] > before[1]:
                problems.append(f"it grew: from {before} to {after}")
        print(f"{strategy}: {soak.requests} requests, {soak.payments} payments, {soak.log.lines} log lines")
        soak.close()
    return list(soak.rows.values()), problems


def cells(row: Row) -> tuple[str, ...]:
    errors = ", ".join(f"{kind}: {count}" for kind, count in sorted(row.errors.items()) if count) or "none"
    times = (f"{row.longest_stall:.2f} s", f"{row.recovery:.2f} s")
    return (row.fault, str(row.times), str(row.requests), errors, *times, str(row.leaked), str(row.lost))


def table(rows: Iterable[Row]) -> str:
    lines = [HEAD, ("---",) * len(HEAD), *(cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--requests", type=int, default=1_000_000, help="within this process")
    parser.add_argument("--http", type=int, default=20_000, help="over HTTP")
    parser.add_argument("--window", type=int, default=20_000, help="requests for each fault; a tenth of that over HTTP")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--strategies", default="thread-local,pooled")
    given = parser.parse_args(arguments)
    strategies = given.strategies.split(",")
    failed = False
    for strategy in strategies:
        began = time.monotonic()
        rows, problems = in_process(strategy, given.requests // len(strategies), given.window, given.seed)
        if given.http:
            more, others, _ = soak_http.run(strategy, given.http // len(strategies), given.window // 10, given.seed)
            rows, problems = rows + more, problems + others
        print(f"\n{strategy}: {sum(row.requests for row in rows)} requests in {time.monotonic() - began:.0f} s\n")
        print(table(rows) + "\n")
        print("\n".join(problems) or "All adds up.", flush=True)
        failed = failed or bool(problems) or any(row.leaked or row.lost for row in rows)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
