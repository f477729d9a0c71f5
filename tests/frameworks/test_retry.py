"""R14 in every framework: a request is repeated though the framework has made an error page of its deadlock."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

import load_cities
from frameworks.conftest import LEAN, MakeSite
from frameworks.kit import FRAMEWORKS, NAMES, Framework
from frameworks.sites import DEADLOCK, Served, serving
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from wsgidb import Database

RETRY = {"WSGIDB_RETRY": "2", "WSGIDB_RETRY_IF": "builtins:bool"}
"""Twice, and POST requests, too."""


def test_a_lock_of_somebody_else(
    framework: Framework, make_site: MakeSite, cities: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R14: the second attempt reads the form again, and the client gets its redirect only."""
    path = tmp_path / cities.name
    site = make_site(WSGIDB_URL=f"sqlite:///{path}?timeout=0", **RETRY)
    name = f"Glubbdubdrib {framework.name}"
    with closing(sqlite3.connect(path, isolation_level=None)) as rival:
        rival.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr("wsgidb.wsgi.retry.time.sleep", lambda seconds: rival.rollback())
        answer = site.request("POST", "/", name)
    assert answer.status == 303
    assert site.has(name)
    assert site.stats()["retries"] == 1


@pytest.mark.server
@pytest.mark.parametrize("server", ["gunicorn gthread", "Waitress"])
@pytest.mark.parametrize("name", [name for name in ("flask", "django") if name in NAMES])
def test_on_a_server(mariadb: MariaDB, tmp_path: Path, server: str, name: str) -> None:
    """R14: a deadlock of a statement, a COMMIT that is refused, and a connection that is killed; but not a COMMIT whose
    reply is lost."""
    with TCPProxy(mariadb.port) as proxy, Database(mariadb.url()) as database:
        load_cities.load_cities(database)
        settings = {"WSGIDB_URL": proxy.url_from(mariadb.url()), **RETRY, **LEAN}
        with serving(server, FRAMEWORKS[name], tmp_path / "log", **settings) as running:
            site = Served(FRAMEWORKS[name], running.port, mariadb, proxy)
            (last,) = mariadb.query("SELECT MAX(city_id) FROM city")[0]
            insert = f"INSERT INTO city (city_id, city, country) VALUES ({last + 1}, 'Balnibarbi', '')"
            faults: dict[str, Callable[[], object]] = {
                "Balnibarbi": lambda: proxy.answer(insert, lambda: DEADLOCK),
                "Luggnagg": lambda: proxy.answer("COMMIT", lambda: DEADLOCK),
                "Japan": lambda: proxy.break_after(2),
            }
            for retries, (city, fault) in enumerate(faults.items(), start=1):
                fault()
                assert site.request("POST", "/", city).status == 303
                assert site.has(city)
                assert site.stats()["retries"] == retries
            proxy.lose_reply("COMMIT")
            assert site.request("POST", "/", "Houyhnhnms").status == 500
            assert site.has("Houyhnhnms")
            assert site.stats()["retries"] == len(faults)
    mariadb.execute("DROP TABLE city")
