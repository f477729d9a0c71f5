"""A few scenarios of `make cluster`, each once: what was acknowledged is there once, what was refused is not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster import plan, postgres, scenarios
from cluster.ledger import Row, audit, prepare
from cluster.scenarios import CLIENTS, behind
from faults.load import Answer
from support.galera import Galera
from support.haproxy import HAProxy
from support.mariadb import MariaDB
from support.pgbouncer import PgBouncer
from support.postgresql import PostgreSQL

pytestmark = [pytest.mark.slow, pytest.mark.server, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Galera]:
    with Galera() as made:
        yield made


def other_errors(row: Row) -> int:
    """Failures other than conflicts of two nodes, and what was refused outright."""
    return row.failed - row.kinds["refused: 1213"]


def test_galera_behind_haproxy(cluster: Galera) -> None:
    """R1, R9: kill -9 of the node that is written to costs the requests in progress at most, and a planned switch-over
    costs none but conflicts while two nodes are written to."""
    with HAProxy(cluster.nodes, galera=True) as proxy:
        stage = behind(proxy, cluster)
        row = scenarios.run("kill -9", stage, scenarios.killed)
        assert row.right, row
        # And what two nodes refuse each other when it is back, on a machine that may be busy.
        assert other_errors(row) <= 4 * CLIENTS, row
        row = scenarios.run("switch-over", stage, scenarios.switched)
        assert row.right, row
        assert other_errors(row) <= CLIENTS, row


def test_two_programs_behind_pgbouncer(postgresql: PostgreSQL) -> None:
    """C1: with fewer sessions than clients, each row gets into the table of its own program."""
    with PgBouncer(postgresql, "transaction", CLIENTS // 2) as bouncer:
        row = postgres.together(postgresql, bouncer, "PgBouncer")
    assert row.right, row
    assert row.kinds == {"served": 2 * postgres.EACH}


def test_the_ledger_finds_what_is_wrong(mariadb: MariaDB) -> None:
    """An acknowledged transfer that is missing, one that is there twice, one that was refused, and a wrong balance."""

    def answer(number: int, status: int, body: str) -> Answer:
        return Answer(f"/transfer/{number}", 0, 0, status, body)

    prepare(mariadb)
    mariadb.execute("INSERT INTO ledger VALUES (1, 1, 2), (1, 1, 2), (3, 1, 2), (5, 1, 2)")
    told = [answer(1, 200, "1"), answer(2, 200, "2"), answer(3, 503, "")]
    told += [answer(4, 500, "refused: 1"), answer(5, 500, "")]
    row = audit(mariadb, told, "name", "servers", 0)
    for name in ("account", "ledger"):
        mariadb.execute(f"DROP TABLE {name}")
    assert (row.lost, row.twice, row.refused_written, row.in_doubt, row.doubt_written) == (1, 1, 1, 1, 1)
    assert (row.exact, row.right, row.failed, row.unavailable) == (False, False, 2, 1)


def test_the_table_is_written_between_its_marks(tmp_path: Path) -> None:
    """make cluster replaces what is between the marks of the page, and nothing else; with --only other rows stay."""
    row = Row("a kill", "servers", 2, 9, Counter({"served": 5, "503": 1}), 1.25, 0.5, 0, 0, 0, 3, 1, True)
    line = "| a kill | servers | 2 | 9 | 1 in 0.5 s | 3 | 3, 1 done | 1.2 s | 0 | 0 | 0 | exact |"
    page = tmp_path / "page.md"
    page.write_text(f"before\n{plan.BEGIN}\nold\n{plan.END}\nafter\n")
    plan.write(page, "head", [plan.cells(row)])
    text = page.read_text()
    assert text.startswith(f"before\n{plan.BEGIN}\n\nhead\n\n| what happens |")
    assert text.endswith(f" --- |\n{line}\n\n{plan.END}\nafter\n")
    plan.write(page, "head", [plan.cells(replace(row, scenario="a stop"))], others=True)
    plan.write(page, "head", [plan.cells(replace(row, requests=8))], others=True)
    lines = page.read_text().splitlines()[7:9]
    assert lines == [line.replace("9 |", "8 |", 1).replace("| 3 | 3,", "| 2 | 3,"), line.replace("a kill", "a stop")]
    plan.write(page, "head", [plan.cells(row)])
    assert page.read_text() == text
