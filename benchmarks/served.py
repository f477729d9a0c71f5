"""Part 1: the city application under uWSGI (one process, 16 threads), with each of the pools and with wsgidb.

    python benchmarks/served.py [--runs 10] [--seconds 0.25] [--driver pymysql|mysqlclient]
                                [--framework wsgi|flask] [--rows NAME ...]

The servers of all rows run at the same time. In each run, wrk loads them one after the other, so that a disturbance
affects all rows alike.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from figures import Target, judged, middle, ratios, shown, table, worst
from peers import AGAIN, LIMIT, ROWS, Row
from serving import City, database

CLIENTS = (1, 4, 8, 16)
FRAMEWORKS = ("flask", "wsgi")
OURS = ("wsgidb thread-local", "wsgidb pooled")
FRESH = "wsgidb per-request"
SEED = "per request, PyMySQL's defaults"
ONLY_PYMYSQL = {SEED, "mysql-connector's pool"}
Figures = dict[str, dict[str, Any]]
"""By row: the counts of `City.trips`, and under "load", by the number of clients, the figures of each run."""


def measure(
    server: Any,
    driver: str,
    framework: str,
    rows: Sequence[Row],
    runs: int,
    seconds: float,
    tls: str = "disabled",
    **options: Any,
) -> Figures:
    """*options* are further ones of wsgidb's, for its rows."""
    figures: Figures = {}
    with ExitStack() as stack:
        logs = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        cities = []
        for number, row in enumerate(rows):
            city = City(row.name, framework, driver, server, logs / f"{number}.log", tls, **options)
            cities.append((stack.enter_context(city), row.patience))
        for city, _ in cities:
            figures[city.row] = {**city.trips(), "load": {clients: [] for clients in CLIENTS}}
        for _ in range(runs):
            for clients in CLIENTS:
                for city, patience in cities:
                    figures[city.row]["load"][clients].append(asdict(city.load(clients, seconds * patience)))
        for city, _ in cities:
            a_seconds = median(of(figures, city.row, CLIENTS[-1], "rate"))
            figures[city.row]["siege"] = city.siege(a_seconds)["transaction_rate"]
    return figures


def of(figures: Figures, row: str, clients: int, what: str) -> list[float]:
    return [run[what] for run in figures[row]["load"][clients]]


def against_limit(figures: Figures, what: str, head: Sequence[str], rest: Callable[[str], list[str]]) -> str:
    """A table of one figure of all rows, as a ratio to the limit in the same run, by the number of clients."""
    columns = ["connection", *(f"× limit, {clients}" for clients in CLIENTS), *head]
    rows = []
    for name in figures:
        compared = [ratios(of(figures, name, clients, what), of(figures, LIMIT, clients, what)) for clients in CLIENTS]
        rows.append([name, *map(shown, compared), *rest(name)])
    return table(columns, rows)


def report(figures: Figures) -> str:
    """Two tables: requests per second and their cost, and the time of the slowest requests."""

    def rest_of_rates(name: str) -> list[str]:
        cells = [f"{median(of(figures, name, 16, 'rate')):.0f}"]
        cells += [f"{median(of(figures, name, 16, what)):.2f}" for what in ("app_cpu", "server_cpu")]
        return [f"{figures[name]['trips']:.2f}", *cells, f"{figures[name]['siege']:.0f}"]

    def rest_of_times(name: str) -> list[str]:
        return [f"{median(of(figures, name, clients, what)):.2f}" for clients in (1, 16) for what in ("p50", "p99")]

    head = ["round trips", "requests/s, 16", "app CPU ms", "database CPU ms", "siege -c 16, one run"]
    rates = against_limit(figures, "rate", head, rest_of_rates)
    head = [f"{what} ms, {clients}" for clients in (1, 16) for what in ("p50", "p99")]
    times = against_limit(figures, "p99", head, rest_of_times)
    failed = {
        name: sum(run["errors"] for runs in found["load"].values() for run in runs) for name, found in figures.items()
    }
    said = ", ".join(f"{name}: {count}" for name, count in failed.items() if count) or "none"
    noise = ""
    if AGAIN in figures:
        same = [
            middle(ratios(of(figures, AGAIN, clients, what), of(figures, LIMIT, clients, what)))
            for what in ("rate", "p99")
            for clients in CLIENTS
        ]
        noise = f"\n\nThe limit is {min(same[:4]):.2f} to {max(same[:4]):.2f} × itself in requests/s, and"
        noise += f" {min(same[4:]):.2f} to {max(same[4:]):.2f} × in p99: what is nearer than that may be noise."
    return f"Requests/s:\n\n{rates}\n\np99:\n\n{times}\n\nFailed requests: {said}.{noise}"


