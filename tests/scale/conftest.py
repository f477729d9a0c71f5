"""Primaries with replicas, and middlewares on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from typing import Any

import pytest

from scale.notes import TABLE, application
from wsgidb import DatabaseMiddleware

DRIVERS = {
    "pymysql": ("mariadb", "mysql+pymysql"),
    "mysqlclient": ("mariadb", "mysql+mysqldb"),
    "connector": ("mariadb", "mysql+mysqlconnector"),
    "psycopg": ("postgresql", "postgresql+psycopg"),
}
Make = Callable[..., DatabaseMiddleware]
numbers = count(1)


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that is well is not passed by because the machine is busy. What becomes of one that is not well, the
    tests in test_trouble.py find out, with a time of their own."""
    monkeypatch.setattr("wsgidb.scale.replica.PROBE", 60.0)


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def servers(driver: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A primary with two replicas without any lag, and an empty table."""
    servers = request.getfixturevalue(f"replicated_{DRIVERS[driver][0]}")
    servers.primary.execute(TABLE)
    servers.caught_up()
    yield servers
    servers.heal()
    servers.primary.execute("DROP TABLE notes")


def url_of(driver: str, server: Any, **query: object) -> str:
    return f"{DRIVERS[driver][1]}://{server.url(**query).partition('://')[2]}"


@pytest.fixture
def make(driver: str, servers: Any) -> Iterator[Make]:
    """Makes a middleware on the servers."""
    with ExitStack() as stack:

        def make(app: Any = application, **options: Any) -> DatabaseMiddleware:
            options.setdefault("replicas", [url_of(driver, replica) for replica in servers.replicas])
            made = DatabaseMiddleware(app, url_of(driver, servers.primary), **options)
            stack.callback(made.database.close)
            return made

        yield make


@pytest.fixture
def n() -> int:
    """The number of a note that nobody else writes."""
    return next(numbers)
