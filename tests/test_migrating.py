"""docs/migrating.md: the code after each migration runs exactly as the page shows it."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import Client

import wsgidb
from support.mariadb import MariaDB
from wsgidb.strategies import dbutils

TEXT = (Path(__file__).parents[1] / "docs" / "migrating.md").read_text()
SNIPPETS: dict[str, str] = dict(re.findall(r"^```python\n# (\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
URL = "mysql+pymysql://shop@127.0.0.1/shop"


@pytest.fixture
def server(mariadb: MariaDB) -> Iterator[MariaDB]:
    mariadb.execute("CREATE TABLE visit (id INT PRIMARY KEY AUTO_INCREMENT, page TEXT)")
    yield mariadb
    mariadb.execute("DROP TABLE visit")


def snippet(name: str, server: MariaDB) -> str:
    """The snippet, with the url of the test's server."""
    assert URL in SNIPPETS[name]
    return SNIPPETS[name].replace(URL, server.url())


def run(name: str, server: MariaDB) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": name}
    exec(snippet(name, server), names)
    return names


def test_each_has_both_sides() -> None:
    """Each section has the code before and after, and then a list of the differences."""
    sections = TEXT.split("\n## ")[1:]
    assert len(sections) == 5
    for section in sections:
        assert re.search(
            r"^Before.*?:\n\n```python\n.*^After:\n\n```python\n# \w+\n", section, re.DOTALL | re.MULTILINE
        )
        assert re.search(r"^- ", section, re.MULTILINE), section
    assert list(SNIPPETS) == ["flask", "dbutils", "pysqlpool", "sqlalchemy", "engine", "django"]


def test_flask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask's tutorial has rows by name and declared types, and what is committed stays."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("blog.db")) as conn:
        conn.execute("CREATE TABLE post (title TEXT)")
    names: dict[str, Any] = {"__name__": "blog"}
    exec(SNIPPETS["flask"], names)
    app = names["app"]
    client = app.test_client()
    for title in ("One", "Two"):
        assert client.post("/", data={"title": title}).status_code == 201
    assert client.get("/").json == {"titles": ["One", "Two"]}
    assert app.wsgi_app.database.stats().connects == 1
    app.wsgi_app.database.close()


@pytest.mark.server
def test_dbutils(server: MariaDB) -> None:
    """The application runs on DBUtils, with the session settings that it had."""
    application = run("dbutils", server)["application"]
    assert Client(application).get("/a").status_code == 204
    assert server.query("SELECT page FROM visit") == [("/a",)]
    with application.database as database, database.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT @@time_zone")
        assert cursor.fetchone() == ("+00:00",)


def test_dbutils_table() -> None:
    """The table has every argument of DBUtils that strategy_args refuses."""
    rows = TEXT.partition("| of DBUtils |")[2].partition("\n\n")[0]
    assert {name for name in dbutils.REFUSED if f"`{name}`" not in rows} <= {"creator", "isfatal"}


@pytest.mark.server
def test_pysqlpool(server: MariaDB) -> None:
    """Each statement commits by itself, and rows are dicts."""
    application = run("pysqlpool", server)["application"]
    with application.database:
        assert Client(application).get("/b").text == "/b"
    assert server.query("SELECT page FROM visit") == [("/b",)]


@pytest.mark.server
def test_sqlalchemy(server: MariaDB) -> None:
    """The application returns the same count, through SQLAlchemy's pool."""
    application = run("sqlalchemy", server)["application"]
    with application.database:
        assert Client(application).get("/").text == "0"


@pytest.mark.server
def test_engine(server: MariaDB) -> None:
    """Both share one pool: the request's connection is idle in the Engine's pool afterwards."""
    names = run("engine", server)
    assert names["engine"].pool.checkedin() == names["database"].stats().connects == 1
    names["database"].close()
    names["engine"].dispose()


@pytest.mark.server
def test_django(server: MariaDB) -> None:
    """A successful response commits. Runs in a process of its own, because Django can be configured only once."""
    code = snippet("django", server) + (
        "from werkzeug.test import Client\n"
        "print([Client(application).get('/visits').text for _ in range(2)])\n"
        "print(Client(application).get('/nothing').status_code)\n"
    )
    where = str(Path(wsgidb.__file__).parents[1])
    command = [sys.executable, "-W", "ignore", "-c", code]
    done = subprocess.run(command, cwd=where, capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["['1', '2']", "404"], done.stderr
    assert server.query("SELECT page FROM visit") == [("/visits",), ("/visits",)]
