"""What opening a connection for each request costs: wsgidb's per-request beside plain connecting, with TLS off.

    python benchmarks/connecting.py [--rounds 40] [--drivers pymysql mysqlclient] [--tree PATH] [--only-cpu]

- CPU: of this process, user and system, in µs for one connection that is opened and closed; the lower quartile of
  rounds that are made in turn
- instructions (callgrind, user space only) and system calls (strace): of a process that opens many connections, less
  one that opens few
- bytecodes, by part of the program: of one connection

Three ways are measured: the driver alone, as its documentation has it; wsgidb's driver; and a whole lease of a
Database. `--tree` measures another tree of wsgidb by the same program. Takes two minutes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from types import FrameType
from typing import Any

from figures import Target, judged, table
from peers import Driver
from serving import database

WAYS = {"plain": "the driver alone", "driver": "wsgidb's driver", "lease": "wsgidb, a whole lease"}
SCHEMES = {"pymysql": "mysql+pymysql", "mysqlclient": "mysql+mysqldb"}
BATCH, FEW, MANY = 20, 10, 60
"""How many connections are opened in a round, and in the processes whose difference is taken."""
CALLGRIND = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
Figures = dict[str, dict[str, dict[str, float]]]


def way(driver: str, name: str, url: str) -> Callable[[], object]:
    """What opens one connection and closes it."""
    if name == "plain":
        plain = Driver(driver, url)
        connect, arguments = plain.module.connect, plain.arguments(False)
        return lambda: connect(**arguments).close()
    from wsgidb import Database

    source = f"{SCHEMES[driver]}://{url.partition('://')[2]}?charset=utf8mb4"
    made = Database(source, strategy="per-request", transaction="autocommit", ssl_mode="disabled")
    ours = made.engine.driver
    if name == "driver":
        return lambda: ours.close(ours.connect(time.monotonic() + 3))

    def lease() -> None:
        with made.connection():
            pass

    return lease


def cpu(driver: str, url: str, rounds: int) -> dict[str, float]:
    """By way, the CPU time of one connection in µs."""
    ways = {name: way(driver, name, url) for name in WAYS}
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, once in ways.items():
            began = time.process_time()
            for _ in range(BATCH):
                once()
            spent[name].append((time.process_time() - began) / BATCH * 1e6)
    return {name: quantiles(each, n=4)[0] for name, each in spent.items()}


def part_of(path: str) -> str:
    """The part of a program to which a file belongs."""
    ours = re.search(r"/wsgidb/(\w+)", path)
    if ours is not None:
        return f"wsgidb/{ours[1]}"
    return "the driver" if re.search(r"/(pymysql|MySQLdb)/", path) else "the standard library"


def bytecodes(once: Callable[[], object]) -> Counter[str]:
    """By part of the program, how many bytecodes one connection takes."""
    found: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        found[part_of(frame.f_code.co_filename)] += event == "opcode"
        return note

    for _ in range(FEW):
        once()
    sys.settrace(note)
    try:
        once()
    finally:
        sys.settrace(None)
    return found


class Child:
    """A process of its own, which opens connections and does nothing else."""

    def __init__(self, driver: str, name: str, url: str, tree: Path) -> None:
        path = os.pathsep.join([str(tree), sysconfig.get_path("purelib")])
        self._environ = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"}
        self._arguments = [driver, name, url]

    def run(self, count: int, under: Sequence[str]) -> str:
        command = [*under, sys.executable, __file__, "--child", str(count), *self._arguments]
        done = subprocess.run(command, env=self._environ, capture_output=True, text=True, check=True, timeout=300)
        return done.stderr

    def instructions(self) -> float:
        few, many = (int(re.findall(r"Collected : (\d+)", self.run(count, CALLGRIND))[0]) for count in (FEW, MANY))
        return (many - few) / (MANY - FEW)

    def system_calls(self) -> float:
        found = []
        for count in (FEW, MANY):
            with tempfile.NamedTemporaryFile("r") as out:
                self.run(count, ["strace", "--summary-only", "-o", out.name])
                found.append(int(out.read().splitlines()[-1].split()[3]))
        return (found[1] - found[0]) / (MANY - FEW)


def measure(url: str, drivers: Sequence[str], rounds: int, tree: Path, counted: bool = True) -> Figures:
    figures: Figures = {}
    for driver in drivers:
        figures[driver] = {name: {"CPU": spent} for name, spent in cpu(driver, url, rounds).items()}
        for name in WAYS if counted else ():
            child = Child(driver, name, url, tree)
            figures[driver][name]["instructions"] = child.instructions()
            figures[driver][name]["system calls"] = child.system_calls()
    return figures


def report(figures: Figures) -> str:
    rows = []
    for driver, ways in figures.items():
        for name, found in ways.items():
            cells = [driver, WAYS[name]]
            for what in ("CPU", "instructions"):
                times = found.get(what, 0) / (ways["plain"].get(what, 0) or 1)
                cells.append(f"{found.get(what, 0):,.0f} ({times:.2f} ×)")
            rows.append([*cells, f"{found.get('system calls', 0):.1f}"])
    return table(["driver", "opened and closed by", "CPU, µs", "instructions", "system calls"], rows)


def profile(url: str, drivers: Sequence[str]) -> str:
    """Where the bytecodes are, of plain connecting and of a lease."""
    ways = [(driver, name) for driver in drivers for name in ("plain", "lease")]
    counts = {f"{driver}, {WAYS[name]}": bytecodes(way(driver, name, url)) for driver, name in ways}
    parts = sorted({part for found in counts.values() for part in found if found[part]})
    rows = [[name, *(str(found[part]) for part in parts), str(found.total())] for name, found in counts.items()]
    return table(["bytecodes", *parts, "together"], rows)


def targets(figures: Figures) -> list[Target]:
    what = "CPU of a lease × that of plain connecting"
    ratios = {driver: ways["lease"]["CPU"] / ways["plain"]["CPU"] for driver, ways in figures.items()}
    return [Target(f"{driver}: {what}", ratio, most=1.1) for driver, ratio in ratios.items()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--drivers", nargs="+", choices=list(SCHEMES), default=list(SCHEMES))
    parser.add_argument("--tree", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--only-cpu", action="store_true")
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        count, driver, name, url = chosen.child
        once = way(driver, name, url)
        for _ in range(FEW + int(count)):
            once()
        return
    sys.path.insert(0, str(chosen.tree))
    with database() as server:
        figures = measure(server.url(), chosen.drivers, chosen.rounds, chosen.tree, counted=not chosen.only_cpu)
        where = profile(server.url(), chosen.drivers)
    print(f"{report(figures)}\n\n{where}\n")
    print(judged(targets(figures)))


if __name__ == "__main__":
    main()