def settings() -> str:
    """The table with the settings of each row."""
    head = ["connection", "settings", "recommended by"]
    return (
        "All have autocommit on and charset=utf8mb4, and TLS off (wsgidb: ssl_mode=disabled) but for the first and in"
        " the table about TLS.\n\n" + table(head, [[row.name, row.settings, row.documented] for row in ROWS])
    )


def targets(figures: Figures) -> list[Target]:
    def ratio(row: str, base: str, clients: int, what: str = "rate") -> float:
        return middle(ratios(of(figures, row, clients, what), of(figures, base, clients, what)))

    lines = []
    for row in OURS:
        lines.append(Target(f"{row}: round trips per request", figures[row]["trips"], least=1, most=1))
        measured = ("rate", "p99", "app_cpu")
        rate, p99, cpu = ([ratio(row, LIMIT, clients, what) for clients in CLIENTS] for what in measured)
        among = "limit, the worst of 1 to 16 clients"
        lines.append(Target(f"{row}: requests/s × {among}", worst(min, rate), least=0.97))
        lines.append(Target(f"{row}: p99 × {among}", worst(max, p99), most=1.15))
        lines.append(Target(f"{row}: CPU of the application × {among}", worst(max, cpu), most=1.1))
        for peer, least in (("PersistentDB", 1.15), ("PooledDB", 1.4), ("SQLAlchemy pre_ping", 1.4)):
            lines.append(Target(f"{row}: requests/s × {peer}, 16 clients", ratio(row, peer, 16), least=least))
    fresh = FRESH
    if SEED in figures:
        lines.append(Target(f"{fresh}: requests/s × {SEED}, 16 clients", ratio(fresh, SEED, 16), least=20))
    plain = "per request, TLS off"
    lines.append(Target(f"{fresh}: requests/s × {plain}, 16 clients", ratio(fresh, plain, 16), least=1))
    connecting = ratio(fresh, plain, 16, "app_cpu")
    lines.append(Target(f"{fresh}: CPU of the application × {plain}, 16 clients", connecting, most=1.1))
    return lines


def inexact(figures: Figures) -> list[str]:
    """The rows whose round trips per request are not exactly those of its statement, which is an error."""
    return [f"{row}: {figures[row]['trips']:.2f} round trips" for row in OURS if figures[row]["trips"] != 1]


def rows_for(driver: str) -> list[Row]:
    return [row for row in ROWS if driver == "pymysql" or row.name not in ONLY_PYMYSQL]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.25, help="of each run of wrk")
    parser.add_argument("--driver", choices=["pymysql", "mysqlclient"], default="pymysql")
    parser.add_argument("--framework", choices=FRAMEWORKS, default="wsgi")
    parser.add_argument("--rows", nargs="+", metavar="NAME", help="some only, and the limit; no targets then")
    chosen = parser.parse_args()
    with database() as server:
        rows = rows_for(chosen.driver)
        if chosen.rows:
            rows = [row for row in rows if row.name in (LIMIT, *chosen.rows)]
        figures = measure(server, chosen.driver, chosen.framework, rows, chosen.runs, chosen.seconds)
    print(report(figures))
    if not chosen.rows:
        print(judged(targets(figures)))


if __name__ == "__main__":
    main()
