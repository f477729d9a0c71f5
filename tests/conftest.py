"""The fixtures that all tests share."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from support.clock import Clock
from support.exceptions import expect_failures
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.pgpackets import MessageReader
from support.proxy import TCPProxy

if TYPE_CHECKING:
    from support.postgresql import PostgreSQL  # imports psycopg, which is not in every environment of tox
    from support.replication import MariaDBReplication, PostgreSQLReplication


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-docs", action="store_true", help="write the tables that tests make into docs/")


def pytest_configure() -> None:
    """Let Hypothesis judge nothing by the time that it takes, which is a matter of the machine."""
    if find_spec("hypothesis") is not None:  # it is not in every environment of tox
        from hypothesis import HealthCheck, settings

        slow = [HealthCheck.too_slow]
        settings.register_profile("patient", settings.default, deadline=None, suppress_health_check=slow)
        settings.load_profile("patient")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    expect_failures(items)


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDB]:
    """The server that all tests of a worker share: leave it running, its variables as they were, and tables dropped."""
    with MariaDB() as server:
        yield server


@pytest.fixture(scope="session")
def tls_mariadb() -> Iterator[MariaDB]:
    """Like `mariadb`, but it offers TLS; ``.ca`` is the path of its authority."""
    with MariaDB(tls=True) as server:
        yield server


@pytest.fixture
def own_mariadb() -> Iterator[MariaDB]:
    """A server of the test's own, to kill, freeze, restart or fill. A new one each time: that takes 0.2 s."""
    with MariaDB() as server:
        yield server


@pytest.fixture
def proxy(mariadb: MariaDB) -> Iterator[TCPProxy]:
    """A network of the test's own in front of `mariadb`."""
    with TCPProxy(mariadb.port) as between:
        yield between


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSQL]:
    """The PostgreSQL server that all tests of a worker share, as `mariadb` is."""
    from support.postgresql import PostgreSQL

    with PostgreSQL() as server:
        yield server


@pytest.fixture(scope="session")
def tls_postgresql() -> Iterator[PostgreSQL]:
    """Like `postgresql`, but it offers TLS; ``.ca`` is the path of its authority."""
    from support.postgresql import PostgreSQL

    with PostgreSQL(tls=True) as server:
        yield server


@pytest.fixture
def own_postgresql() -> Iterator[PostgreSQL]:
    """A server of the test's own, to kill, freeze, restart or fill."""
    from support.postgresql import PostgreSQL

    with PostgreSQL() as server:
        yield server


@pytest.fixture
def postgresql_proxy(postgresql: PostgreSQL) -> Iterator[TCPProxy]:
    """A network of the test's own in front of `postgresql`."""
    with TCPProxy(postgresql.port, MessageReader) as between:
        yield between


@pytest.fixture(scope="session")
def _mariadb_replication() -> Iterator[MariaDBReplication]:
    from support.replication import mariadb_replication

    with mariadb_replication(2) as servers:
        yield servers


@pytest.fixture
def replicated_mariadb(_mariadb_replication: MariaDBReplication) -> Iterator[MariaDBReplication]:
    """A primary with two replicas, which all tests of a worker share: drop the tables. Whatever else was done to the
    servers is undone, and the replicas have no lag."""
    yield _mariadb_replication
    _mariadb_replication.heal()


@pytest.fixture(scope="session")
def _postgresql_replication() -> Iterator[PostgreSQLReplication]:
    from support.replication import postgresql_replication

    with postgresql_replication(2) as servers:
        yield servers


@pytest.fixture
def replicated_postgresql(_postgresql_replication: PostgreSQLReplication) -> Iterator[PostgreSQLReplication]:
    """Like `replicated_mariadb`, with two standbys."""
    yield _postgresql_replication
    _postgresql_replication.heal()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def fakedb() -> FakeDB:
    return FakeDB()


@pytest.fixture(params=["pooled", "thread-local", "per-request"])
def strategy(request: pytest.FixtureRequest) -> str:
    """Each of wsgidb's own; tests/strategies has those on other libraries' pools, too."""
    return str(request.param)


@pytest.fixture(params=["pooled", "thread-local"])
def keeping(request: pytest.FixtureRequest) -> str:
    """A strategy that keeps connections between requests."""
    return str(request.param)
