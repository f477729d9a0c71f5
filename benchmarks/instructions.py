"""What a request costs, counted in what noise does not hide: instructions, system calls, calls, bytecodes and memory.

    python benchmarks/instructions.py [--driver pymysql mysqlclient] [--tree PATH] [--profile ROW] [--out FILE]

One thread serves the page of `city.py`, by a direct call of the application: what a WSGI server adds is the same for
each row. The database is a real one. What a request costs is the difference between a process that serves some requests
and one that serves more, so that starting and connecting cancel out.

- instructions, and misses of the first-level caches of a simulated processor: valgrind's callgrind. It sees the process
  and not the kernel, and no other process uses its caches: under a real server, more misses.
- Python calls, C calls and bytecodes: the interpreter's own hooks.
- bytes at the peak: the most memory that Python's allocators have in use at a time for one request.
- bytes per connection: the memory of an idle one, the driver's own included, as Python's allocators see it. With
  `limit` and `thread-local`, what a thread keeps for it is included, too.
- system calls, by name: strace. Whether mysqlclient's library has to wait for the reply in poll(2) depends on the time
  that the database takes.

Figures differ between machines and versions, and between runs by less than one per cent. `--tree` measures another tree
of wsgidb by the same program. `--profile` lists for one row where its bytecodes and calls are. The whole takes five
minutes. docs/performance.md tells what to make of it, and STEPS.md what each step has changed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from figures import table
from peers import LIMIT
from serving import database

HERE = Path(__file__).parent
DRIVERS = ("mysqlclient", "pymysql")
ROWS = (LIMIT, "wsgidb thread-local", "wsgidb pooled")
FEW, MANY = 100, 300
"""How many requests the two processes serve."""
EVENTS = ("instructions", "I1 misses", "D1 misses")
CALLGRIND = ["valgrind", "--tool=callgrind", "--cache-sim=yes", "--callgrind-out-file=/dev/null"]
Counts = dict[str, float]


class Child:
    """One row's application, in processes of their own."""

    def __init__(self, url: str, driver: str, row: str, tree: Path) -> None:
        path = os.pathsep.join([str(tree), sysconfig.get_path("purelib")])
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._environ |= {"BENCH_ROW": row, "BENCH_FRAMEWORK": "wsgi", "BENCH_DRIVER": driver, "BENCH_URL": url}
        self._environ |= {"PYTHONPATH": path, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}

    def run(self, *arguments: str, under: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        command = ["setarch", "--addr-no-randomize", *under, sys.executable, str(HERE / "counted.py"), *arguments]
        return subprocess.run(command, env=self._environ, capture_output=True, text=True, check=True, timeout=300)

    def instructions(self, requests: int) -> Counts:
        said = self.run("serve", str(requests), under=CALLGRIND).stderr
        found = [re.search(rf"{name}\s*:\s*([\d,]+)", said) for name in ("I +refs", "I1 +misses", "D1 +misses")]
        return {name: int(match[1].replace(",", "")) for name, match in zip(EVENTS, found, strict=True) if match}

    def system_calls(self, requests: int) -> Counts:
        with tempfile.NamedTemporaryFile("r") as out:
            self.run("serve", str(requests), under=["strace", "--summary-only", "--follow-forks", "-o", out.name])
            rows = [line.split() for line in out.read().splitlines()[2:-2]]
        return {row[-1]: int(row[3]) for row in rows}

    def counted(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("count").stdout)
        return found


def between(few: Counts, many: Counts) -> Counts:
    """What each further request has added."""
    return {name: (many[name] - few.get(name, 0)) / (MANY - FEW) for name in many}


def measure(url: str, drivers: Sequence[str], tree: Path) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    with ThreadPoolExecutor(2) as two:
        for driver in drivers:
            for row in ROWS:
                child = Child(url, driver, row, tree)
                found = {
                    **between(*two.map(child.instructions, (FEW, MANY))),
                    "system calls": between(*two.map(child.system_calls, (FEW, MANY))),
                    **child.counted(),
                }
                figures[f"{driver} {row}"] = found
    return figures


def report(figures: dict[str, Any]) -> str:
    head = ["connection", "instructions", "× limit", *EVENTS[1:], "Python calls", "C calls", "bytecodes"]
    head += ["bytes at the peak", "bytes per connection", "system calls"]
    rows = []
    for name, found in figures.items():
        base = figures[f"{name.partition(' ')[0]} {LIMIT}"]
        calls = {call: count for call, count in found["system calls"].items() if round(count, 2)}
        rows.append(
            [
                *(name, f"{found['instructions']:,.0f}", f"{found['instructions'] / base['instructions']:.3f}"),
                *(f"{found[event]:.0f}" for event in EVENTS[1:]),
                *(str(found[what]) for what in ("Python calls", "C calls", "bytecodes", "peak", "idle")),
                ", ".join(f"{call} {count:g}" for call, count in sorted(calls.items())),
            ]
        )
    return table(head, rows)


def profile(url: str, driver: str, row: str, tree: Path) -> str:
    """The functions of one request, with their calls and bytecodes."""
    lines = Child(url, driver, row, tree).counted()["functions"]
    return table(["function", "calls", "bytecodes"], [[name, str(calls), str(codes)] for name, calls, codes in lines])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--driver", nargs="+", choices=DRIVERS, default=DRIVERS)
    parser.add_argument("--tree", type=Path, default=HERE.parent, help="the tree with the wsgidb to measure")
    parser.add_argument("--profile", choices=ROWS, metavar="ROW", help="lists the functions of one row instead")
    parser.add_argument("--out", type=Path, help="a file for the table, which is Markdown")
    chosen = parser.parse_args()
    with database() as server:
        if chosen.profile is not None:
            found = [profile(server.url(), driver, chosen.profile, chosen.tree.resolve()) for driver in chosen.driver]
            text = "\n\n".join(found)
        else:
            text = report(measure(server.url(), chosen.driver, chosen.tree.resolve()))
    print(text)
    if chosen.out is not None:
        chosen.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
