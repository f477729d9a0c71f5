"""Part 2: what a validated checkout costs within one process, without any statement.

    python benchmarks/checkout.py [--rounds 300]

"bare" is what no pool can do without: a lock, a deque and a poll(2) of the idle socket. A pass is a whole request of an
empty application through the middleware, without the cost of the application and of copying the environ. All are
measured in turn, in short batches. The fastest batch of each counts, because disturbances only make a batch slower.
Then threads share a pool of 8: the table has acquires per second, and the longest wait as a multiple of the mean. The
last table has what the options that make a pool visible add to a pass of strategy pooled.
"""

from __future__ import annotations

import argparse
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from figures import Target, judged, table
from peers import Driver, Source, connector_pool, persistent_db, pooled_db, sqlalchemy
from serving import database
from wsgidb import Database, DatabaseMiddleware

BATCH = 100
STRATEGIES: tuple[Any, ...] = ("pooled", "thread-local", "dbutils-persistent", "dbutils-pooled", "sqlalchemy")
TRANSACTIONS: tuple[Any, ...] = ("autocommit", "manual", "request")
THREADS, POOL = (2, 4, 8, 16), 8
PEERS = {
    "PersistentDB": persistent_db,
    "PooledDB": pooled_db,
    "SQLAlchemy pre_ping": sqlalchemy,
    "mysql-connector's pool": connector_pool,
}
ENVIRON = {
    "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "city=london",
    "SERVER_NAME": "localhost", "SERVER_PORT": "80", "HTTP_HOST": "localhost", "wsgi.url_scheme": "http",
}
SEEN: dict[str, dict[str, Any]] = {
    "telemetry=false": {"telemetry": False},
    "telemetry=true": {},
    "telemetry=true, board": {"board": True},
    "telemetry=true, server_timing=true": {"server_timing": True},
    "telemetry=true, leak_after=60": {"leak_after": 60},
}
"""Options that make a pool visible."""
HEADERS = [("Content-Type", "text/plain"), ("Content-Length", "2")]
Operation = Callable[[], object]


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", HEADERS)
    return [b"ok"]


def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
    """The start_response of a server that sends nothing."""


def bare(stack: ExitStack) -> Operation:
    ours, theirs = map(stack.enter_context, socket.socketpair())
    del theirs
    poll = select.poll()
    poll.register(ours.fileno(), select.POLLIN)
    idle, lock = deque([ours]), threading.Lock()

    def operation() -> None:
        with lock:
            taken = idle.pop()
        poll.poll(0)
        with lock:
            idle.append(taken)

    return operation


def checkout(made: Database) -> Operation:
    engine = made._engine
    return lambda: engine.release(engine.acquire())


def whole_pass(made: Database) -> Operation:
    wrapped = DatabaseMiddleware(app, made)
    return lambda: wrapped(ENVIRON.copy(), start_response)


def borrow(source: Source) -> None:
    source.done(source.get())


def fastest(operations: dict[str, Operation], rounds: int) -> dict[str, float]:
    """The time of each operation, in µs."""
    best = dict.fromkeys(operations, float("inf"))
    for _ in range(rounds):
        for name, operation in operations.items():
            began = time.perf_counter()
            for _ in range(BATCH):
                operation()
            best[name] = min(best[name], (time.perf_counter() - began) / BATCH * 1e6)
    return best


