"""A site under load: what its clients were told, and what came of it in the database."""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import quote

from support.mariadb import PASSWORDS, MariaDB
from support.servers import Server
from support.waiting import until

SECRETS = (PASSWORDS["app"], quote(PASSWORDS["app"], safe=""))
POSITION = "Wsgidb-Position"
LIMIT = 30.0
"""Seconds after which a client gives up: no answer in bounded time."""


@dataclass(frozen=True)
class Answer:
    """What one client was told."""

    path: str
    began: float
    seconds: float
    status: int | None
    """None: the server hung up."""
    body: str = ""
    retry_after: str | None = None
    position: str | None = None
    """The header with which a client reads its own writes from replicas."""

    @property
    def kind(self) -> str:
        """How it ended, in a word or two."""
        if self.status == 200:
            return "served"
        return "hung up" if self.status is None else "503" if self.status == 503 else self.body

    @property
    def ended(self) -> float:
        return self.began + self.seconds

    @property
    def number(self) -> int:
        return int(self.path.rpartition("/")[2])


class Seen(list[Answer]):
    """The answers that a load got, in the order in which they came."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = False

    @property
    def kinds(self) -> Counter[str]:
        return Counter(answer.kind for answer in self)

    def of(self, kind: str) -> list[Answer]:
        return [answer for answer in self if answer.kind == kind]

    @property
    def longest(self) -> float:
        return max(answer.seconds for answer in self)

    def more(self, kind: str = "served", count: int = 20) -> None:
        """Wait until so many more answers of a kind have come."""
        wanted = self.kinds[kind] + count
        until(lambda: self.kinds[kind] >= wanted, 20 + count / 10, f"{count} more answers: {kind}")

    def calm(self) -> float:
        """Wait until nobody was told of a fault for a while, all threads of the server included. Returns the time."""
        began = len(self)
        until(lambda: len(self) >= began + 20 and {answer.kind for answer in self[-20:]} == {"served"}, 30, "calm")
        return time.monotonic()

    def since(self, moment: float) -> set[str]:
        """How those ended that began after a moment."""
        return {answer.kind for answer in self if answer.began > moment}


class Site:
    """The application of `served.py` on a server; all it ever answers is kept in `answers`."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.answers: list[Answer] = []
        self.numbers = itertools.count(1)

    def get(self, path: str, method: str = "GET", position: str | None = None) -> Answer:
        """One request, on a connection of its own."""
        headers = {"Connection": "close", **({POSITION: position} if position else {})}
        began = time.monotonic()
        client = HTTPConnection("127.0.0.1", self.server.port, timeout=LIMIT)
        try:
            client.request(method, path, headers=headers)
            response = client.getresponse()
            body, retry = response.read().decode(), response.headers["Retry-After"]
            seconds = time.monotonic() - began
            answer = Answer(path, began, seconds, response.status, body, retry, response.headers[POSITION])
        except (HTTPException, ConnectionError):
            answer = Answer(path, began, time.monotonic() - began, None)
        finally:
            client.close()
        self.answers.append(answer)
        return answer

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = json.loads(self.get("/stats/0").body)
        return stats

    @contextmanager
    def load(self, handler: str = "pay", clients: int = 4, method: str = "GET") -> Iterator[Seen]:
        """So many clients ask all the time, each for one thing after the other, until the end of the block."""
        seen = Seen()

        def client() -> None:
            while not seen.stopped:
                seen.append(self.get(f"/{handler}/{next(self.numbers)}", method))

        threads = [threading.Thread(target=client, daemon=True) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield seen
        finally:
            seen.stopped = True
            for thread in threads:
                thread.join(LIMIT + 5)
        assert not any(thread.is_alive() for thread in threads), "a request was never answered"

    def burst(self, handler: str, requests: int = 4) -> list[Answer]:
        """Requests of one moment."""
        found: list[Answer] = []
        start = threading.Barrier(requests, timeout=LIMIT)

        def client() -> None:
            path = f"/{handler}/{next(self.numbers)}"
            start.wait()
            found.append(self.get(path))

        threads = [threading.Thread(target=client, daemon=True) for _ in range(requests)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT + 5)
        assert len(found) == requests, "a request was never answered"
        return found

    def tells_no_secrets(self) -> None:
        """What clients are told, and what the log says, has no password; a 503 tells nothing of the database."""
        for answer in self.answers:
            assert not any(secret in answer.body for secret in SECRETS)
            if answer.status == 503:
                assert (answer.body, answer.retry_after) == ("Service Unavailable\n", "1")
        said = self.server.said
        assert "served" in said, "the log was read"
        assert not any(secret in said for secret in SECRETS)
        assert all(error.startswith(EXPECTED) for error in errors(said)), errors(said)


TRACEBACK = re.compile(r"^Traceback \(most recent call last\):\n(?: .*\n)*(.*)$", re.MULTILINE)
CHAINED = ("\n\nDuring handling of the above exception", "\n\nThe above exception was the direct cause")


EXPECTED = ("pymysql.err.", "wsgidb.errors.TransactionLost")
"""How the errors begin whose tracebacks may be in the log: the driver's, and of a transaction that was lost."""


def errors(log: str) -> list[str]:
    """Each traceback's last line, without those of causes and contexts."""
    return [found[1] for found in TRACEBACK.finditer(log) if not log.startswith(CHAINED, found.end())]


class Ledger:
    """What the payments came to; created empty."""

    def __init__(self, server: MariaDB) -> None:
        self.server = server
        for sql in (
            "CREATE TABLE account (id INT PRIMARY KEY, balance INT)",
            # No key on the number: what was done twice is there twice.
            "CREATE TABLE ledger (number INT, place INT AUTO_INCREMENT PRIMARY KEY INVISIBLE)",
            "INSERT INTO account VALUES (1, 0), (2, 0)",
        ):
            server.execute(sql)

    def drop(self) -> None:
        self.server.execute("DROP TABLE account")
        self.server.execute("DROP TABLE ledger")

    @property
    def numbers(self) -> list[int]:
        """Those of the payments, in the order in which they were made."""
        return [number for (number,) in self.server.query("SELECT number FROM ledger ORDER BY place")]

    def agrees_with(self, seen: list[Answer]) -> None:
        """Each payment that was confirmed is there once, none that was refused is, none is there by half."""
        numbers = self.numbers
        assert len(numbers) == len(set(numbers)), "a payment was made twice"
        confirmed = {answer.number for answer in seen if answer.kind == "served" and answer.body == str(answer.number)}
        refused = {answer.number for answer in seen if answer.kind == "503"}
        assert confirmed <= set(numbers), "a confirmed payment was lost"
        assert not refused & set(numbers), "a refused payment was made"
        balances = [balance for (balance,) in self.server.query("SELECT balance FROM account ORDER BY id")]
        assert balances == [-len(numbers), len(numbers)], "a payment was made by half"


def asleep(server: MariaDB) -> list[int]:
    """The sessions that are in the middle of a slow request."""
    sql = "SELECT id FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP%'"
    return [session for (session,) in server.query(sql)]
