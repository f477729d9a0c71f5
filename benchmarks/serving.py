"""The city application of one row under uWSGI, and measurements of it and its database while wrk loads it."""

from __future__ import annotations

import http.client
import json
import os
import re
import subprocess
import sys
import sysconfig
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from peers import BY_NAME, THREADS

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.client import connect, value
from support.mariadb import MariaDB
from support.ports import bind
from support.waiting import until

HERE = Path(__file__).parent
PAGE = "/?city=london"
FOUND = b'City "london" is #17'
WARM_UP = 1
"""Requests that each of as many clients as there are threads sends before a load is measured."""
SESSIONS = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'guest'"
TICKS = os.sysconf("SC_CLK_TCK")
SCHEMA = [
    "CREATE TABLE IF NOT EXISTS city (city_id INT PRIMARY KEY, city VARCHAR(50) NOT NULL, KEY (city))",
    "REPLACE INTO city SELECT seq, IF(seq = 17, 'london', CONCAT('city ', seq)) FROM seq_1_to_600",
]


@contextmanager
def database(tls: bool = False) -> Iterator[MariaDB]:
    """Yield a MariaDB server that is started for the benchmark, with the table of cities."""
    with MariaDB(tls=tls, max_connections=1000) as server:  # all rows keep their connections at the same time
        for sql in SCHEMA:
            server.query(sql)
        yield server


@dataclass(frozen=True)
class Load:
    """The figures of one run of wrk, and what the run cost."""

    rate: float
    """Requests per second."""
    p50: float
    """Percentiles of the response times, in ms."""
    p99: float
    app_cpu: float
    """CPU time per request, in ms: of the application's process, and of the database's."""
    server_cpu: float
    errors: int


