"""R12: what psycopg hands out beside cursors, in threads that a request left behind."""

from __future__ import annotations

from typing import Any

import psycopg
import psycopg.types.string
import pytest

from faults import leftovers
from faults.leftovers import FOREIGN, TABLE, Action
from faults.test_leftover_threads import FEW, MANY, nothing_reaches_the_next
from support.postgresql import PostgreSQL

pytestmark = [
    pytest.mark.server,
    # A lease ends at any point of what psycopg does.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]
WRITE = f"INSERT INTO {TABLE} (n) VALUES ({FOREIGN})"


def transaction(conn: Any, cursor: Any) -> None:
    with conn.transaction():
        conn.execute(WRITE)
        raise psycopg.Rollback


def by_hand(conn: Any, cursor: Any) -> None:
    psycopg.ClientCursor(conn).execute(WRITE)


def many(conn: Any, cursor: Any) -> None:
    psycopg.Cursor(conn).executemany(f"INSERT INTO {TABLE} (n) VALUES (%s)", [(FOREIGN,)] * 3)


def stream(conn: Any, cursor: Any) -> None:
    for _ in psycopg.Cursor(conn).stream(f"SELECT n FROM {TABLE}_rows"):
        pass


def named(conn: Any, cursor: Any) -> None:
    with psycopg.ServerCursor(conn, "left") as own:
        own.itersize = 3
        own.execute(f"SELECT n FROM {TABLE}_rows")
        for _ in own:
            pass


def copy_in(conn: Any, cursor: Any) -> None:
    with psycopg.Cursor(conn).copy(f"COPY {TABLE} (n) FROM STDIN") as copy:
        for _ in range(200):
            copy.write_row((FOREIGN,))


def copy_out(conn: Any, cursor: Any) -> None:
    with psycopg.Cursor(conn).copy(f"COPY {TABLE}_rows TO STDOUT") as copy:
        for _ in copy.rows():
            pass


def pipeline(conn: Any, cursor: Any) -> None:
    with conn.pipeline() as left:
        conn.execute(WRITE)
        left.sync()


def settings(conn: Any, cursor: Any) -> None:
    conn.rollback()
    conn.autocommit = True
    conn.adapters.register_dumper(int, psycopg.types.string.StrDumper)
    conn.autocommit = False


def cancel(conn: Any, cursor: Any) -> None:
    conn.cancel()


ACTIONS: tuple[Action, ...] = (
    *(transaction, by_hand, many, stream, named, copy_in, copy_out, pipeline, settings, cancel),
)


@pytest.mark.parametrize("rounds", [FEW, pytest.param(MANY, marks=pytest.mark.slow)])
@pytest.mark.parametrize("action", ACTIONS)
def test_nothing_reaches_the_next_request(
    postgresql: PostgreSQL, action: Any, rounds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No row, commit, rollback, setting or error of the thread's in the request after its own."""
    monkeypatch.setitem(leftovers.ACTIONS, action.__name__, action)
    nothing_reaches_the_next(postgresql.url(), action.__name__, rounds)
