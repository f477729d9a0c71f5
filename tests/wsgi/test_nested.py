"""R7: a live lease under the same key is passed through. `exclude` and `key` decide which requests get one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.fakedb import FakeDB
from support.wsgi import Call
from wsgidb import ConfigError, Database, DatabaseMiddleware, get_connection


class Seen:
    """An application that remembers what it finds under its keys, and answers with a complete body."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys or ("db.conn",)
        self.found: list[Any] = []
        self.raw: list[Any] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.found += [environ.get(key) for key in self.keys]
        self.raw += [environ[key].driver_connection for key in self.keys if key in environ]
        start_response("200 OK", [])
        return [b"seen"]


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_a_live_lease_of_the_same_database_is_passed_through(fakedb: FakeDB, database: Database, acquire: Any) -> None:
    """R7: with two middlewares around an application there is one lease, and the outer one ends it."""
    app = Seen()
    inner = DatabaseMiddleware(app, database, acquire=acquire)
    outer_lease: list[Any] = []

    def between(environ: dict[str, Any], start_response: Any) -> Any:
        outer_lease.append(environ["db.conn"])
        body = inner(environ, start_response)
        outer_lease[0].cursor().execute("SELECT 'still there'")
        return body

    Call(DatabaseMiddleware(between, database, acquire=acquire))

    assert app.found[0] is outer_lease[0]
    assert (database.stats().acquires, database.stats().leased) == (1, 0)


def test_a_live_lease_of_another_database_is_a_mistake(fakedb: FakeDB, database: Database) -> None:
    """R7: each would hide the connection of the other. The error says what to do."""
    with Database(creator=fakedb.connect) as other:
        wrapped = DatabaseMiddleware(Seen(), other)
        with pytest.raises(ConfigError, match=r"^key: .* another Database, creator: .* its own key; in a test, "):
            Call(DatabaseMiddleware(wrapped, database))
        assert Call(DatabaseMiddleware(wrapped.app, database)).read() == b"seen", "as the error advises"
        assert (database.stats().leased, other.stats().acquires) == (0, 0)


def test_two_keys_serve_two_databases(fakedb: FakeDB, database: Database) -> None:
    """R7: with a key each, the request has both connections, and both leases end."""
    app = Seen("db.conn", "reports.conn")
    with Database(creator=fakedb.connect) as reports:
        Call(DatabaseMiddleware(DatabaseMiddleware(app, reports, key="reports.conn"), database))

        assert app.raw[0] is not app.raw[1]
        assert (database.stats().leased, reports.stats().leased) == (0, 0)
        assert (database.stats().acquires, reports.stats().acquires) == (1, 1)


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_a_dead_lease_in_a_reused_environ_does_not_count(database: Database, acquire: Any) -> None:
    """R7: some servers and many tests use an environ for a second request."""
    app = Seen()
    middleware = DatabaseMiddleware(app, database, acquire=acquire)
    first = Call(middleware)
    second = Call(middleware, **first.environ)

    assert second.status == "200 OK"
    assert app.found[0] is not app.found[1]
    assert database.stats().acquires == 2


def test_a_dead_lease_of_another_database_does_not_count_either(fakedb: FakeDB, database: Database) -> None:
    """R7: the lease has ended, so it contradicts nothing."""
    with Database(creator=fakedb.connect) as other:
        first = Call(DatabaseMiddleware(Seen(), other))
        assert Call(DatabaseMiddleware(Seen(), database), **first.environ).read() == b"seen"


@pytest.mark.parametrize("value", [None, "text", object()], ids=["None", "text", "object"])
def test_what_is_no_lease_is_replaced(database: Database, value: Any) -> None:
    """R7: anything else under the key is overwritten."""
    app = Seen()
    Call(DatabaseMiddleware(app, database), **{"db.conn": value})

    assert app.found[0] is not value
    assert len(app.raw) == 1


def test_a_stream_of_the_inner_app_keeps_the_outer_lease(database: Database) -> None:
    """R7: the inner middleware returns the body unchanged, and the outer one wraps it once."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        for _ in range(2):
            environ["db.conn"].cursor().execute("SELECT 1")
            yield b"x"

    call = Call(DatabaseMiddleware(DatabaseMiddleware(app, database), database))
    assert database.stats().leased == 1
    assert call.read() == b"xx"
    assert database.stats().leased == 0


@pytest.mark.parametrize(
    ("path", "excluded"),
    [
        ("/static", True),
        ("/static/", True),
        ("/static/a/b.css", True),
        ("/static/../x", True),
        ("/statics", False),
        ("/x/static", False),
        ("/Static", False),
        ("/health/live", True),
        ("/healthy", False),
        ("/", False),
        ("", False),
    ],
)
@pytest.mark.parametrize("exclude", [["/static", "/health/"], "/static /health", "/static/,/health"])
def test_exclude_takes_whole_segments(database: Database, path: str, excluded: bool, exclude: Any) -> None:
    """The application is called for an excluded request, without a connection. SCRIPT_NAME is not compared."""
    app = Seen()
    database_middleware = DatabaseMiddleware(app, database, exclude=exclude)

    assert Call(database_middleware, path, SCRIPT_NAME="/app").read() == b"seen"
    assert Call(database_middleware, "/app", SCRIPT_NAME="/static").read() == b"seen"

    assert [lease is None for lease in app.found] == [excluded, False]


def test_exclude_may_be_a_callable_on_environ(database: Database) -> None:
    """A callable decides by anything in environ, such as the method."""
    app = Seen()
    middleware = DatabaseMiddleware(app, database, exclude=lambda environ: environ["REQUEST_METHOD"] == "OPTIONS")
    Call(middleware, REQUEST_METHOD="OPTIONS")
    Call(middleware, REQUEST_METHOD="GET")

    assert [lease is None for lease in app.found] == [True, False]


def test_an_excluded_request_is_told_so_where_it_asks(database: Database) -> None:
    """get_connection returns the request's connection, or raises a ConfigError that names the key and the reason."""
    found: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        found.append(get_connection(environ))
        start_response("200 OK", [])
        return [str(found[0] is environ["db.conn"]).encode()]

    middleware = DatabaseMiddleware(app, database, exclude=["/static"])
    assert Call(middleware, "/a").read() == b"True"
    with pytest.raises(ConfigError, match=r"no 'db\.conn': the request is excluded, or"):
        Call(middleware, "/static/a")


def test_an_excluded_request_is_passed_as_it_is(database: Database) -> None:
    """The application gets the server's start_response, and the server gets the application's body."""
    started: list[Any] = []
    body = iter([b"a"])

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        started.append(start_response)
        start_response("200 OK", [])
        return body

    call = Call(DatabaseMiddleware(app, database, exclude=["/static"]), "/static/a")
    assert call.body is body
    assert started == [call._start_response]