def measure(url: str, rounds: int) -> dict[str, Any]:
    with ExitStack() as stack:
        operations: dict[str, Operation] = {"bare": bare(stack), "naked": lambda: app(ENVIRON.copy(), start_response)}
        for strategy in STRATEGIES:
            for transaction in TRANSACTIONS:
                made = stack.enter_context(Database(url, strategy=strategy, transaction=transaction))
                operations[f"{strategy} {transaction} acquire"] = checkout(made)
                operations[f"{strategy} {transaction} pass"] = whole_pass(made)
        directory = stack.enter_context(TemporaryDirectory())
        for name, options in SEEN.items():
            given = {**options, **({"board": directory} if "board" in options else {})}
            operations[f"seen {name} pass"] = whole_pass(stack.enter_context(Database(url, **given)))
        costs = fastest(operations, rounds)
        peers: dict[str, Operation] = {}
        for name, make in PEERS.items():
            peers[name] = partial(borrow, make(Driver("pymysql", url), url))
        costs |= fastest(peers, max(rounds // 30, 1))
        shared = {str(threads): [share(url, threads) for _ in range(max(rounds // 60, 1))] for threads in THREADS}
    return {"costs": costs, "shared": shared}


def share(url: str, threads: int, seconds: float = 0.5) -> dict[str, float]:
    """Let threads do nothing but acquire and release: count their acquires, and measure the longest wait."""
    waits: list[list[float]] = [[] for _ in range(threads)]
    ready = threading.Barrier(threads)
    with Database(url, pool_size=POOL, acquire_timeout=30) as made:
        engine = made._engine

        def lease(mine: list[float]) -> None:
            engine.release(engine.acquire())
            ready.wait(60)
            end = time.perf_counter() + seconds
            while (began := time.perf_counter()) < end:
                slot = engine.acquire()
                mine.append(time.perf_counter() - began)
                engine.release(slot)

        workers = [threading.Thread(target=lease, args=(mine,)) for mine in waits]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    counts = [len(mine) for mine in waits]
    every = [wait for mine in waits for wait in mine]
    return {
        "rate": len(every) / seconds,
        "longest": max(every) * 1000,
        "mean": sum(every) / len(every) * 1e6,
        "unlucky": max(every) / sum(every) * len(every),
        "fair": max(counts) / min(counts),
    }


SHARED = (("rate", 0), ("mean", 1), ("longest", 1), ("unlucky", 0), ("fair", 2))
"""The figures of `share`, formatted for the table."""


def net(costs: dict[str, float], name: str) -> float:
    """The cost as a multiple of bare, without that of the application itself."""
    return (costs[name] - (costs["naked"] if name.endswith("pass") else 0)) / costs["bare"]


def report(figures: dict[str, Any]) -> str:
    costs = figures["costs"]
    rows = []
    for strategy in STRATEGIES:
        cells = [f"wsgidb {strategy}", f"{net(costs, f'{strategy} manual acquire'):.1f}"]
        cells += [f"{net(costs, f'{strategy} {transaction} pass'):.1f}" for transaction in TRANSACTIONS]
        rows.append(cells)
    rows += [[name, f"{net(costs, name):.0f}", "", "", ""] for name in PEERS]
    head = ["× bare", "acquire + release", *(f"pass, {transaction}" for transaction in TRANSACTIONS)]
    shared = [
        [threads, *(f"{median(run[what] for run in runs):.{digits}f}" for what, digits in SHARED)]
        for threads, runs in figures["shared"].items()
    ]
    columns = ["threads on a pool of 8", "acquires/s", "mean wait µs", "longest wait ms", "longest ÷ mean"]
    columns.append("most ÷ least acquires of a thread")
    least = costs["seen telemetry=false pass"]
    seen = [[name, f"{costs[f'seen {name} pass'] - least:+.2f}"] for name in SEEN]
    tables = [table(head, rows), table(columns, shared), table(["options", "a pass, µs more"], seen)]
    return "\n\n".join([f"bare: {costs['bare']:.2f} µs", *tables])


def targets(figures: dict[str, Any]) -> list[Target]:
    costs = figures["costs"]
    lines = []
    for strategy in ("pooled", "thread-local"):
        lines.append(Target(f"{strategy}: acquire + release × bare", net(costs, f"{strategy} manual acquire"), most=3))
        for transaction, most in (("autocommit", 4), ("manual", 4), ("request", 6)):
            what = f"{strategy}: pass × bare, transaction={transaction}"
            lines.append(Target(what, net(costs, f"{strategy} {transaction} pass"), most=most))
    extra = costs["seen telemetry=true pass"] - costs["seen telemetry=false pass"]
    return [*lines, Target("telemetry: µs more for a pass", extra, most=1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=300)
    rounds = parser.parse_args().rounds
    with database() as server:
        figures = measure(server.url(), rounds)
    print(report(figures))
    print(judged(targets(figures)))


if __name__ == "__main__":
    main()
