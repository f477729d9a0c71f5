"""What the transfers came to, and what the clients were told of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Protocol

from cluster.accounts import ACCOUNTS
from faults.load import Answer

TABLES = (
    "CREATE TABLE account (id INT PRIMARY KEY, balance INT)",
    # Its own number is no key, so that what was done twice is there twice.
    "CREATE TABLE ledger (number INT, source INT, target INT)",
)


class Server(Protocol):
    def execute(self, sql: str) -> int: ...
    def query(self, sql: str) -> list[tuple[object, ...]]: ...


@dataclass
class Row:
    """One run of one scenario, as the table shows it."""

    scenario: str
    servers: str
    retry: int
    requests: int
    kinds: Counter[str]
    """How many of the requests were answered in which way."""
    longest: float
    outage: float
    """Seconds from the first to the last 503."""
    lost: int
    """Acknowledged, but not in the ledger."""
    twice: int
    refused_written: int
    """In the ledger, although the client was told that nothing was done."""
    in_doubt: int
    """The COMMIT has failed, or the client got no answer: it cannot know whether anything was done."""
    doubt_written: int
    """How many of these are in the ledger."""
    exact: bool
    """Whether the balances are what the ledger makes them."""

    @property
    def unavailable(self) -> int:
        return self.kinds["503"]

    @property
    def failed(self) -> int:
        """Answered with a 500, or not at all."""
        return self.requests - self.kinds["served"] - self.unavailable

    @property
    def right(self) -> bool:
        return (self.lost, self.twice, self.refused_written, self.exact) == (0, 0, 0, True)


def prepare(server: Server) -> None:
    """Make the tables anew."""
    for name in ("account", "ledger"):
        server.execute(f"DROP TABLE IF EXISTS {name}")
    for sql in TABLES:
        server.execute(sql)
    server.execute(f"INSERT INTO account VALUES {', '.join(f'({number}, 0)' for number in range(1, ACCOUNTS + 1))}")


def audit(server: Server, seen: list[Answer], scenario: str, servers: str, retry: int) -> Row:
    """Hold what the clients were told against what the server has."""
    made = [tuple(map(int, map(str, row))) for row in server.query("SELECT number, source, target FROM ledger")]
    written = Counter(number for number, _, _ in made)
    balances = Counter(dict.fromkeys(range(1, ACCOUNTS + 1), 0))
    for _, source, target in made:
        balances[source] -= 1
        balances[target] += 1
    found = {int(str(number)): int(str(balance)) for number, balance in server.query("SELECT id, balance FROM account")}
    told: dict[str, list[int]] = {"served": [], "refused": [], "in doubt": []}
    for answer in seen:
        sure = answer.kind in ("served", "503") or answer.kind.startswith("refused")
        told["served" if answer.kind == "served" else "refused" if sure else "in doubt"].append(answer.number)
    unavailable = [answer.began for answer in seen if answer.kind == "503"]
    return Row(
        scenario=scenario,
        servers=servers,
        retry=retry,
        requests=len(seen),
        kinds=Counter(answer.kind for answer in seen),
        longest=max(answer.seconds for answer in seen),
        outage=max(unavailable) - min(unavailable) if unavailable else 0.0,
        lost=sum(not written[number] for number in told["served"]),
        twice=sum(count - 1 for count in written.values()),
        refused_written=sum(written[number] > 0 for number in told["refused"]),
        in_doubt=len(told["in doubt"]),
        doubt_written=sum(written[number] > 0 for number in told["in doubt"]),
        exact=found == dict(balances),
    )
