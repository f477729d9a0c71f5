"""host_connections: the sentences of docs/troubleshooting.md, provoked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.quoted import shown
from wsgidb import ConfigError, Database, DatabaseUnavailable, PoolTimeout


def test_options_that_do_not_fit(fakedb: FakeDB, tmp_path: Path) -> None:
    """It needs a board, and connections of wsgidb's own."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine("sqlite://", creator=fakedb.connect)
    with pytest.raises(ConfigError) as caught:
        Database(creator=fakedb.connect, host_connections=2)
    shown("host_connections: needs board, the directory", caught.value)
    with pytest.raises(ConfigError) as caught:
        Database(creator=engine, strategy="sqlalchemy", host_connections=2, board=str(tmp_path))
    shown("host_connections: the Engine makes its connections itself", caught.value)


@pytest.mark.parametrize(
    ("strategy", "line"),
    [
        ("pooled", "held by <requests>; all <n> connections of this host are in use"),
        ("per-request", "all <n> connections of this host are in use (host_connections)"),
    ],
)
def test_all_are_in_use(fakedb: FakeDB, tmp_path: Path, strategy: Any, line: str) -> None:
    """A request waits until its deadline."""
    with (
        Database(
            creator=fakedb.connect, strategy=strategy, host_connections=1, board=str(tmp_path), acquire_timeout=0.05
        ) as database,
        database.connection(),
    ):
        with pytest.raises(PoolTimeout) as caught:
            database.lease()
        shown(line, caught.value, whole=strategy == "per-request")


def test_a_board_that_cannot_be_used(fakedb: FakeDB, tmp_path: Path) -> None:
    """Without a place to count nothing is opened."""
    (tmp_path / "file").touch()
    with (
        Database(creator=fakedb.connect, host_connections=1, board=str(tmp_path / "file")) as database,
        pytest.raises(DatabaseUnavailable) as caught,
    ):
        database.lease()
    shown("host_connections cannot be counted in", caught.value)


@pytest.mark.server
def test_too_many_processes(mariadb: MariaDB, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One process may be too much."""
    with Database(mariadb.url(), board=str(tmp_path), pool_size=100_000) as database, database.connection():
        (line,) = [each.getMessage() for each in caplog.records if "processes may open" in each.getMessage()]
        shown("processes may open <n> connections", line, log=True)
