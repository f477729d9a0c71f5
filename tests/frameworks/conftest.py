"""Each framework's example as a site: under its own test client, and on a real server.

``FRAMEWORK=flask pytest tests/frameworks`` tests one; without it, all. A framework that cannot be imported fails.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import load_cities
from frameworks.kit import FRAMEWORKS, NAMES, Framework
from frameworks.sites import EREWHON, PATH, InProcess, Served, Site, serving
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb import Database

collect_ignore = [f"test_{name}.py" for name in FRAMEWORKS if name not in NAMES]
MakeSite = Callable[..., InProcess]
LEAN = {"WSGIDB_ACQUIRE": "first-use", "WSGIDB_EXCLUDE": "/cities.csv"}
"""Connections only for requests that use one."""

# A row of that city leaves another one, which the commit finds to refer to nothing.
FAILING_COMMIT = f"""
CREATE TABLE doomed (id INTEGER REFERENCES city (city_id) DEFERRABLE INITIALLY DEFERRED);
CREATE TRIGGER fails AFTER INSERT ON city WHEN NEW.city = '{EREWHON}' BEGIN INSERT INTO doomed VALUES (-1); END;
"""


@pytest.fixture(scope="session")
def cities(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database with the cities in it."""
    path = tmp_path_factory.mktemp("cities") / "cities.sqlite3"
    with Database(f"sqlite:///{path}") as database:
        load_cities.load_cities(database)
    with sqlite3.connect(path) as connection:
        connection.executescript(FAILING_COMMIT)
    connection.close()
    return path


@pytest.fixture(scope="session", autouse=True)
def _sessions(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Django's own database, made as its users make it. Its settings are read once in a process."""
    if "django" not in NAMES:
        yield
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DJANGO_DB", str(tmp_path_factory.mktemp("django") / "sessions.sqlite3"))
        patch.setenv("DJANGO_SETTINGS_MODULE", "django_app")
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(PATH), "WSGIDB_URL": "sqlite:///never-opened"}
        subprocess.run([sys.executable, "-m", "django", "migrate"], env=environ, check=True, timeout=60)
        yield


@pytest.fixture(scope="module", params=NAMES)
def framework(request: pytest.FixtureRequest) -> Framework:
    return FRAMEWORKS[request.param]


@pytest.fixture
def make_site(framework: Framework, cities: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeSite:
    """Make the example anew, with these settings and an SQLite database of its own."""

    def make(**settings: str) -> InProcess:
        path = str(shutil.copy(cities, tmp_path))
        mine = {"WSGIDB_URL": f"sqlite:///{path}", "WSGIDB_INIT_SQL": "PRAGMA foreign_keys = ON", **settings}
        for name, text in mine.items():
            monkeypatch.setenv(name, text)
        return InProcess(framework, path)

    return make


@pytest.fixture(scope="module")
def served(framework: Framework, mariadb: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all tests of a framework; it must end well."""
    with TCPProxy(mariadb.port) as proxy, Database(mariadb.url()) as database:
        load_cities.load_cities(database)
        log = tmp_path_factory.mktemp("server") / "log"
        with serving("Waitress", framework, log, WSGIDB_URL=proxy.url_from(mariadb.url()), **LEAN) as server:
            yield Served(framework, server.port, mariadb, proxy)
    mariadb.execute("DROP TABLE city")


@pytest.fixture(params=["client", pytest.param("server", marks=pytest.mark.server)])
def site(request: pytest.FixtureRequest, framework: Framework) -> Iterator[Site]:
    """The example as it stands: under its test client, and on a server. Afterwards no connection may be out."""
    if request.param == "client":
        yield from at_rest(request.getfixturevalue("make_site")())
    else:
        yield from at_rest(request.getfixturevalue("served"))


@pytest.fixture(params=["client", pytest.param("server", marks=pytest.mark.server)])
def lean_site(request: pytest.FixtureRequest, framework: Framework) -> Iterator[Site]:
    """With connections only for requests that use one."""
    if request.param == "client":
        yield from at_rest(request.getfixturevalue("make_site")(**LEAN))
    else:
        yield from at_rest(request.getfixturevalue("served"))


def at_rest(site: Site) -> Iterator[Site]:
    """The site, and a look at it when the test is over; a server may close a body after the client has all."""
    yield site

    def is_at_rest() -> bool:
        stats = site.stats()
        return stats["leased"] == 0 and bool(stats["open"] == stats["idle"])

    until(is_at_rest, what="all connections to be back")
    assert site.stats()["discards"].keys() <= {"commit failed"}
