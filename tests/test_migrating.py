"""docs/migrating.md: the code before and after each migration runs as the page shows it, on a database of the tests."""

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
from support import packets
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.rawhttp import request
from support.servers import Server
from wsgidb.strategies import dbutils

TEXT = (Path(__file__).parents[1] / "docs" / "migrating.md").read_text()
SNIPPETS: dict[str, str] = dict(re.findall(r"^```python\n# (\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE))
BEFORE: list[str] = re.findall(r"^Before:\n\n```python\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
"""What is to be migrated, in the page's order. PySQLPool is not among them: it runs on Python 2 only."""
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


def earlier(section: int, server: MariaDB) -> str:
    """The code before a migration, with the server of the test."""
    there = 'host="127.0.0.1", user="shop", database="shop"'
    assert there in BEFORE[section]
    return BEFORE[section].replace(there, f'host="127.0.0.1", port={server.port}, user="guest", database="test"')


def test_before_flask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Flask's tutorial works, as it is on the page."""
    monkeypatch.chdir(tmp_path)
    with closing(sqlite3.connect("blog.db")) as conn:
        conn.execute("CREATE TABLE post (title TEXT)")
    names: dict[str, Any] = {"__name__": "blog"}
    exec(BEFORE[0], names)
    client = names["app"].test_client()
    assert client.post("/", data={"title": "One"}).status_code == 201
    assert client.get("/").json == {"titles": ["One"]}


@pytest.mark.server
def test_before_dbutils(server: MariaDB) -> None:
    """The application with PooledDB stores its row."""
    names: dict[str, Any] = {}
    exec(earlier(1, server), names)
    assert Client(names["application"]).get("/a").status_code == 204
    names["pool"].close()
    assert server.query("SELECT page FROM visit") == [("/a",)]


@pytest.mark.server
def test_before_sqlalchemy(server: MariaDB) -> None:
    """The application with QueuePool counts the rows."""
    names: dict[str, Any] = {}
    exec(earlier(2, server), names)
    assert Client(names["application"]).get("/").text == "0"
    names["pool"].dispose()


@pytest.mark.server
def test_before_django(server: MariaDB) -> None:
    """The view stores its row through Django's own connection."""
    code = BEFORE[3].replace('"NAME": "shop", "USER": "shop", "HOST": "127.0.0.1"', (
        f'"NAME": "test", "USER": "guest", "HOST": "127.0.0.1", "PORT": {server.port}'
    )) + (
        "import django\nfrom django.test import RequestFactory\n"
        "django.setup()\n"
        "print(visits(RequestFactory().get('/visits')).content.decode())\n"
    )  # fmt: skip
    assert str(server.port) in code
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("1\n", "")
    assert server.query("SELECT page FROM visit") == [("/visits",)]


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


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gunicorn gthread", "uWSGI"])
def test_django_reports_a_commit_that_fails(server: MariaDB, kind: str, tmp_path: Path) -> None:
    """The client sees a 500, and nothing is written; also on uWSGI, which cannot break off what it has begun."""
    path = [str(tmp_path), str(Path(wsgidb.__file__).parents[1])]
    with TCPProxy(server.port) as proxy:
        (tmp_path / "shop.py").write_text(SNIPPETS["django"].replace(URL, proxy.url_from(server.url())))
        with Server(kind, "shop:application", tmp_path / "log", path) as served:
            assert request(served.port, "/visits").status == 200
            failed = proxy.answer("COMMIT", lambda: packets.error(1213, "40001", "Deadlock found"))
            assert request(served.port, "/visits").status == 500
            assert failed.is_set()
    assert server.query("SELECT page FROM visit") == [("/visits",)]
