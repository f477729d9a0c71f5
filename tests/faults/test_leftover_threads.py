"""R12: nothing that a leftover thread does reaches the next request, by any driver."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import mysql.connector.cursor
import MySQLdb.cursors
import pymysql.cursors
import pytest

from faults.leftovers import ACTIONS, Rounds

SCHEMES = {
    "pymysql": "mysql+pymysql",
    "mysqlclient": "mysql+mysqldb",
    "connector": "mysql+mysqlconnector",
    "psycopg": "postgresql+psycopg",
    "sqlite": "sqlite",
}
UNBUFFERED: dict[str, Callable[[Any], Any]] = {
    "pymysql": lambda conn: conn.cursor(pymysql.cursors.SSCursor),
    "mysqlclient": lambda conn: conn.cursor(MySQLdb.cursors.SSCursor),
    "connector": lambda conn: conn.cursor(cursor_class=mysql.connector.cursor.MySQLCursor),
    "psycopg": lambda conn: conn.cursor("leftover"),
}
NO_PING = {"psycopg", "sqlite"}
CASES = [(driver, action) for driver in SCHEMES for action in ACTIONS if action != "ping" or driver not in NO_PING]
FEW, MANY = 40, 1000


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database for one driver."""
    driver = request.param
    if driver == "sqlite":
        yield f"sqlite:///{tmp_path}/leftover.db?timeout=20"
    elif driver == "psycopg":
        yield request.getfixturevalue("postgresql").url()
    else:
        address: str = request.getfixturevalue("mariadb").url()
        yield address.replace("mysql+pymysql", SCHEMES[driver]) + ("?buffered=true" if driver == "connector" else "")


def nothing_reaches_the_next(url: str, action: str, rounds: int, unbuffered: Any = None) -> None:
    logging.getLogger("wsgidb").setLevel(logging.ERROR)
    try:
        with closing(Rounds(url, action, unbuffered)) as run:
            run.run(rounds)
            assert dict(run.found) == {}
            assert run.done == rounds
    finally:
        logging.getLogger("wsgidb").setLevel(logging.NOTSET)
        gc.collect()  # here, where what the drivers say of cursors and generators that were cut short is expected


def over(cases: list[tuple[str, str]]) -> pytest.MarkDecorator:
    params = [
        pytest.param(*case, marks=[pytest.mark.server] * (case[0] != "sqlite"), id="-".join(case)) for case in cases
    ]
    return pytest.mark.parametrize(("url", "action"), params, indirect=["url"])


@over(CASES)
def test_nothing_reaches_the_next_request(url: str, action: str) -> None:
    """Some rounds of each: no row, commit, rollback or error of the thread's in the request after its own."""
    nothing_reaches_the_next(url, action, FEW)


@pytest.mark.slow
@over(CASES)
def test_nothing_reaches_the_next_request_in_many_rounds(url: str, action: str) -> None:
    """As many as it took to see each of the faults that are mended."""
    nothing_reaches_the_next(url, action, MANY if action != "large" else MANY // 5)


# The drivers' own cursors complain when they are collected after their connection was discarded under them.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("rounds", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("url", "driver"), [pytest.param(name, name, marks=pytest.mark.server, id=name) for name in UNBUFFERED],
    indirect=["url"],
)  # fmt: skip
def test_rows_that_are_still_on_the_server(url: str, driver: str, rounds: int) -> None:
    """A fetch that reads from the socket while its lease ends."""
    nothing_reaches_the_next(url, "fetch", rounds, UNBUFFERED[driver])
