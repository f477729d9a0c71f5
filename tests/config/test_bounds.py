"""The upper bounds of the time limits: every driver works with them."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import pytest

from wsgidb import Database
from wsgidb.config.option import WEEK
from wsgidb.config.options import OPTIONS

LIMITS: Any = {name: WEEK for name in OPTIONS if name.endswith("_timeout")}
WAIT = {"mariadb": "SELECT SLEEP(0.01)", "postgresql": "SELECT pg_sleep(0.01)"}


@pytest.mark.server
@pytest.mark.parametrize("scheme", ["mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector", "postgresql+psycopg"])
def test_every_driver_works_with_the_longest_time_limits(request: pytest.FixtureRequest, scheme: str) -> None:
    """Connecting, statements, pings and rollbacks neither fail nor end early with the largest value of each limit."""
    server = "postgresql" if scheme.startswith("postgresql") else "mariadb"
    address = request.getfixturevalue(server).url().partition("://")[2]
    with Database(f"{scheme}://{address}", ping_after=0, pool_size=1, **LIMITS) as database:
        for _ in range(2):
            with database.connection() as conn, closing(conn.cursor()) as cursor:
                cursor.execute(WAIT[server])
                assert len(cursor.fetchall()) == 1
        stats = database.stats()
    assert (stats.connects, stats.pings, stats.pings_failed, stats.discards) == (1, 1, 0, {})


@pytest.mark.parametrize("most", [{"timeout": WEEK}, {"cached_statements": 1_000_000}, {"detect_types": 3}], ids=str)
def test_sqlite_works_with_the_largest_values(tmp_path: Any, most: dict[str, int]) -> None:
    """The options in a url of SQLite have bounds too."""
    ((name, value),) = most.items()
    with Database(f"sqlite:///{tmp_path}/file.db?{name}={value}") as database, database.connection() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)
