"""Threads that a request left behind, which go on using its connection while the next request has it.

    python tests/faults/leftovers.py URL [--rounds 20000] [--action commit]

runs the rounds of one driver for as long as asked, and prints what came of them. Each round is two leases of a pool of
one connection. A thread of the first one goes on with what its action says, in a loop, beyond the end of its lease. The
second one writes a row, reads it, and commits or rolls back. Afterwards another connection looks at what is there.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from wsgidb import Database, WsgiDBError

TABLE = "leftover"
FOREIGN = -1
"""What a leftover thread writes; no request commits it."""
LARGE = 2_000_000
"""Bytes of a statement that takes many writes to the socket."""
FAST_SWITCHES = 2e-5
"""Seconds between switches of threads: a race is then some hundred times as likely."""
LONGEST_WAIT = 0.0015
"""Seconds up to which the first lease lasts while its thread is at work."""

Action = Callable[[Any, Any], object]


def _fetch(conn: Any, cursor: Any) -> None:
    cursor.execute(f"SELECT a.n FROM {TABLE}_rows a, {TABLE}_rows b")
    for _ in cursor:
        pass


ACTIONS: dict[str, Action] = {
    "statement": lambda conn, cursor: cursor.execute(f"INSERT INTO {TABLE} (n) VALUES ({FOREIGN})"),
    "cursor": lambda conn, cursor: conn.cursor().execute(f"INSERT INTO {TABLE} (n) VALUES ({FOREIGN})"),
    "fetch": _fetch,
    "commit": lambda conn, cursor: conn.commit(),
    "rollback": lambda conn, cursor: conn.rollback(),
    "large": lambda conn, cursor: cursor.execute(f"INSERT INTO {TABLE} (n, text) VALUES ({FOREIGN}, '{'x' * LARGE}')"),
    "ping": lambda conn, cursor: conn.ping(),
}


class Rounds:
    """The rounds of one driver and one action. `found` counts what must not be, by kind."""

    def __init__(self, url: str, action: str, unbuffered: Any = None, **options: Any) -> None:
        self._action = ACTIONS[action]
        self._unbuffered = unbuffered
        self._database = Database(url, pool_size=1, **options)
        self._other = Database(url, pool_size=1)
        self.found: Counter[str] = Counter()
        self.done = 0
        with self._other.connection() as conn:
            cursor = conn.cursor()
            for name, columns in ((TABLE, "n INTEGER, text TEXT"), (f"{TABLE}_rows", "n INTEGER")):
                cursor.execute(f"DROP TABLE IF EXISTS {name}")
                cursor.execute(f"CREATE TABLE {name} ({columns})".replace("text TEXT", self._text(url)))
            for number in range(40):
                cursor.execute(f"INSERT INTO {TABLE}_rows VALUES ({number})")
            conn.commit()

    @staticmethod
    def _text(url: str) -> str:
        return "text LONGTEXT" if url.startswith("mysql") else "text TEXT"

    def run(self, rounds: int) -> None:
        """Run so many rounds, each with a number of its own."""
        with fast_switches():
            for _ in range(rounds):
                self.done += 1
                self._round(self.done)

    def _round(self, number: int) -> None:
        stop = threading.Event()
        began = threading.Event()
        left: list[threading.Thread] = []

        def leave_behind(conn: Any) -> None:
            cursor = conn.cursor() if self._unbuffered is None else self._unbuffered(conn)

            def go_on() -> None:
                began.set()
                try:
                    while not stop.is_set():
                        self._action(conn, cursor)
                except Exception:  # noqa: BLE001 - refused, or cut off: that is this thread's own affair
                    pass
                with suppress(Exception):  # psycopg warns of a named cursor that nobody closed
                    cursor.close()

            left.append(threading.Thread(target=go_on))
            left[0].start()

        with self._database.connection() as conn:
            leave_behind(conn)
            began.wait(10)
            stop.wait(random.uniform(0, LONGEST_WAIT))
        commits = bool(number % 2)
        try:
            self._second(number, commits)
        except _Undone:
            pass
        except Exception as error:  # noqa: BLE001 - whatever it is, this request had no part in it
            self.found[f"foreign error {type(error).__name__}: {error}"[:150]] += 1
            commits = False
        stop.set()
        left[0].join(30)
        if left[0].is_alive():
            self.found["thread that hangs"] += 1
        self._look(number, commits)

    def _second(self, number: int, commits: bool) -> None:
        """The request that must not notice anything."""
        with self._database.connection() as conn:
            cursor = conn.cursor()
            cursor.execute(f"INSERT INTO {TABLE} (n) VALUES ({number})")
            cursor.execute(f"SELECT n, {number} FROM {TABLE} WHERE n IN ({number}, {FOREIGN})")
            rows = [tuple(row) for row in cursor.fetchall()]
            if rows != [(number, number)]:
                self.found[f"foreign rows {rows}"[:150]] += 1
            cursor.close()
            if not commits:
                raise _Undone
            conn.commit()

    def _look(self, number: int, committed: bool) -> None:
        with self._other.connection() as conn:
            cursor = conn.cursor()
            cursor.execute(f"SELECT n FROM {TABLE}")
            rows = [row[0] for row in cursor.fetchall()]
            if FOREIGN in rows:
                self.found["foreign commit of what a leftover thread wrote"] += 1
            if committed and number not in rows:
                self.found["foreign rollback"] += 1
            if not committed and number in rows:
                self.found["foreign commit"] += 1
            cursor.execute(f"DELETE FROM {TABLE}")
            conn.commit()

    def close(self) -> None:
        """Close both Databases."""
        self._database.close()
        self._other.close()


class _Undone(WsgiDBError):
    """What a second request raises to have its work rolled back."""


@contextmanager
def fast_switches() -> Iterator[None]:
    """Let the interpreter change threads much more often."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(FAST_SWITCHES)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def main() -> int:
    """Run what the command line asks for. Returns 1 where anything was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--action", choices=[*ACTIONS], action="append")
    given = parser.parse_args()
    logging.getLogger("wsgidb").setLevel(logging.ERROR)  # thousands of connections are discarded, as they must be
    faults = 0
    for action in given.action or ACTIONS:
        rounds = Rounds(given.url, action)
        rounds.run(given.rounds)
        rounds.close()
        print(f"{action}: {rounds.done} rounds, found {dict(rounds.found) or 'nothing'}", flush=True)
        faults += rounds.found.total()
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
