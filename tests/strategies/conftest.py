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
    MariaDBBank,
    PostgreSQLBank,
    SQLiteBank,
    WiredBank,
)
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from wsgidb import Database

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
def wired_postgresql(postgresql: PostgreSQL, postgresql_proxy: TCPProxy) -> Iterator[PostgreSQLBank]:
    """The same on PostgreSQL."""
    with closing(PostgreSQLBank(postgresql, postgresql_proxy)) as bank:
        yield bank


BANKS = {"pymysql": "wired", "psycopg": "wired_postgresql"}


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
