"""The fixtures of the strategy suite: every strategy × every driver, through the public face."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from strategies.kit import (
    DRIVERS,
    KEEPING,
    PER_THREAD,
    STRATEGIES,
    WIRED,
    Bank,
    ConnectorBank,
    MariaDBBank,
    MySQLClientBank,
    PostgreSQLBank,
    SQLiteBank,
    WiredBank,
)
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from wsgidb import Database

OTHERS = {"mysqlclient", "connector"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Every strategy × PyMySQL, psycopg and SQLite; MySQL's other drivers × the default strategy only: a strategy knows
    nothing of drivers, so that all would take long and tell nothing new."""

    def needed(item: pytest.Item) -> bool:
        given = getattr(getattr(item, "callspec", None), "params", {})
        if not OTHERS & {given.get(name) for name in ("networked", "bank", "server")}:
            return True
        strategies = {given[name] for name in ("strategy", "keeping", "per_thread") if name in given}
        return not strategies or bool(strategies & {"pooled", "thread-local" if "per_thread" in given else "pooled"})

    dropped = [item for item in items if not needed(item)]
    items[:] = [item for item in items if needed(item)]
    config.hook.pytest_deselected(items=dropped)


MakeDatabase = Callable[..., Database]


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(params=KEEPING)
def keeping(request: pytest.FixtureRequest) -> str:
    """A strategy that keeps connections between requests."""
    name: str = request.param
    return name


@pytest.fixture(params=PER_THREAD)
def per_thread(request: pytest.FixtureRequest) -> str:
    """A strategy that keeps a connection per thread."""
    name: str = request.param
    return name


@pytest.fixture
def wired(mariadb: MariaDB, proxy: TCPProxy) -> Iterator[MariaDBBank]:
    """A bank on MariaDB, for what only a server behind a network can suffer."""
    with closing(MariaDBBank(mariadb, proxy)) as bank:
        yield bank


@pytest.fixture
def wired_mysqlclient(mariadb: MariaDB, proxy: TCPProxy) -> Iterator[MariaDBBank]:
    """The same by mysqlclient,"""
    with closing(MySQLClientBank(mariadb, proxy)) as bank:
        yield bank


@pytest.fixture
def wired_connector(mariadb: MariaDB, proxy: TCPProxy) -> Iterator[MariaDBBank]:
    """by MySQL Connector/Python,"""
    with closing(ConnectorBank(mariadb, proxy)) as bank:
        yield bank


@pytest.fixture
def wired_postgresql(postgresql: PostgreSQL, postgresql_proxy: TCPProxy) -> Iterator[PostgreSQLBank]:
    """and on PostgreSQL."""
    with closing(PostgreSQLBank(postgresql, postgresql_proxy)) as bank:
        yield bank


BANKS = {
    "pymysql": "wired",
    "mysqlclient": "wired_mysqlclient",
    "connector": "wired_connector",
    "psycopg": "wired_postgresql",
}


@pytest.fixture(params=WIRED)
def networked(request: pytest.FixtureRequest) -> WiredBank:
    """A bank on each driver's server behind a network."""
    bank: WiredBank = request.getfixturevalue(BANKS[request.param])
    return bank


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.server] * (name != "sqlite")) for name in DRIVERS])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bank]:
    """A bank on each driver's database."""
    if request.param in WIRED:
        yield request.getfixturevalue(BANKS[request.param])
        return
    with closing(SQLiteBank(tmp_path / "bank.db")) as made:
        yield made


@pytest.fixture
def make() -> Iterator[MakeDatabase]:
    """Makes a Database like its constructor does; closed after the test."""
    with ExitStack() as stack:

        def make(*args: Any, **options: Any) -> Database:
            return stack.enter_context(Database(*args, **options))

        yield make


@pytest.fixture
def fake(fakedb: FakeDB, make: MakeDatabase) -> MakeDatabase:
    """Makes a Database whose driver is `fakedb`."""
    return lambda **options: make(creator=fakedb.connect, **options)