class City:
    """One row's application, as a uWSGI process of its own with 16 threads."""

    def __init__(
        self,
        row: str,
        framework: str,
        driver: str,
        server: MariaDB,
        log: Path,
        tls: str = "disabled",
        **options: Any,
    ) -> None:
        """*options* are further ones of wsgidb's, for a row of wsgidb's."""
        self.row, self.framework, self.server = row, framework, server
        self._log = log
        self._reserved = bind()
        self.port: int = self._reserved.getsockname()[1]
        environ = {"BENCH_ROW": row, "BENCH_FRAMEWORK": framework, "BENCH_DRIVER": driver, "BENCH_TLS": tls}
        environ["BENCH_OPTIONS"] = json.dumps(options)
        path = os.pathsep.join([str(HERE), str(HERE.parent), sysconfig.get_path("purelib")])
        command = [
            *(str(Path(sys.executable).with_name("uwsgi")), "--http-socket", f"127.0.0.1:{self.port}"),
            *("--module", "city", "--callable", "application", "--need-app", "--single-interpreter"),
            *("--processes", "1", "--threads", str(THREADS), "--die-on-term", "--disable-logging"),
            # uWSGI closes the connection after each response without saying so, which wrk counts as an error.
            *("--add-header", "Connection: close"),
            *("--listen", "64", "--pythonpath", str(HERE), "--pythonpath", sysconfig.get_path("purelib")),
        ]
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "TERM", *command],
                stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**os.environ, **environ, "PYTHONPATH": path, "BENCH_URL": server.url()},
            )  # fmt: skip

    def __enter__(self) -> City:
        try:
            until(self._serves, 60, f"{self.row} to serve")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._reserved.close()

    def _serves(self) -> bool:
        assert self._process.poll() is None, self._log.read_text(errors="replace")[-3000:]
        try:
            self.ask()
        except ConnectionError:
            return False
        return True

    def ask(self) -> None:
        """Send one request. Its response must be right."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            client.request("GET", PAGE)
            reply = client.getresponse()
            body = reply.read()
        finally:
            client.close()
        assert (reply.status, body) == (200, FOUND), (reply.status, body, self._log.read_text(errors="replace")[-3000:])

    def trips(self, requests: int = 50) -> dict[str, float]:
        """The round trips and statements per request, as the database server counts them, one request after the other.

        A connection counts as one round trip, although opening it takes two or more."""
        with closing(connect(self.server.url("root"))) as watcher:
            others = 0 if BY_NAME[self.row].keeps else self._sessions(watcher)
            self._ask_at_once(20)  # so that each thread has a connection
            self._rest(watcher, others)
            before = self._counted(watcher)
            for _ in range(requests):
                self.ask()
            reads = self._rest(watcher, others) + 1
            after = self._counted(watcher)
        grown = {name: after[name] - before[name] for name in before}
        grown["Questions"] -= reads  # those of this function
        trips = grown["Questions"] + grown["Com_admin_commands"] + grown["Connections"]
        found = {"trips": trips, "statements": grown["Questions"], "connects": grown["Connections"]}
        return {name: number / requests for name, number in found.items()}

    def _sessions(self, watcher: Any) -> int:
        """The sessions of the other rows. One of this row may be about to end."""
        found: list[int] = []
        for _ in range(25):
            found.append(value(watcher, SESSIONS))
            time.sleep(0.02)  # the lowest of several counts is used, because nothing tells when that session has ended
        return min(found)

    def _rest(self, watcher: Any, others: int) -> int:
        """Wait until the server has received the goodbyes, which may be after the response. Returns the number of
        queries that this took."""
        if BY_NAME[self.row].keeps:
            return 0
        reads = count(1)
        until(lambda: (next(reads), value(watcher, SESSIONS) <= others)[1], what="sessions to end")
        return next(reads) - 1

    def _ask_at_once(self, times: int) -> None:
        """Let as many clients as there are threads send this number of requests each."""
        with ThreadPoolExecutor(THREADS) as clients:
            for _ in range(times):
                list(clients.map(lambda _: self.ask(), range(THREADS)))

    def _counted(self, watcher: Any) -> dict[str, int]:
        names = "'Questions', 'Com_admin_commands', 'Connections'"
        with watcher.cursor() as cursor:
            cursor.execute(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})")
            return {name: int(number) for name, number in cursor.fetchall()}

    def load(self, clients: int, seconds: float) -> Load:
        """Let wrk load the row for this many seconds, after some requests that are not counted.

        Those come first because the row was idle during the turns of the others, so that each connection that is
        validated would be pinged once more."""
        self._ask_at_once(WARM_UP)
        before = self._cpu()
        said = self._wrk(clients, seconds)
        after = self._cpu()
        found = re.search(r"^REPORT (\{.*\})$", said, re.MULTILINE)
        assert found, said
        report: dict[str, Any] = json.loads(found[1])
        served = max(report["requests"], 1)
        app, server = ((late - early) * 1000 / served for early, late in zip(before, after, strict=True))
        return Load(report["rate"], report["p50"], report["p99"], app, server, report["errors"])

    def _wrk(self, clients: int, seconds: float) -> str:
        script = HERE / "report.lua"
        url = f"http://127.0.0.1:{self.port}{PAGE}"
        # wrk takes whole seconds only. For a fraction it is stopped by a signal, after which it still reports.
        wrk = subprocess.Popen(
            ["wrk", "-t", "1", "-c", str(clients), "-d", "60", "-s", str(script), url],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            wrk.wait(seconds)
        except subprocess.TimeoutExpired:
            wrk.send_signal(2)
        said, complaints = wrk.communicate(timeout=30)
        return said + complaints

    def siege(self, requests: float) -> dict[str, Any]:
        """Run siege for a number of requests. If it were run for a time, it would cancel its threads wherever they are,
        and might hang (https://github.com/JoeDog/siege/pull/180)."""
        url = f"http://127.0.0.1:{self.port}{PAGE}"
        each = max(round(requests / THREADS), 1)
        command = ["siege", "--benchmark", f"--reps={each}", f"--concurrent={THREADS}", "--json-output", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        found: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
        return found

    def _cpu(self) -> tuple[float, float]:
        """The seconds of CPU used so far by the application's process, and by the database's."""
        return _seconds(self._process.pid), _seconds(self.server.pid)


def _seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS
