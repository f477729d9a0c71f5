"""What recording statements costs: a bare PyMySQL cursor and one through wsgidb, side by side in one run.

    python benchmarks/statement_cost.py mysql+pymysql://guest@127.0.0.1/test     # your own server, read only
    python benchmarks/statement_cost.py                                          # starts a server, as the tests do

Each line is one operation, in microseconds: bare, through wsgidb, and the difference. In the lines with "memory" the
replies are not read from the server, but repeated from memory: they show the cost of Python alone, without the noise of
network and server. Both sides are measured in turn, many times. The minimum of all rounds is printed, and the median of
the differences between neighbouring measurements. Nothing else should run at the same time.

Targets: 1.5 µs for an execute, 0 for a row fetched.
"""

from __future__ import annotations

import argparse
import io
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pymysql
from pymysql.cursors import Cursor, SSCursor

from wsgidb import Database
from wsgidb.config.settings import Settings

ROUNDS = 300
ROWS = 1000
MANY = f"SELECT seq, 'a city' FROM seq_1_to_{ROWS}"
SELECT, UPDATE = "SELECT 1", "SAVEPOINT kept"
Operation = Callable[[Any], Callable[[], object]]


class Memory:
    """A socket and its file in one, which answers every command with the same bytes."""

    def __init__(self, reply: bytes) -> None:
        self._reply = io.BytesIO(reply)
        self.read = self._reply.read

    def sendall(self, data: bytes) -> None:
        self._reply.seek(0)

    def settimeout(self, seconds: float | None) -> None:
        pass


class Recorder:
    def __init__(self, file: Any) -> None:
        self._file = file
        self.heard = b""

    def read(self, size: int) -> bytes:
        data: bytes = self._file.read(size)
        self.heard += data
        return data


@contextmanager
def from_memory(raw: Any, sql: str) -> Iterator[None]:
    """Make the connection answer from memory with what its server replies to this statement."""
    sock, file = raw._sock, raw._rfile
    raw._rfile = recorder = Recorder(file)
    raw.query(sql)
    raw._sock = raw._rfile = raw._own_socket = Memory(recorder.heard)
    try:
        yield
    finally:
        raw._sock, raw._rfile, raw._own_socket = sock, file, sock


def execute(sql: str) -> Operation:
    def prepare(conn: Any) -> Callable[[], object]:
        run = conn.cursor().execute
        return lambda: run(sql)

    return prepare


def cursor(conn: Any) -> Callable[[], object]:
    return lambda: conn.cursor().close()


def once(work: Callable[[], object], times: int) -> float:
    """The seconds that one call takes, as the average of this many."""
    repeat = range(times)
    began = time.perf_counter()
    for _ in repeat:
        work()
    return (time.perf_counter() - began) / times


def compare(bare: Callable[[], float], ours: Callable[[], float], rounds: int) -> tuple[float, float, float]:
    """The fastest of each, and the median of the differences between wsgidb's and the bare one beside it."""
    pairs = []
    for number in range(rounds):
        first, second = (bare, ours) if number % 2 else (ours, bare)
        one, other = first(), second()
        pairs.append((one, other) if number % 2 else (other, one))
    return (
        min(pair[0] for pair in pairs),
        min(pair[1] for pair in pairs),
        statistics.median(mine - theirs for theirs, mine in pairs),
    )


def timed(operation: Operation, times: int) -> Callable[[Any], Callable[[], float]]:
    def prepare(conn: Any) -> Callable[[], float]:
        work = operation(conn)
        return lambda: once(work, times)

    return prepare


def timed_rows(method: str, kind: type[Cursor]) -> Callable[[Any], Callable[[], float]]:
    """The seconds that one row takes, without the statement itself."""

    def prepare(conn: Any) -> Callable[[], float]:
        cursor = conn.cursor(kind)

        def measure() -> float:
            cursor.execute(MANY)
            fetchone, fetchall = cursor.fetchone, cursor.fetchall
            began = time.perf_counter()
            if method == "fetchall":
                fetchall()
            else:
                while fetchone():
                    pass
            return (time.perf_counter() - began) / ROWS

        return measure

    return prepare


LINES: list[tuple[str, str, bool, Callable[[Any], Callable[[], float]]]] = [
    ("execute, a result set", SELECT, True, timed(execute(SELECT), 100)),
    ("execute, none", UPDATE, True, timed(execute(UPDATE), 100)),
    ("execute, a result set", SELECT, False, timed(execute(SELECT), 20)),
    ("fetchone, a row", MANY, False, timed_rows("fetchone", Cursor)),
    ("fetchone, a row of SSCursor", MANY, False, timed_rows("fetchone", SSCursor)),
    ("fetchall, a row", MANY, False, timed_rows("fetchall", Cursor)),
    ("cursor() and close()", SELECT, False, timed(cursor, 100)),
]


def connect(url: str) -> Any:
    parts = Settings.of({"url": url}).url
    assert parts is not None
    login: dict[str, Any] = {"user": parts.user, "password": parts.password or "", "database": parts.name}
    host, port = parts.hosts[0]
    return pymysql.connect(host=host, port=port or 3306, ssl_disabled=True, autocommit=True, **login)


def report(url: str, rounds: int) -> None:
    print(f"{'operation, µs':32}{'':8}{'transaction':14}{'bare':>8}{'wsgidb':>9}{'added':>8}{'median':>8}")
    for transaction in ("autocommit", "request"):
        with Database(url, ssl_mode="disabled", transaction=transaction) as database, database.connection() as conn:
            bare = connect(url)
            raw = conn.driver_connection
            for name, sql, memory, prepare in LINES:
                if memory:
                    with from_memory(bare, sql), from_memory(raw, sql):
                        found = compare(prepare(bare), prepare(conn), rounds)
                else:
                    found = compare(prepare(bare), prepare(conn), rounds // 3)
                theirs, mine, middle = (1e6 * seconds for seconds in found)
                where = "memory" if memory else "server"
                added = f"{mine - theirs:8.2f}{middle:8.2f}"
                print(f"{name:32}{where:8}{transaction:14}{theirs:8.2f}{mine:9.2f}{added}")
            bare.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("url", nargs="?", help="of a MariaDB server (for its tables seq_1_to_n)")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    arguments = parser.parse_args()
    if arguments.url is not None:
        return report(arguments.url, arguments.rounds)
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
    from support.mariadb import MariaDB

    with MariaDB() as server:
        report(server.url(), arguments.rounds)


if __name__ == "__main__":
    main()
