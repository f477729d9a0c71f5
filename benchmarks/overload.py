"""What becomes of requests when more come than the connections of a pool can serve.

Each pool has eight connections, and each request holds one of them for 0.2 s, so that 40 requests a second can be
served. That is far below what the machine could do: the connections are the limit, and nothing else. The client sends
its requests when they are due, whatever has become of the earlier ones.

    python benchmarks/overload.py [--seconds 8] [--pool wsgidb] [--server uWSGI]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from figures import Target, judged, table
from openloop import load
from overloaded import HOLD, POOLS, SIZE
from serving import database
from support.ports import bind
from support.postgresql import PostgreSQL
from support.waiting import until

HERE = Path(__file__).parent
THREADS = 64
RATE = SIZE / HOLD
"""Requests per second that the connections can serve."""
OURS, FIFO = "wsgidb", "wsgidb, queue_target=none"
SERVERS = {
    "uWSGI": (
        "{bin}/uwsgi --http-socket 127.0.0.1:{port} --module overloaded --callable application --need-app"
        " --single-interpreter --processes 1 --threads {threads} --listen 1024 --die-on-term --disable-logging"
        " --pythonpath {here} --pythonpath {packages}"
    ),
    "gunicorn gthread": (
        "{python} -m gunicorn --bind 127.0.0.1:{port} --worker-class gthread --workers 1 --threads {threads}"
        " --backlog 1024 --graceful-timeout 1 overloaded:application"
    ),
}


@dataclass(frozen=True)
class Phase:
    name: str
    factor: float
    """The load as a multiple of what can be served."""
    before: float
    """Its first part, as a multiple of the seconds that are measured after it: until the pool has found its state."""


PHASES = [
    Phase("unloaded", 0.25, 0.0),
    Phase("1 ×", 1.0, 0.25),
    Phase("2 ×", 2.0, 2.0),
    Phase("10 ×", 10.0, 0.25),
    Phase("afterwards", 0.25, 0.25),
]


@contextmanager
def served(server: str, pool: str, url: str, log: Path) -> Iterator[int]:
    """Run the application with a pool. Yields the port."""
    reserved = bind()
    port: int = reserved.getsockname()[1]
    places = {"bin": Path(sys.executable).parent, "python": sys.executable, "here": HERE}
    places["packages"] = Path(sysconfig.get_path("purelib"))
    command = [word.format(port=port, threads=THREADS, **places) for word in SERVERS[server].split()]
    path = os.pathsep.join([str(HERE), str(HERE.parent), str(places["packages"])])
    with log.open("wb") as out:
        process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *command],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env={**os.environ, "PYTHONPATH": path, "BENCH_POOL": pool, "BENCH_URL": url},
        )  # fmt: skip
    try:

        def serves() -> bool:
            assert process.poll() is None, log.read_text(errors="replace")[-3000:]
            return all(answer.status == 200 for answer in load(port, 50.0, 0.3))

        until(serves, 60, f"{server} to serve")
        yield port
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        reserved.close()


def measure(seconds: float, servers: Sequence[str] = (*SERVERS,), pools: Sequence[str] = (*POOLS,)) -> dict[str, Any]:
    """For each server, pool and phase: goodput, times and counts. Each phase is measured for so many seconds."""
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as logs, database() as mariadb, PostgreSQL() as postgresql:
        for server in servers:
            for pool in pools:
                url = postgresql.url() if pool == "psycopg_pool" else mariadb.url()
                with served(server, pool, url, Path(logs) / "log") as port:
                    found = {phase.name: run(port, phase, seconds) for phase in PHASES}
                figures.setdefault(server, {})[pool] = found
    return figures


def run(port: int, phase: Phase, seconds: float) -> dict[str, float]:
    """The figures of one phase, without its first part."""
    before = phase.before * seconds
    end = before + seconds
    everything = load(port, phase.factor * RATE, end)
    in_time = sum(each.status == 200 and before <= each.due + each.seconds < end for each in everything)
    answers = [each for each in everything if each.due >= before]
    good = [each.seconds for each in answers if each.status == 200]
    refused = [each.seconds for each in answers if each.status == 503]
    return {
        "goodput": in_time / seconds,
        "p50": quantile(good, 0.5),
        "p99": quantile(good, 0.99),
        "refused": len(refused),
        "refused p50": quantile(refused, 0.5),
        "refused p99": quantile(refused, 0.99),
        "lost": sum(each.status not in (200, 503) for each in answers),
        "sent": len(answers),
    }


def quantile(seconds: list[float], share: float) -> float:
    """In ms; not a number if there is none."""
    ordered = sorted(seconds)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)] * 1000 if ordered else float("nan")


def peak(figures: dict[str, Any], server: str) -> float:
    """The most requests per second that any pool has served on this server."""
    return max(float(phase["goodput"]) for pool in figures[server].values() for phase in pool.values())


def report(figures: dict[str, Any]) -> str:
    head = ["pool", "load", "goodput", "p50 ms", "p99 ms", "refused", "p50 ms, refused", "p99 ms, refused", "no answer"]
    parts = []
    for server, pools in figures.items():
        most = peak(figures, server)
        rows = []
        for pool, phases in pools.items():
            for name, found in phases.items():
                share = f"{100 * found['goodput'] / most:.0f}%" if name not in ("unloaded", "afterwards") else ""
                times = [ms(found[what]) for what in ("p50", "p99")]
                refused = [ms(found[what]) for what in ("refused p50", "refused p99")]
                shares = [f"{found[what] / found['sent']:.0%}" for what in ("refused", "lost")]
                rows.append([pool, name, share, *times, shares[0], *refused, shares[1]])
        parts.append(f"{server}, {THREADS} threads; the peak is {most:.0f} requests a second:\n\n{table(head, rows)}")
    return "\n\n".join(parts)


def ms(figure: float) -> str:
    return "" if figure != figure else f"{figure:.0f}"


def targets(figures: dict[str, Any]) -> list[Target]:
    lines = []
    for server, pools in figures.items():
        phases = pools[OURS]
        for name in ("2 ×", "10 ×"):
            found, what = phases[name], f"{server}, {name}"
            lines.append(Target(f"{what}: goodput ÷ peak", found["goodput"] / peak(figures, server), least=0.95))
            ratio = found["p99"] / phases["unloaded"]["p99"]
            lines.append(Target(f"{what}: p99 of those served ÷ unloaded", ratio, most=2))
            for share in ("p50", "p99"):
                refused = found[f"refused {share}"]
                lines.append(Target(f"{what}: refusals, {share}, ms", refused, most=20))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0, help="of each phase")
    parser.add_argument("--pool", action="append", choices=POOLS, help="only these")
    parser.add_argument("--server", action="append", choices=SERVERS, help="only these")
    chosen = parser.parse_args()
    figures = measure(chosen.seconds, chosen.server or (*SERVERS,), chosen.pool or (*POOLS,))
    print(report(figures), "", judged(targets(figures)), sep="\n")


if __name__ == "__main__":
    main()
