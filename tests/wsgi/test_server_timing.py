"""server_timing: the header tells how long a request waited for its connection and executed statements."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any
from wsgiref.validate import validator

import pytest

import wsgidb
from support.clock import Clock
from support.fakedb import FakeDB
from support.rawhttp import request
from support.servers import Server
from support.wsgi import Call, environment
from wsgidb import Database, DatabaseMiddleware
from wsgidb.wsgi.exchange import Exchange, HeldExchange

TESTS = Path(__file__).parents[1]
PLAIN = ("Content-Type", "text/plain")
TAKES = {"connect": 0.05, "execute": 0.25, "commit": 0.125, "rollback": 0.0625}
CONNECTING, EXECUTING, COMMITTING = TAKES["connect"], TAKES["execute"], TAKES["commit"]
TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
METRIC = re.compile(rf"{TOKEN}(;{TOKEN}=({TOKEN}|\"[^\"]*\"))*")
"""https://www.w3.org/TR/server-timing/#the-server-timing-header-field"""

App = Callable[[dict[str, Any], Any], Any]
Make = Callable[..., DatabaseMiddleware]


class Slow(FakeDB):
    """A server whose answers take a while, on the clock."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock

    def call(self, number: int, name: str, sql: str | None = None) -> None:
        super().call(number, name, sql)
        self.clock.advance(TAKES.get(name, 0.0))


@pytest.fixture
def server(clock: Clock) -> Slow:
    return Slow(clock)


@pytest.fixture
def make(server: Slow, clock: Clock) -> Iterator[Make]:
    """Makes a middleware with the option, and a connection that was used lately."""
    with ExitStack() as stack:

        def make(app: App, warm: bool = True, **options: Any) -> DatabaseMiddleware:
            database = stack.enter_context(Database(creator=server.connect, clock=clock, **options))
            if warm:
                with database.connection():
                    pass
            return DatabaseMiddleware(app, database, server_timing=True)

        yield make


def metrics(call: Call) -> list[str]:
    """The metrics of all headers Server-Timing of the response."""
    values = [value for name, value in call.started[-1][1] if name == "Server-Timing"]
    found = [metric.strip() for value in values for metric in value.split(",")]
    assert [metric for metric in found if not METRIC.fullmatch(metric)] == []
    return found


def told(db: float, wait: float = 0.0) -> list[str]:
    return [f"db;dur={db * 1000:.3f}", f"db-wait;dur={wait * 1000:.3f}"]


def run(environ: dict[str, Any], times: int = 1) -> None:
    for _ in range(times):
        environ["db.conn"].cursor().execute("SELECT 1")


def twice(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    run(environ, 2)
    start_response("200 OK", [PLAIN])
    return [b"ok"]


def streaming(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    run(environ)
    start_response("200 OK", [PLAIN])
    run(environ)
    yield b"a"
    run(environ)
    yield b"b"


def unused(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [PLAIN])
    return [b"ok"]


class TestDurations:
    @pytest.mark.parametrize("acquire", ["request", "first-use"])
    def test_statements_and_waiting(self, make: Make, acquire: str) -> None:
        """Connecting is waiting; statements of earlier requests, and of the check before, are not this one's."""
        app = make(twice, warm=False, acquire=acquire)
        assert metrics(Call(app)) == told(2 * EXECUTING, CONNECTING)
        assert metrics(Call(app)) == told(2 * EXECUTING)

    def test_the_head_of_a_stream(self, make: Make) -> None:
        """What comes after start_response is not known yet; with a head that is held back, what the first chunk took
        is."""
        for acquire, statements in (("request", 1), ("first-use", 2)):
            call = Call(make(streaming, acquire=acquire))
            assert call.read() == b"ab"
            assert metrics(call) == told(statements * EXECUTING)

    def test_no_statement(self, make: Make) -> None:
        """A request that ran nothing says so."""
        assert metrics(Call(make(unused))) == told(0)

    def test_no_first_use(self, make: Make) -> None:
        """With acquire=first-use, a request that used no connection has nothing to tell."""
        assert metrics(Call(make(unused, acquire="first-use"))) == []

    @pytest.mark.parametrize("acquire", ["request", "first-use"])
    def test_the_commit_counts(self, make: Make, acquire: str) -> None:
        """With transaction=request the client is told what the commit took, with all that is waited for: behind a
        creator's commit there is a rollback, as nothing tells that none is needed."""
        call = Call(make(twice, transaction="request", acquire=acquire))
        assert metrics(call) == told(2 * EXECUTING + COMMITTING + TAKES["rollback"])

    def test_a_connection_that_was_given_back_early(self, make: Make) -> None:
        """What another request does with the connection meanwhile is not this one's; nor what is done here after its
        end."""

        def early(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            run(environ)
            environ["db.conn"].close()
            environ["db.conn"].close()
            with app.database.connection() as other:
                other.cursor().execute("SELECT 1")
                start_response("200 OK", [PLAIN])
            return [b"ok"]

        app = make(early, pool_size=1)
        assert metrics(Call(app)) == told(EXECUTING)
        lazy = DatabaseMiddleware(early, app.database, server_timing=True, acquire="first-use")
        assert metrics(Call(lazy)) == told(EXECUTING)

    def test_closed_before_any_use(self, make: Make) -> None:
        """A connection that is given back before it is acquired was not waited for."""

        def early(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            environ["db.conn"].close()
            return unused(environ, start_response)

        assert metrics(Call(make(early, acquire="first-use"))) == []

    def test_the_next_request_has_the_connection_already(self, make: Make, server: Slow) -> None:
        """A head that is sent after the settling tells this request's time, though the connection serves another."""
        app = make(twice, acquire="first-use", pool_size=1)
        engine = app.database._engine
        release = engine.release

        def release_and_use(*args: Any) -> None:
            release(*args)
            slot = engine.acquire()
            slot.activity.seconds += 1000
            release(slot)

        engine.release = release_and_use  # type: ignore[method-assign, assignment]
        assert metrics(Call(app)) == told(2 * EXECUTING)


class TestHeads:
    def test_headers_of_the_applications_own(self, make: Make) -> None:
        """They stay, in the application's own list too."""
        given = [PLAIN, ("Server-Timing", "render;dur=5")]

        def own(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            start_response("200 OK", given)
            return [b"ok"]

        for acquire, more in (("request", told(0)), ("first-use", [])):
            assert metrics(Call(make(own, acquire=acquire))) == ["render;dur=5", *more]
        assert given == [PLAIN, ("Server-Timing", "render;dur=5")]

    @pytest.mark.parametrize("acquire", ["request", "first-use"])
    def test_a_head_that_is_replaced(self, make: Make, acquire: str) -> None:
        """The error's head has the header too."""

        def replaced(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            start_response("200 OK", [PLAIN])
            try:
                run(environ)
                raise RuntimeError
            except RuntimeError:
                start_response("500 Oh", [PLAIN], sys.exc_info())
            return [b"oh"]

        call = Call(make(replaced, acquire=acquire))
        assert (call.status, metrics(call)) == ("500 Oh", told(EXECUTING))
        assert [len(args) for args in call.started] == ([2, 3] if acquire == "request" else [2])

    @pytest.mark.parametrize("acquire", ["request", "first-use"])
    @pytest.mark.parametrize("answer", [None, unused])
    def test_no_connection(self, make: Make, server: Slow, clock: Clock, acquire: Any, answer: Any) -> None:
        """A 503 tells how long the request waited in vain, and an on_unavailable's answer likewise."""

        class Down(Slow):
            def connect(self, *args: Any, **kwargs: Any) -> Any:
                clock.advance(CONNECTING)
                raise FakeDB.OperationalError("down")

        with Database(creator=Down(clock).connect, clock=clock) as database:
            app = DatabaseMiddleware(twice, database, server_timing=True, acquire=acquire, on_unavailable=answer)
            call = Call(app)
        assert (call.status[:3], metrics(call)) == ("200" if answer else "503", told(0, CONNECTING)[1:])

    def test_a_commit_that_fails(self, make: Make, server: Slow) -> None:
        """The 500 tells how long it took."""
        app = make(twice, transaction="request")
        server.fail("commit", FakeDB.OperationalError("gone"))
        call = Call(app)
        assert (call.status[:3], metrics(call)) == ("500", told(2 * EXECUTING))

    def test_requests_without_a_connection(self, make: Make) -> None:
        """An excluded request, and the inner one of two middlewares, have no header of their own."""
        outer = make(unused)
        excluding = DatabaseMiddleware(unused, outer.database, server_timing=True, exclude=["/static"])
        assert metrics(Call(excluding, "/static/x")) == []
        nested = DatabaseMiddleware(outer, outer.database, server_timing=True)
        assert metrics(Call(nested)) == told(0)

    @pytest.mark.parametrize("transaction", ["manual", "request"])
    @pytest.mark.parametrize("acquire", ["request", "first-use"])
    def test_a_lint_is_silent(self, make: Make, transaction: str, acquire: str) -> None:
        """R11: with the header, too."""
        for app in (twice, streaming, unused):
            wrapped = validator(make(validator(app), transaction=transaction, acquire=acquire))
            call = Call(wrapped, "/")
            assert call.read() in (b"ok", b"ab")

    def test_off_the_server_is_called_directly(self, server: Slow) -> None:
        """Without the option nothing stands between, and no head has the header."""
        seen: list[Any] = []

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            seen.append(start_response)
            return twice(environ, start_response)

        def server_start(status: str, headers: Any) -> Any:
            assert headers == [PLAIN]

        with Database(creator=server.connect) as database:
            acquire: Any
            for acquire in ("request", "first-use"):
                DatabaseMiddleware(app, database, acquire=acquire)(environment(), server_start)
        assert [type(exchange) for exchange in seen] == [Exchange, HeldExchange]
        assert [exchange.server for exchange in seen] == [server_start] * 2


@pytest.mark.slow
@pytest.mark.server
@pytest.mark.parametrize("name", ["gunicorn gthread", "Waitress", "uWSGI"])
def test_on_a_server(name: str, mariadb: Any, tmp_path: Path) -> None:
    """Two clients at once with a pool of one: each statement takes 0.2 s, and the second client waited for longer. What
    is told are milliseconds, and no more of them than the clients have waited."""
    path = [str(TESTS), str(Path(wsgidb.__file__).parents[1])]
    with Server(name, "wsgi.timed:application", tmp_path / "log", path, TIMED_URL=mariadb.url()) as running:
        began = monotonic()
        with ThreadPoolExecutor(2) as clients:
            replies = list(clients.map(lambda _: request(running.port, "/"), range(2)))
        took = (monotonic() - began) * 1000
        waits = []
        for reply in replies:
            assert (reply.status, reply.body) == (200, b"slept")
            headers = [line.decode() for line in reply.lines if line.startswith(b"server-timing: ")]
            assert headers[0] == "server-timing: app;dur=1"
            db, wait = re.findall(r"dur=([0-9.]+)", headers[1])
            assert 200 <= float(db) <= float(db) + float(wait) <= took
            waits.append(float(wait))
        assert max(waits) >= 200
