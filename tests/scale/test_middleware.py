"""The option replicas, as far as it needs no replication: one server takes both parts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from scale.clients import Client
from scale.notes import TABLE, application
from strategies.kit import in_child
from support.mariadb import MariaDB
from support.packets import Command
from support.proxy import TCPProxy
from support.replication import MariaDBReplication
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware
from wsgidb.testing import SandboxDatabase

pytestmark = pytest.mark.server


@pytest.fixture
def url(mariadb: MariaDB) -> Iterator[str]:
    mariadb.execute(TABLE)
    yield mariadb.url()
    mariadb.execute("DROP TABLE notes")


def test_from_the_environment(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a url per line; the pools have names of their own."""
    for name, value in {"URL": url, "REPLICAS": f"{url}\n  {url}\n", "NAME": "shop"}.items():
        monkeypatch.setenv(f"WSGIDB_{name}", value)
    app = DatabaseMiddleware(application)
    assert [database.name for database in app.database.replicas] == ["shop replica 1", "shop replica 2"]
    assert "***" not in repr(app.settings)
    app.database.close()


def test_replicas_are_closed_with_the_primary(url: str) -> None:
    app = DatabaseMiddleware(application, url, replicas=[url])
    Client(app).read(1)
    (replica,) = app.database.replicas
    assert replica.stats().idle == 1
    app.database.close()
    assert replica.stats().idle == 0
    assert Call(app, "/read/1").status.startswith("503")


def test_the_status_page_shows_all_pools(url: str) -> None:
    app = DatabaseMiddleware(application, url, replicas=[url], name="shop", status="/-/db", status_allow=bool)
    Client(app).read(1)
    page = Call(app, "/-/db").read().decode()
    assert "shop replica 1" in page
    app.database.close()


def test_excluded_requests_and_nested_middlewares(url: str) -> None:
    """An excluded request has neither key; within a middleware of the same Database the lease is passed through."""
    keys: list[list[str]] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        keys.append(sorted(key for key in environ if key.startswith("db.")))
        start_response("200 OK", [])
        return []

    with Database(url, replicas=[url]) as database:
        outer = DatabaseMiddleware(DatabaseMiddleware(app, database), database, exclude=["/static"])
        Call(outer, "/").read()
        Call(DatabaseMiddleware(app, database, exclude=["/static"]), "/static/a").read()
        assert database.stats().leased == 0
        assert [replica.stats().leased for replica in database.replicas] == [0], "they share one replica"
    assert keys == [["db.conn", "db.primary"], []]


def test_other_keys() -> None:
    """The key of the primary's connection is derived, so that two middlewares do not meet."""
    from wsgidb.wsgi.replicas import primary_key

    assert [primary_key(key) for key in ("db.conn", "shop.conn", "stats.db")] == [
        *("db.primary", "shop.primary", "stats.db.primary"),
    ]


def test_a_sandbox_has_no_replicas(url: str) -> None:
    """Its one connection serves both keys, so that a test sees what it has written."""
    with SandboxDatabase(url, transaction="manual", replicas=[url]) as database:
        client = Client(DatabaseMiddleware(application, database))
        client.write(1)
        assert client.read(1)[0] == "found"
        assert client.ask("GET", "/both/2")[0] == "found"


def test_an_exception_gives_both_connections_back(url: str) -> None:
    """The same object is raised."""
    problem = KeyError("x")

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["db.conn"].cursor().execute("SELECT 1")
        environ["db.primary"].cursor().execute("INSERT INTO notes VALUES (5)")
        raise problem

    made = DatabaseMiddleware(app, url, replicas=[url])
    with pytest.raises(KeyError) as caught:
        Call(made, "/")
    assert caught.value is problem
    assert made.database.stats().leased == made.database.replicas[0].stats().leased == 0
    assert Client(DatabaseMiddleware(application, made.database)).read(5)[0] == "missing"
    made.database.close()


def test_a_stream_keeps_both_connections_until_it_ends(url: str) -> None:
    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for sql in ("SELECT 1", "SELECT 2"):
            cursor = environ["db.conn"].cursor()
            cursor.execute(sql)
            yield str(cursor.fetchone()[0]).encode()
        environ["db.primary"].cursor().execute("SELECT 3")
        yield b"3"

    made = DatabaseMiddleware(app, url, replicas=[url])
    assert Call(made, "/").read() == b"123"
    call = Call(made, "/")
    assert made.database.replicas[0].stats().leased == 1
    call.body.close()
    assert made.database.stats().leased == made.database.replicas[0].stats().leased == 0
    made.database.close()


def test_a_forked_child_has_replicas_of_its_own(url: str) -> None:
    app = DatabaseMiddleware(application, url, replicas=[url])
    client = Client(app)
    assert client.read(1)[0] == "missing"
    assert in_child(lambda: client.read(1)[0]) == "missing"
    assert client.read(1)[0] == "missing"
    app.database.close()


@pytest.mark.parametrize("transaction", ["manual", "request", "autocommit"])
def test_a_write_costs_no_round_trip_more(url: str, proxy: TCPProxy, transaction: str) -> None:
    """MariaDB tells the position in its reply; with and without replicas the same commands are sent."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with environ["db.conn"].cursor() as cursor:
            cursor.execute(f"INSERT INTO notes VALUES ({environ['PATH_INFO'].rpartition('/')[2]})")
        environ["db.conn"].commit()
        start_response("200 OK", [])
        return []

    sent: list[list[Command]] = []
    for number, more in enumerate([{}, {"replicas": [url]}]):
        made = DatabaseMiddleware(app, proxy.url_from(url), transaction=transaction, **more)  # type: ignore[arg-type]
        Call(made, f"/{number}1", REQUEST_METHOD="POST").read()
        before = len(proxy.commands)
        Call(made, f"/{number}2", REQUEST_METHOD="POST").read()
        sent.append([str(command).replace(f"{number}2", "N") for command in proxy.commands[before:]])  # type: ignore[misc]
        made.database.close()
    assert sent[0] == sent[1]


def test_several_domains_are_followed_one_by_one(replicated_mariadb: MariaDBReplication) -> None:
    """A replica needs all that a client has written, in each of MariaDB's domains."""
    servers = replicated_mariadb
    servers.primary.execute(TABLE)
    servers.primary.execute("GRANT SUPER ON *.* TO guest")
    servers.caught_up()
    urls = [replica.url() for replica in servers.replicas]

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            with environ["db.conn"].cursor() as cursor:
                cursor.execute("SET SESSION gtid_domain_id = 7")
        return application(environ, start_response)

    try:
        made = DatabaseMiddleware(app, servers.primary.url(), replicas=urls, reset="session")
        client = Client(made)
        client.write(1)
        (name, number) = (client.position or "").rsplit("-", 1)
        assert name == "7"
        client.cookies["wsgidb-position-00000000"] = "0-1"
        servers.replicas[0].pause()
        servers.replicas[1].pause()
        client.write(2)
        assert client.position == f"0-1_7-{int(number) + 1}"
        assert client.read(2) == ("found", servers.primary.port)
        servers.heal()
        assert client.read(2)[1] in [replica.port for replica in servers.replicas]
        made.database.close()
    finally:
        servers.heal()
        servers.primary.execute("DROP TABLE notes")
        servers.primary.execute("REVOKE SUPER ON *.* FROM guest")
