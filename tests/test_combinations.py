"""Every strategy × every driver through an example application, which is configured by the environment alone."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

import load_cities
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware

APPLICATION = Path(load_cities.__file__).with_name("flask_app.py")
STRATEGIES = ("per-request", "thread-local", "pooled", "dbutils-persistent", "dbutils-pooled", "sqlalchemy")
SCHEMES = {
    "pymysql": "mysql+pymysql",
    "mysqlclient": "mysql+mysqldb",
    "connector": "mysql+mysqlconnector",
    "psycopg": "postgresql+psycopg",
    "sqlite": "sqlite",
}
DICTIONARIES = {"pymysql": "DictCursor", "mysqlclient": "DictCursor", "connector": "MySQLCursorDict"}
"""The drivers that have a class for such cursors, and its name."""
LISTING = "".join(f"{number} {city}\n" for number, city, _ in load_cities.read_cities())


@pytest.fixture(params=[pytest.param(name, marks=[pytest.mark.server] * (name != "sqlite")) for name in SCHEMES])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database, by one driver, in which there is no table of cities after the test."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/cities.sqlite3"
        return
    server = request.getfixturevalue("postgresql" if request.param == "psycopg" else "mariadb")
    yield f"{SCHEMES[request.param]}{server.url()[server.url().index(':') :]}"
    server.execute("DROP TABLE IF EXISTS city")


@pytest.fixture
def environment(url: str, strategy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WSGIDB_URL", url)
    monkeypatch.setenv("WSGIDB_STRATEGY", strategy)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_the_example_answers(environment: None, strategy: str) -> None:
    """A city that is there, one that is not, all of them as a stream, and one that is added."""
    with Database.from_env() as database:
        load_cities.load_cities(database)
    app: Any = runpy.run_path(str(APPLICATION))["app"]
    client = Client(app)
    with closing(app.wsgi_app.database) as database:
        assert database.settings.strategy == strategy
        for _ in range(2):
            found = client.get("/?city=London")
            assert (found.status_code, found.text) == (200, 'City "London" is #770')
            missing = client.get("/?city=Atlantis")
            assert (missing.status_code, missing.text) == (404, 'City "Atlantis" not found')
            listing = client.get("/cities", buffered=True)
            assert (listing.status_code, listing.text) == (200, LISTING)
        added = client.post("/", data={"city": "Erewhon"}, follow_redirects=True)
        assert (added.status_code, added.text) == (200, f'City "Erewhon" is #{len(LISTING.splitlines()) + 1}')
        stats = database.stats()
        assert (stats.leased, stats.discards) == (0, {})
        assert stats.connects == (stats.acquires if strategy == "per-request" else 1)


@pytest.mark.server
@pytest.mark.parametrize(("url", "name"), list(DICTIONARIES.items()), indirect=["url"])
@pytest.mark.parametrize("strategy", ["pooled"])
def test_a_cursor_class_by_name(url: str, name: str, environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """url: the driver's own class of cursors, named in the query, is what every handler gets."""
    monkeypatch.setenv("WSGIDB_URL", f"{url}?cursorclass={name}")

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with closing(environ["db.conn"].cursor()) as cursor:
            cursor.execute("SELECT 770 AS city_id")
            start_response("200 OK", [])
            return [str(cursor.fetchone()["city_id"]).encode()]

    middleware = DatabaseMiddleware(app)
    with closing(middleware.database):
        assert Call(middleware).read() == b"770"
