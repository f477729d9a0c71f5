"""Part 3: requests over a network with a delay each way; 16 threads, 16 connections and one query per request.

    python benchmarks/latency.py [--runs 10] [--seconds 0.25]

The network is simulated by benchmarks/slow_network.c, which is compiled here and runs as a process of its own.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

from figures import Target, judged, middle, ratios, shown, table, worst
from peers import LIMIT, SELECT, THREADS, Driver, Source, limit, persistent_db, pooled_db, sqlalchemy
from serving import database
from wsgidb import Database

ROUND_TRIPS = (0, 0.5, 2, 10)
"""Round trip times of the network, in ms."""
OURS = ("thread-local", "pooled")
PEERS = {LIMIT: limit, "PersistentDB": persistent_db, "PooledDB": pooled_db, "SQLAlchemy pre_ping": sqlalchemy}
Request = Callable[[], object]


@contextmanager
def slow_network(url: str, milliseconds: float) -> Iterator[str]:
    """Yield the database's url through a network with this round trip time."""
    port = urlsplit(url).port
    source = Path(__file__).with_name("slow_network.c")
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        program = Path(directory) / "slow_network"
        subprocess.run(["gcc", "-O2", "-pthread", "-o", str(program), str(source)], check=True)
        command = [str(program), str(port), str(round(milliseconds * 500))]
        network = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert network.stdout is not None
        try:
            yield url.replace(f":{port}/", f":{int(network.stdout.readline())}/")
        finally:
            network.terminate()


def of_peer(source: Source) -> Request:
    def request() -> None:
        conn = source.get()
        try:
            query(conn)
        finally:
            source.done(conn)

    return request


def of_wsgidb(made: Database) -> Request:
    def request() -> None:
        with made.connection() as conn:
            query(conn)

    return request


def query(conn: Any) -> None:
    cursor = conn.cursor()
    cursor.execute(SELECT, ("london",))
    assert cursor.fetchone() is not None
    cursor.close()


def run(request: Request, seconds: float) -> float:
    """The requests per second of all threads together."""
    counts = [0] * THREADS
    ready = threading.Barrier(THREADS + 1)

    def work(number: int) -> None:
        try:
            request()  # opens this thread's connection
        except BaseException:
            ready.abort()
            raise
        ready.wait(60)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            request()
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    ready.wait(60)
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - began)


def measure(url: str, runs: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    figures: dict[str, dict[str, list[float]]] = {}
    for delay in ROUND_TRIPS:
        with slow_network(url, delay) as far, ExitStack() as stack:
            requests = {name: of_peer(make(Driver("pymysql", far), far)) for name, make in PEERS.items()}
            for strategy in OURS:
                options: dict[str, Any] = {"strategy": strategy, "pool_size": THREADS, "transaction": "autocommit"}
                made = Database(far, ssl_mode="disabled", acquire_timeout=30, **options)
                requests[f"wsgidb {strategy}"] = of_wsgidb(stack.enter_context(made))
            found = figures[str(delay)] = {name: [] for name in requests}
            for _ in range(runs):
                for name, request in requests.items():
                    found[name].append(run(request, seconds))
    return figures


def report(figures: dict[str, dict[str, list[float]]]) -> str:
    head = ["connection", *(f"× limit, {delay} ms" for delay in figures)]
    names = list(next(iter(figures.values())))
    rows = [[name, *(shown(ratios(found[name], found[LIMIT])) for found in figures.values())] for name in names]
    rates = [f"{median(found[LIMIT]):.0f} at {delay} ms" for delay, found in figures.items()]
    return f"{table(head, rows)}\n\nThe limit's requests/s: {', '.join(rates)}."


def targets(figures: dict[str, dict[str, list[float]]]) -> list[Target]:
    lines = []
    for strategy in OURS:
        name = f"wsgidb {strategy}"
        rates = [middle(ratios(found[name], found[LIMIT])) for found in figures.values()]
        lines.append(Target(f"{name}: requests/s × limit, the worst of 0 to 10 ms", worst(min, rates), least=0.97))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=0.25)
    chosen = parser.parse_args()
    with database() as server:
        figures = measure(server.url(), chosen.runs, chosen.seconds)
    print(report(figures))
    print(judged(targets(figures)))


if __name__ == "__main__":
    main()
