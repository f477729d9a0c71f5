"""Another Database is assigned to a middleware that exists, as a test of an application does it."""

from __future__ import annotations

from typing import Any

import pytest

from support.fakedb import FakeDB
from support.wsgi import Call
from wsgidb import ConfigError, Database, DatabaseMiddleware
from wsgidb.testing import SandboxDatabase


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Tell which of the keys holds a connection, and of which database file."""
    (key,) = (key for key in environ if key.startswith("db."))
    if environ["PATH_INFO"] == "/unused":
        text = "unused"
    else:
        row = environ[key].execute("PRAGMA database_list").fetchone()
        text = row[2].rpartition("/")[2]
    start_response("200 OK", [("Content-Length", str(len(text)))])
    return [text.encode()]


def answer(application: Any, path: str = "/") -> tuple[str, str]:
    call = Call(application, PATH_INFO=path)
    return call.status, call.read().decode()


@pytest.fixture
def other(tmp_path: Any) -> Any:
    with Database(f"sqlite:///{tmp_path}/other.db") as database:
        yield database


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_requests_use_the_other_one(tmp_path: Any, other: Database, acquire: Any) -> None:
    """The next request gets its connection from the other Database, and the first one again once it is back."""
    with Database(f"sqlite:///{tmp_path}/shop.db") as shop:
        application = DatabaseMiddleware(app, shop, acquire=acquire)
        assert answer(application) == ("200 OK", "shop.db")
        application.database = other
        assert application.database is other
        assert application.settings.url == other.settings.url
        assert answer(application) == ("200 OK", "other.db")
        application.database = shop
        assert answer(application) == ("200 OK", "shop.db")
        assert (shop.stats().acquires, other.stats().acquires) == (2, 1)


def test_the_options_of_the_middleware_stay(other: Database, fakedb: FakeDB) -> None:
    """The key, what is excluded, and the answer where there is no connection are those of the application."""

    def away(environ: Any, start_response: Any) -> list[bytes]:
        start_response("502 Bad Gateway", [])
        return [b"away"]

    def bare(environ: Any, start_response: Any) -> list[bytes]:
        assert "db.shop" not in environ
        start_response("200 OK", [])
        return [b"bare"]

    application = DatabaseMiddleware(
        lambda environ, start_response: (bare if environ["PATH_INFO"] == "/static/x" else app)(environ, start_response),
        creator=fakedb.connect,
        key="db.shop",
        exclude=["/static"],
        on_unavailable=away,
        server_timing=True,
    )
    application.database = other
    assert answer(application) == ("200 OK", "other.db")
    assert answer(application, "/static/x") == ("200 OK", "bare")
    call = Call(application)
    call.read()
    assert "Server-Timing" in dict(call.headers)
    other.close()
    assert answer(application) == ("502 Bad Gateway", "away")
    assert fakedb.connections == []


def test_a_request_in_progress_ends_with_the_one_that_it_began_with(tmp_path: Any, other: Database) -> None:
    """Its connection goes back to where it came from."""

    def stream(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        yield environ["db.conn"].execute("SELECT 'a'").fetchone()[0].encode()
        yield environ["db.conn"].execute("SELECT 'b'").fetchone()[0].encode()

    with Database(f"sqlite:///{tmp_path}/shop.db") as shop:
        application = DatabaseMiddleware(stream, shop)
        call = Call(application)
        application.database = other
        assert shop.stats().leased == 1
        assert call.read() == b"ab"
        assert (shop.stats().leased, shop.stats().idle, other.stats().acquires) == (0, 1, 0)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ("sqlite:///x.db", "database: takes a Database"),
        (Database("sqlite:///x.db"), "transaction: this application needs a Database with request, and that one has m"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Any, wrong: Any, text: str) -> None:
    """A Database with other transactions would test another application. The middleware keeps the one that it has."""
    with Database(f"sqlite:///{tmp_path}/shop.db", transaction="request") as shop:
        application = DatabaseMiddleware(app, shop, commit_veto=lambda environ, status, headers: False)
        with pytest.raises(ConfigError, match=text):
            application.database = wrong
        assert application.database is shop
        assert answer(application) == ("200 OK", "shop.db")


def test_a_sandbox_in_one_line(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """monkeypatch puts the sandbox in, and at its end the application has its own Database again."""
    with Database(f"sqlite:///{tmp_path}/shop.db") as shop:
        application = DatabaseMiddleware(app, shop)
        with SandboxDatabase(f"sqlite:///{tmp_path}/test.db") as sandbox, monkeypatch.context() as patch:
            patch.setattr(application, "database", sandbox)
            with sandbox.outage():
                assert answer(application)[0] == "503 Service Unavailable"
            assert answer(application) == ("200 OK", "test.db")
        assert application.database is shop
        assert answer(application) == ("200 OK", "shop.db")


def test_requests_are_still_repeated(tmp_path: Any) -> None:
    """The option retry stays: the application is told which attempt it serves, with the other Database."""
    seen = []

    def counted(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append(environ["wsgidb.attempt"])
        return app(environ, start_response)

    with (
        Database(f"sqlite:///{tmp_path}/shop.db", transaction="request", retry=2) as shop,
        SandboxDatabase(f"sqlite:///{tmp_path}/test.db", transaction="request") as sandbox,
    ):
        application = DatabaseMiddleware(counted, shop)
        application.database = sandbox
        assert answer(application) == ("200 OK", "test.db")
        assert (seen, application.settings.retry) == ([1], 2)


def test_a_sandbox_takes_the_place_of_replicas_too(tmp_path: Any) -> None:
    """With the option replicas, requests that read and requests that write get the one connection of the sandbox."""
    url = "mysql+pymysql://guest@127.0.0.1:9/test"  # where no server is
    with Database(url) as shop, SandboxDatabase(f"sqlite:///{tmp_path}/test.db") as sandbox:
        application = DatabaseMiddleware(last, shop, replicas=[url])
        application.database = sandbox
        for method in ("GET", "POST"):
            call = Call(application, REQUEST_METHOD=method)
            assert (call.status, call.read()) == ("200 OK", b"test.db")
        application.database = shop
        assert application.settings.replicas
        assert (shop.stats().acquires, sandbox.stats().acquires) == (0, 2)


def last(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Tell of which file the request's connection is."""
    name = environ["db.conn"].execute("PRAGMA database_list").fetchone()[2].rpartition("/")[2]
    start_response("200 OK", [("Content-Length", str(len(name)))])
    return [name.encode()]
