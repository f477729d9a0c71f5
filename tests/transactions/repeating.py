"""A site whose handler is called again when its transaction was undone, and what it did each time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from strategies.kit import Bank, get, run
from transactions.losses import GIVE, NOTE, TAKE
from wsgidb import Database, DatabaseMiddleware

Step = Callable[[Any, Any], object]


def each(*steps: Step) -> Step:
    """These steps, one after another."""

    def step(conn: Any, bank: Any) -> None:
        for each in steps:
            each(conn, bank)

    return step


def rollback(conn: Any, bank: Any) -> None:
    conn.rollback()


class Repeating:
    """A middleware with retry. Its handler takes, gives and notes money; `steps` are what it does at its first
    attempt, between taking and giving."""

    def __init__(self, bank: Bank, *steps: Step, **options: Any) -> None:
        self.bank, self.steps = bank, steps
        self.attempts: list[int] = []
        usual = {"transaction": "request", "retry": 2, "retry_if": lambda environ: True, "pool_size": 1}
        self.database = Database(bank.url, **{**usual, **options})
        self.middleware = DatabaseMiddleware(self.app, self.database)

    def app(self, environ: dict[str, Any], start: Any) -> Any:
        self.attempts.append(environ["wsgidb.attempt"])
        conn = environ["db.conn"]
        run(conn, TAKE)
        if len(self.attempts) == 1:
            for step in self.steps:
                step(conn, self.bank)
        run(conn, GIVE)
        run(conn, NOTE)
        return self.answer(environ, start)

    def answer(self, environ: dict[str, Any], start: Any) -> Any:
        start("200 OK", [("Content-Type", "text/plain")])
        return [b"done"]

    def request(self) -> int:
        """The status of a request. The application's exceptions come through."""
        with self.database:
            return get(self.middleware).status_code

    def tried(self) -> int | type[BaseException]:
        """The status of a request, or the class of the exception that has ended it."""
        try:
            return self.request()
        except Exception as error:  # noqa: BLE001 - it is looked at
            return type(error)

    @property
    def retries(self) -> int:
        return self.database.stats().retries
