"""Run all benchmarks in one run; `make bench` does this. Prints tables, and writes figures and pictures to --out.

    python benchmarks/bench.py [--runs 10] [--seconds 0.25] [--quick] [--out build/bench] [--write-docs]

Ten runs of 0.25 s for each cell take about 35 minutes. --quick makes one short run: it shows that everything works,
and fails if a count of round trips is not exact; its times are not meaningful. --write-docs writes the tables into
docs/performance-figures.md, docs/tuning.md and docs/overload.md, and a summary into docs/performance.md. Nothing else
should run at the same time.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import checkout
import growth
import latency
import overload
import served
import sizing
from figures import Target, judged, summary
from peers import LIMIT, ROWS
from picture import draw_rates, draw_sizes
from serving import database

PACKAGES = ("PyMySQL", "mysqlclient", "mysql-connector-python", "DBUtils", "SQLAlchemy", "Django", "Flask", "uWSGI")
SERVED = [("pymysql", "flask"), ("pymysql", "wsgi"), ("mysqlclient", "flask"), ("mysqlclient", "wsgi")]
DOCS = Path(__file__).parents[1] / "docs"
BEGIN, END = "<!-- figures: written by benchmarks/bench.py --write-docs -->", "<!-- end of the figures -->"


def made_by(server: Any, runs: int, seconds: float) -> dict[str, str]:
    """The command, the machine and the versions, as the page names them."""
    ((database_version,),) = server.query("SELECT VERSION()")
    processors = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    packages = [f"{name} {version(name)}" for name in PACKAGES]
    for command in (["wrk", "-v"], ["siege", "--version"]):
        # wrk exits with an error code here, and siege writes its version to standard error.
        said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        packages.append(" ".join(said.stdout.split()[:2]))
    return {
        "command": " ".join(["python", "benchmarks/bench.py", *sys.argv[1:]]),
        "date": time.strftime("%Y-%m-%d"),
        "runs": f"{runs} runs of {seconds:g} s for each cell",
        "machine": f"{os.cpu_count()} cores of {(processors or [platform.machine()])[0]}, Linux {platform.release()}",
        "versions": ", ".join([f"Python {platform.python_version()}", database_version, *packages]),
    }


def with_tls(runs: int, seconds: float) -> tuple[str, Any]:
    """Measure a connection per request to a server that has TLS, with and without wsgidb."""
    rows = [row for row in ROWS if row.name in (served.SEED, served.FRESH, LIMIT)]
    with database(tls=True) as server:
        figures = served.measure(server, "pymysql", "wsgi", rows, runs, seconds, tls="required")
    return served.report(figures), figures


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each run")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--write-docs", action="store_true")
    chosen = parser.parse_args()
    runs, seconds, rounds = (1, 0.2, 10) if chosen.quick else (chosen.runs, chosen.seconds, 300)
    # After a stall of the machine for a second, a connection is pinged, and the counts of a short run are to be exact.
    options: dict[str, Any] = {"ping_after": 60} if chosen.quick else {}
    began = time.monotonic()
    figures: dict[str, Any] = {}
    parts: list[str] = []
    targets: dict[str, list[Target]] = {}

    def show(title: str, text: str, judge: list[Target] | None = None) -> None:
        if judge:
            targets[title.rpartition(": ")[2]] = judge
            text = f"{text}\n\n{judged(judge)}"
        parts.append(f"## {title}\n\n{text}\n")
        print(parts[-1], flush=True)

    with database() as server:
        figures["made by"] = made_by(server, runs, seconds)
        command, *rest = figures["made by"].values()
        parts.append("; ".join([f"`{command}`", *rest]) + ".\n")
        print(parts[0], flush=True)
        show("Settings", served.settings())
        for driver, framework in SERVED:
            found = served.measure(server, driver, framework, served.rows_for(driver), runs, seconds, **options)
            figures[f"served {driver} {framework}"] = found
            title = f"Served by uWSGI, 16 threads: {framework}, {driver}"
            show(title, served.report(found), served.targets(found))
        figures["checkout"] = checkout.measure(server.url(), rounds)
        show("Checkout in process", checkout.report(figures["checkout"]), checkout.targets(figures["checkout"]))
        figures["latency"] = latency.measure(server.url(), runs, seconds)
        title = "A network between, 16 threads"
        show(title, latency.report(figures["latency"]), latency.targets(figures["latency"]))
        figures["sizing"] = sizing.measure(server.url(), 0.2 if chosen.quick else 2.0)
        sizes = sizing.report(figures["sizing"])
        print(f"### Sizes of a pool\n\n{sizes}\n", flush=True)
    text, figures["served tls"] = with_tls(runs, seconds)
    show("A server with TLS", text)
    figures["overload"] = overload.measure(*((0.5, ["uWSGI"]) if chosen.quick else (8.0,)))
    targets["overload"] = overload.targets(figures["overload"])
    overloads = f"{overload.report(figures['overload'])}\n\n{judged(targets['overload'])}"
    print(f"### Overload\n\n{overloads}\n", flush=True)
    figures["scale"] = growth.measure(rounds)
    show("Scale", growth.report(figures["scale"]), growth.targets(figures["scale"]))
    print(f"## Summary\n\n{summary(targets)}\n", flush=True)

    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "figures.json").write_text(json.dumps(figures, indent=1) + "\n")
    for folder in [chosen.out, *([DOCS] if chosen.write_docs else [])]:
        draw_rates(figures, folder / "performance.svg")
        draw_sizes(figures["sizing"], folder / "tuning.svg")
    if chosen.write_docs:
        write(DOCS / "performance-figures.md", "\n".join(parts))
        write(DOCS / "performance.md", f"{parts[0]}\n{summary(targets)}\n")
        write(DOCS / "tuning.md", sizes + "\n")
        write(DOCS / "overload.md", overloads + "\n")
    inexact = [line for driver, framework in SERVED for line in served.inexact(figures[f"served {driver} {framework}"])]
    if inexact:
        sys.exit("\n".join(["round trips are counted, not timed: they must be exact", *inexact]))
    print(f"{time.monotonic() - began:.0f} s; all figures and the pictures are in {chosen.out}", file=sys.stderr)


def write(page: Path, text: str) -> None:
    """Write the figures into a page, between its two markers."""
    before, rest = page.read_text().split(BEGIN)
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
