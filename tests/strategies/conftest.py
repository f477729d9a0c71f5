"""The fixtures of the strategy suite: every strategy × every driver, through the public face.

Laws that a store keeps by itself, whatever its slots hold, run on the fake driver or on PyMySQL: S1, S3, S8, and S5
but for two tests. All others run over the five drivers.
"""

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
USUAL = {"strategy": "pooled", "keeping": "pooled", "per_thread": "thread-local"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The whole product takes minutes, so the part that is the least likely to tell something new is slow: MySQL's
    drivers beside PyMySQL × the strategies beside the usual one."""
    for item in items:
        given = getattr(getattr(item, "callspec", None), "params", {})
        other = OTHERS & {given.get(name) for name in ("networked", "bank", "server")}
        if other and any(given.get(name, usual) != usual for name, usual in USUAL.items()):
            item.add_marker(pytest.mark.slow)


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
    """A bank on MariaDB behind a network, through PyMySQL."""
    with closing(MariaDBBank(mariadb, proxy)) as bank:
        yield bank


@pytest.fixture
def wired_mysqlclient(mariadb: MariaDB, proxy: TCPProxy) -> Iterator[MariaDBBank]:
    """The same bank on MariaDB, through mysqlclient."""
    with closing(MySQLClientBank(mariadb, proxy)) as bank:
        yield bank


@pytest.fixture
def wired_connector(mariadb: MariaDB, proxy: TCPProxy) -> Iterator[MariaDBBank]:
    """The same bank on MariaDB, through MySQL Connector/Python."""
    with closing(ConnectorBank(mariadb, proxy)) as bank:
        yield bank


@pytest.fixture
def wired_postgresql(postgresql: PostgreSQL, postgresql_proxy: TCPProxy) -> Iterator[PostgreSQLBank]:
    """A bank on PostgreSQL behind a network."""
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
