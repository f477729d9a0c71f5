"""A soak's application, and the clients that ask for it within the process."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pymysql

from support.wsgi import environment

if TYPE_CHECKING:
    from faults.soak import Soak

NEVER_CLOSED, CLOSED_EARLY, STREAMED, MISDEED, PAYMENT = 0.002, 0.004, 0.01, 0.03, 0.15
"""What a request is, by the number that was drawn for it: up to 0.002 a body that is never closed, and so on; all else
is a SELECT."""
THINK = 0.005
"""Seconds that a client waits after a 503, as it was asked to."""


def execute(conn: Any, sql: str) -> Any:
    with closing(conn.cursor()) as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


def pay(conn: Any, number: int, thread: int) -> None:
    execute(conn, f"UPDATE account SET balance = balance - 1 WHERE id = {2 * thread}")
    execute(conn, f"UPDATE account SET balance = balance + 1 WHERE id = {2 * thread + 1}")
    execute(conn, f"INSERT INTO ledger VALUES ({number})")
    conn.commit()


class Misdeed(Exception):
    """A handler's own mistake."""


def raises(conn: Any) -> None:
    execute(conn, "INSERT INTO never VALUES (1)")
    raise Misdeed


def forgets_to_commit(conn: Any) -> None:
    execute(conn, "INSERT INTO never VALUES (1)")


def swallows_an_error(conn: Any) -> None:
    execute(conn, "INSERT INTO never VALUES (1)")
    try:
        execute(conn, "SELEC 1")
    except pymysql.err.ProgrammingError:
        pass


def leaves_rows_unread(conn: Any) -> None:
    cursor = conn.cursor(pymysql.cursors.SSCursor)
    cursor.execute("SELECT 1 UNION SELECT 2")
    cursor.fetchone()


def closes_by_hand(conn: Any) -> None:
    conn.driver_connection.close()


def changes_autocommit(conn: Any) -> None:
    conn.autocommit(True)


MISDEEDS = (raises, forgets_to_commit, swallows_an_error, leaves_rows_unread, closes_by_hand, changes_autocommit)


class Client(threading.Thread):
    """Asks for one thing after the other, window by window, in a thread of its own for all of the run."""

    def __init__(self, soak: Soak, index: int) -> None:
        super().__init__(daemon=True)
        self.soak, self.index = soak, index
        self.random = random.Random(f"{soak.seed} {index}")
        self.forget()

    def forget(self) -> None:
        """Begin a new window."""
        self.requests = self.leases = 0
        self.errors: Counter[str] = Counter()
        self.unprovoked: Counter[str] = Counter()
        self.stall = self.served_at = 0.0
        self.confirmed: set[int] = set()
        self.refused: set[int] = set()

    def run(self) -> None:
        try:
            while True:
                self.soak.gate.wait()
                while not self.soak.over:
                    self.ask(next(self.soak.numbers))
                self.soak.gate.wait()
        except threading.BrokenBarrierError:
            pass  # the run is over
        except BaseException as error:  # noqa: BLE001 - told where the problems are
            self.soak.problems.append(f"a client ended: {error!r}")
            self.soak.gate.abort()

    def ask(self, number: int) -> None:
        """One request, and what became of it."""
        draw = self.random.random()
        self.requests += 1
        calm, began = self.soak.calm, time.monotonic()
        try:
            kind = self.serve(draw, number)
        except pymysql.Error as error:
            kind = f"error {error.args[0] if error.args else error}"
        except Misdeed:
            kind = ""
        ended = time.monotonic()
        self.stall = max(self.stall, ended - began)
        if kind:
            self.errors[kind] += 1
            self.unprovoked[kind] += calm and self.soak.calm
        elif began > self.soak.healed_at:
            self.served_at = self.served_at or ended
        if kind == "503":
            time.sleep(THINK)

    def serve(self, draw: float, number: int) -> str:
        """As a server does. Returns the kind of error, or nothing."""
        status: list[str] = []
        environ = environment("/", draw=draw, number=number, client=self)

        def start_response(line: str, headers: Any, exc_info: Any = None) -> Callable[[bytes], object]:
            status.append(line)
            return lambda data: None

        body = self.soak.app(environ, start_response)
        if status and status[0].startswith("503"):
            self.refused.add(number)
            return "503"
        if draw < NEVER_CLOSED:
            return ""  # never closed: garbage collection's
        try:
            for _ in body:
                if draw < CLOSED_EARLY:
                    break
        finally:
            if hasattr(body, "close"):
                body.close()
        if MISDEED <= draw < PAYMENT:
            self.confirmed.add(number)
        return ""

    def handle(self, environ: dict[str, Any], start_response: Any) -> Any:
        conn, draw, number = environ["db.conn"], environ["draw"], environ["number"]
        self.leases += 1
        if draw < STREAMED:
            execute(conn, "SELECT 1")
            start_response("200 OK", [])
            return (chunk for chunk in (b"a", b"b"))
        if draw < MISDEED:
            self.random.choice(MISDEEDS)(conn)
        elif draw < PAYMENT:
            pay(conn, number, self.index)
        elif execute(conn, f"SELECT {number}") != ((number,),):
            raise AssertionError("somebody else's answer")
        start_response("200 OK", [])
        return [b"done"]
