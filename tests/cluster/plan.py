"""All scenarios, in the order of the table, and the table itself."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from cluster import postgres, replicated
from cluster import scenarios as faults
from cluster.ledger import Row
from cluster.scenarios import Fault, behind, hosts_of, run
from support.galera import Galera
from support.haproxy import HAProxy

BEGIN, END = "<!-- figures: written by benchmarks/failovers.py --write-docs -->", "<!-- end of the figures -->"
HEAD = (
    *("what happens", "servers", "`retry`", "requests", "503", "500", "of these by the COMMIT", "longest"),
    *("acknowledged but lost", "done twice", "refused but written", "money"),
)
KEY = 3
"""How many cells tell what a row is about."""
RETRIES = (0, 10)


@dataclass(frozen=True)
class Planned:
    """A scenario of a Galera cluster."""

    name: str
    fault: Fault
    query: str | None = "target_session_attrs=read-write"
    """The end of the url that has all nodes, or None for the address of HAProxy."""


RANDOM = "target_session_attrs=read-write&load_balance_hosts=random"
GALERA = (
    Planned("kill -9 of the node that is written to; it rejoins", faults.killed),
    Planned("the same node is shut down and rejoins", faults.stopped),
    Planned("it freezes, thaws and rejoins", faults.frozen),
    Planned("two of three nodes are killed: no quorum, until they are back", faults.no_quorum),
    Planned("all nodes are written to, 20 hot rows", faults.nothing, RANDOM),
    Planned("kill -9 of the node that is written to; it rejoins", faults.killed, None),
    Planned("the same node is shut down and rejoins", faults.stopped, None),
    Planned("it freezes, thaws and rejoins", faults.frozen, None),
    Planned("planned switch-over with `drain()`", faults.switched, None),
    Planned("switch-over and back to the first node", faults.failed_back, None),
)


def rows(only: str = "") -> Iterator[Row]:
    """Run all scenarios in whose name or servers `only` is found."""
    yield from galera_rows(only)
    yield from replicated.rows(only, RETRIES)
    yield from postgres.rows(only, RETRIES)


def galera_rows(only: str) -> Iterator[Row]:
    chosen = [
        each for each in GALERA if only.lower() in f"{each.name} galera {'haproxy' if each.query is None else 'hosts'}"
    ]
    if not chosen:
        return
    with Galera() as cluster, HAProxy(cluster.nodes, galera=True) as proxy:
        for each in chosen:
            stage = behind(proxy, cluster) if each.query is None else hosts_of(cluster, each.query)
            for retry in RETRIES:
                yield run(each.name, stage, each.fault, retry)


def cells(row: Row) -> tuple[str, ...]:
    return (
        *(row.scenario, row.servers, str(row.retry), str(row.requests)),
        f"{row.unavailable} in {row.outage:.1f} s" if row.unavailable else "0",
        str(row.failed),
        *(f"{row.in_doubt}, {row.doubt_written} done" if row.in_doubt else "0", f"{row.longest:.1f} s"),
        *(str(row.lost), str(row.twice), str(row.refused_written)),
        "exact" if row.exact else "**wrong**",
    )


def table(found: Iterable[tuple[str, ...]]) -> str:
    lines = [HEAD, ("---",) * len(HEAD), *found]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write(page: Path, head: str, found: Iterable[tuple[str, ...]], others: bool = False) -> None:
    """Put the head and the table between the page's marks. With `others` the rows of other scenarios remain."""
    text = page.read_text()
    before, begin, rest = text.partition(f"{BEGIN}\n")
    old, end, after = rest.partition(END)
    assert end, f"{page} has no place for the table"
    lines = [line for line in old.splitlines() if line.startswith("|")][2:]
    kept = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines] if others else []
    rows = {row[:KEY]: row for row in (*kept, *found)}
    page.write_text(f"{before}{begin}\n{head}\n\n{table(rows.values())}\n{end}{after}")
