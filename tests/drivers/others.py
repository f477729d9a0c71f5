"""The MySQL drivers beside PyMySQL, for tests that are theirs alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from drivers.cases import run
from wsgidb.config.settings import Settings
from wsgidb.drivers import make_driver
from wsgidb.drivers.base import Driver

SCHEMES = {"mysqlclient": "mysql+mysqldb", "connector": "mysql+mysqlconnector"}
Open = Callable[..., tuple[Driver, Any]]

each_driver = pytest.mark.parametrize("name", SCHEMES)


def soon(seconds: float = 10) -> float:
    return time.monotonic() + seconds


def url_of(name: str, url: str) -> str:
    return url.replace("mysql+pymysql", SCHEMES[name])


def driver_of(name: str, url: str, **options: Any) -> Driver:
    return make_driver(Settings.of({"url": url_of(name, url), **options}))


def opening() -> Iterator[Open]:
    """Opens a connection, which is dropped in the end."""
    with ExitStack() as stack:

        def opened(name: str, url: str, **options: Any) -> tuple[Driver, Any]:
            driver = driver_of(name, url, **options)
            conn = driver.connect(soon())
            stack.callback(driver.abandon, conn)
            return driver, conn

        yield opened


def value(conn: Any, sql: str) -> Any:
    [[found]] = run(conn, sql)
    return found
