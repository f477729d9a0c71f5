"""The warning of too many processes for the server."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Any

import pytest

from strategies.kit import in_child
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.quoted import shown
from wsgidb import Database

GRANTED = "SELECT @@max_connections"


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Any:
    caplog.set_level(logging.WARNING, "wsgidb")
    # Without what garbage of other tests logs when it is collected.
    return lambda: [line for line in map(logging.LogRecord.getMessage, caplog.records) if "grants" in line]


def use(database: Database) -> None:
    with database.connection():
        pass


@pytest.mark.server
@pytest.mark.parametrize("server", ["mariadb", "postgresql"])
def test_two_processes_are_too_many(server: str, request: pytest.FixtureRequest, tmp_path: Path, said: Any) -> None:
    """board: the second process finds that both together may open more than the server grants; each asks once."""
    found: MariaDB | PostgreSQL = request.getfixturevalue(server)
    granted = int(found.query(GRANTED if server == "mariadb" else "SHOW max_connections")[0][0])
    options: dict[str, Any] = {"board": str(tmp_path), "pool_size": granted // 2 + 1, "name": "shop"}
    later = [0.0]
    with Database(found.url(), clock=lambda: time.monotonic() + later[0], **options) as database:
        use(database)
        assert said() == [], "one process is not too much"

        def child() -> list[str]:
            for later[0] in (2.0, 4.0):
                use(database)
            return list(said())

        (line,) = in_child(child)
        shown("processes may open", line, log=True)
        assert f"2 processes may open {2 * (granted // 2 + 1)} connections" in line


@pytest.mark.server
def test_nothing_is_asked_without_need(mariadb: MariaDB, tmp_path: Path, said: Any) -> None:
    """C4: without a board, with host_connections, or without a limit of a process, there is no further connection."""
    for options in (
        {},
        {"board": str(tmp_path), "host_connections": 2},
        {"board": str(tmp_path), "strategy": "thread-local"},
    ):
        before = mariadb.query("SHOW GLOBAL STATUS LIKE 'Connections'")[0][1]
        with Database(mariadb.url(), pool_size=100_000, **options) as database:
            use(database)
            after = mariadb.query("SHOW GLOBAL STATUS LIKE 'Connections'")[0][1]
        assert int(after) - int(before) == 2, "the other one asks for the counter"
    assert said() == []


@pytest.mark.server
def test_a_failure_harms_nobody(mariadb: MariaDB, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """O1: where the server grants no other connection, the request goes on."""
    caplog.set_level(logging.DEBUG, "wsgidb")
    mariadb.execute("CREATE USER one@'%' WITH MAX_USER_CONNECTIONS 1")
    mariadb.execute("GRANT ALL ON test.* TO one@'%'")
    try:
        with Database(mariadb.url("one"), board=str(tmp_path)) as database:
            use(database)
            assert database.stats().discards == {}
        assert any("the server cannot be asked" in record.getMessage() for record in caplog.records)
    finally:
        mariadb.execute("DROP USER one@'%'")
