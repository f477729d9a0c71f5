"""A request that reads from the primary, as no replica has what it needs, and uses db.primary, needs two connections of
one pool. Such requests do not block each other, nor anybody else.

The position of the cookie leads to the primary, so that one server is enough."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from scale.notes import TABLE, application, run, write
from support.mariadb import MariaDB
from support.waiting import until
from support.wsgi import Call
from wsgidb import DatabaseMiddleware

pytestmark = pytest.mark.server
App = Callable[..., DatabaseMiddleware]


@pytest.fixture
def wrap(mariadb: MariaDB) -> Iterator[App]:
    """Wraps an application, with a server that is its own replica."""
    mariadb.execute(TABLE)
    made: list[DatabaseMiddleware] = []

    def wrap(app: Any = application, **options: Any) -> DatabaseMiddleware:
        options = {"acquire_timeout": 1000, "replicas": [mariadb.url()], **options}
        made.append(DatabaseMiddleware(app, mariadb.url(), **options))
        return made[-1]

    yield wrap
    for each in made:
        each.database.close()
    mariadb.execute("DROP TABLE notes")


def get(app: Any, path: str) -> str:
    """The status of a request that only reads, and whose client must read from the primary. The body is read."""
    call = Call(app, path, REQUEST_METHOD="GET", HTTP_COOKIE="wsgidb-position-00000000=primary-1")
    call.read()
    return call.status[:3]


def uses(*keys: str) -> Any:
    """An application that uses connections in this order."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        for key in keys:
            run(environ[key], "SELECT 1")
        start_response("200 OK", [])
        return []

    return app


def test_a_pool_of_one(wrap: App, caplog: pytest.LogCaptureFixture) -> None:
    """The request is refused at once, and the log tells why. The pool is as before."""
    app = wrap(pool_size=1)
    assert get(app, "/both/1") == "503"
    stats = app.database.stats()
    assert (stats.refusals, stats.waits, stats.leased, stats.events[-1].kind) == (1, 0, 0, "refusal")
    (record,) = [record for record in caplog.records if "needs a second connection" in record.getMessage()]
    assert record.levelno == logging.WARNING
    told = "needs a second connection to use db.primary; requests that do so hold all connections: 1; held by "
    assert told in record.getMessage()
    assert [get(app, "/read/1") for _ in range(2)] == ["200", "200"]


@pytest.mark.parametrize("keys", [("db.conn", "db.primary"), ("db.primary", "db.conn")])
def test_with_first_use(wrap: App, keys: tuple[str, str]) -> None:
    """In whatever order they are used."""
    app = wrap(uses(*keys), pool_size=1, acquire="first-use")
    assert get(app, "/") == "503"
    assert app.database.stats().waits == 0
    assert get(wrap(uses(*keys), pool_size=2, acquire="first-use"), "/") == "200"


def test_an_application_that_replaces_what_it_finds(wrap: App) -> None:
    """By a wrapper of its own, say: the lease is known all the same."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        conn, environ["db.primary"] = environ["db.primary"], object()
        run(conn, "SELECT 1")
        return uses("db.conn")(environ, start_response)  # type: ignore[no-any-return]

    assert get(wrap(app, pool_size=1, acquire="first-use"), "/") == "503"
    assert get(wrap(app, pool_size=2, acquire="first-use"), "/") == "200"


@pytest.mark.parametrize("strategy", ["per-request", "thread-local"])
def test_where_nobody_waits(wrap: App, strategy: str) -> None:
    """With these strategies another connection can always be opened."""
    assert get(wrap(pool_size=1, strategy=strategy), "/both/1") == "200"


def test_from_a_replica(wrap: App) -> None:
    """It is no second one then."""
    call = Call(wrap(pool_size=1), "/both/1", REQUEST_METHOD="GET")
    assert (call.status, call.read()[:5]) == ("200 OK", b"found")


def test_all_connections_are_held_by_such_requests(wrap: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last one to ask for its second connection is refused, and the others get theirs."""
    monkeypatch.setattr("wsgidb.scale.second.WAIT", 1000)
    hold = threading.Barrier(3)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        hold.wait(60)
        write(environ["db.primary"], int(environ["PATH_INFO"][1:]))
        start_response("200 OK", [])
        return []

    made = wrap(app, pool_size=3, transaction="request")
    with ThreadPoolExecutor(3) as pool:
        statuses = sorted(pool.map(lambda n: get(made, f"/{n}"), range(3)))
    assert statuses == ["200", "200", "503"]
    with made.database.connection() as conn:
        assert run(conn, "SELECT COUNT(*) FROM notes") == [(2,)]


def test_it_goes_before_those_that_hold_nothing(wrap: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """They came earlier, but nobody waits for what they have."""
    monkeypatch.setattr("wsgidb.scale.second.WAIT", 500)
    begun, go_on, order = threading.Event(), threading.Event(), []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/holds":
            begun.set()
            go_on.wait(60)
            run(environ["db.primary"], "SELECT 1")
        order.append(environ["PATH_INFO"])
        start_response("200 OK", [])
        return []

    made = wrap(app, pool_size=2)
    stats = made.database.stats
    with ThreadPoolExecutor(2) as pool:
        with made.database.connection():
            holds = pool.submit(get, made, "/holds")
            begun.wait(60)
            later = pool.submit(get, made, "/later")
            until(lambda: stats().waiting == 1, what="the later request")
            go_on.set()
            until(lambda: stats().waiting == 2, what="both requests")
        assert (holds.result(60), later.result(60)) == ("200", "200")
    assert order == ["/holds", "/later"]


def test_it_waits_briefly(wrap: App, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """It holds a connection that others wait for. The log tells how long it really was."""
    monkeypatch.setattr("wsgidb.scale.second.WAIT", 0.05)
    app = wrap(pool_size=2)
    with app.database.connection():
        assert get(app, "/both/1") == "503"
    (waited,) = re.findall(r"no connection became free within ([\d.]+) s", caplog.text)
    assert 0.05 <= float(waited) + 0.05 < 500, "acquire_timeout is longer"
    assert app.database.stats().timeouts == 1


def test_two_transactions(wrap: App) -> None:
    """What is rolled back with db.conn is no write of db.primary."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write(environ["db.primary"], 7)
        environ["db.conn"].rollback()
        environ["db.primary"].commit()
        start_response("200 OK", [])
        return []

    made = wrap(app, pool_size=2)
    assert get(made, "/") == "200"
    with made.database.connection() as conn:
        assert run(conn, "SELECT n FROM notes") == [(7,)]
