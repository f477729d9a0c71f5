"""The fixtures of the fault tests: an application on a real server, before a database that is to fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

import wsgidb
from faults.load import Ledger, Site
from support.mariadb import MariaDB
from support.servers import Server

TESTS = Path(__file__).parents[1]
PATH = [str(TESTS), str(Path(wsgidb.__file__).parents[1])]
THREADS = 8
READ_TIMEOUT = {"mysql+pymysql": 1.0, "mysql+mysqldb": 2, "mysql+mysqlconnector": 1.0}
"""Short ones, by MySQL's drivers, within which a busy machine still answers."""

Serve = Callable[..., AbstractContextManager[Site]]


@pytest.fixture
def serve(tmp_path: Path) -> Serve:
    """Serves the application of `served.py` with a url and options; what it tells is looked through in the end."""

    @contextmanager
    def serve(url: str, **options: Any) -> Iterator[Site]:
        environ = {"SERVED_URL": url, "SERVED_OPTIONS": json.dumps(options)}
        server = Server("gunicorn gthread", "faults.served:application", tmp_path / "log", PATH, THREADS, **environ)
        with server:
            site = Site(server)
            yield site
        site.tells_no_secrets()

    return serve


@pytest.fixture
def ledger(own_mariadb: MariaDB) -> Ledger:
    """Accounts and a ledger on a server of the test's own."""
    return Ledger(own_mariadb)


@pytest.fixture
def primary() -> Iterator[MariaDB]:
    """Another server, that takes over."""
    with MariaDB() as server:
        yield server
