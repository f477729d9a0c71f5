"""R1: if no connection can be acquired, the application is not called."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.ports import bind
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware, DatabaseUnavailable, PoolOverloaded, PoolTimeout

SECRET = "what the driver said"


def never(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    raise AssertionError("the application was called")


@pytest.fixture
def failing(fakedb: FakeDB) -> FakeDB:
    fakedb.fail("connect", FakeDB.OperationalError(SECRET))
    return fakedb


def eager(fakedb: FakeDB, **options: Any) -> DatabaseMiddleware:
    return DatabaseMiddleware(never, creator=fakedb.connect, **options)


def lazy(app: Any, fakedb: FakeDB, **options: Any) -> DatabaseMiddleware:
    return DatabaseMiddleware(app, creator=fakedb.connect, acquire="first-use", **options)


def test_a_failed_acquire_is_a_503_and_the_app_is_not_called(failing: FakeDB) -> None:
    """R1: the client gets a 503 with Retry-After, which does not tell the cause, and environ has no key."""
    call = Call(eager(failing, retry_after=7))

    assert call.started == [("503 Service Unavailable", list(call.headers.items()))]
    assert call.headers["Retry-After"] == "7"
    assert "db.conn" not in call.environ
    body = call.read()
    assert call.headers["Content-Length"] == str(len(body))
    assert SECRET.encode() not in body
    assert body != b""


def test_the_cause_is_in_the_log(failing: FakeDB, caplog: pytest.LogCaptureFixture) -> None:
    """R1: the log tells the cause."""
    Call(eager(failing))

    (record,) = (record for record in caplog.records if record.name == "wsgidb")
    assert record.levelno == logging.WARNING
    assert SECRET in record.getMessage()


def test_a_key_left_by_an_earlier_request_is_removed(failing: FakeDB) -> None:
    """R1: the application given as on_unavailable finds no key that a former request left."""
    seen: list[bool] = []

    def sorry(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        seen.append("db.conn" in environ)
        start_response("200 OK", [])
        return [b"sorry"]

    call = Call(eager(failing, on_unavailable=sorry), **{"db.conn": "stale"})

    assert seen == [False]
    assert (call.status, call.read()) == ("200 OK", b"sorry")


def test_on_unavailable_raise_leaves_it_to_what_is_around(failing: FakeDB) -> None:
    """R1: with ``raise`` the middleware raises the error with its cause, and has not called start_response."""
    with pytest.raises(DatabaseUnavailable, match=SECRET) as caught:
        Call(eager(failing, on_unavailable="raise"))
    assert isinstance(caught.value.__cause__, FakeDB.OperationalError)


def test_a_head_request_gets_the_head_alone(failing: FakeDB) -> None:
    """R1: the 503 for a HEAD request has the headers of one for GET, and no body."""
    call = Call(eager(failing), REQUEST_METHOD="HEAD")

    assert list(call.body) == []
    assert int(call.headers["Content-Length"]) > 0


def test_an_exhausted_pool_is_a_503_too(fakedb: FakeDB) -> None:
    """R1: PoolTimeout and PoolOverloaded are answered with the same 503."""
    for options, error in (({"acquire_timeout": 0.001}, PoolTimeout), ({"max_waiting": 0}, PoolOverloaded)):
        with Database(creator=fakedb.connect, pool_size=1, **options) as database, database.connection():
            call = Call(DatabaseMiddleware(never, database))
            assert call.status == "503 Service Unavailable"
            with pytest.raises(error):
                Call(DatabaseMiddleware(never, database, on_unavailable="raise"))


def test_it_recovers_by_itself(failing: FakeDB, clock: Any) -> None:
    """R1: after the back-off the next request is served, without a restart."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"served"]

    middleware = DatabaseMiddleware(app, Database(creator=failing.connect, clock=clock))
    assert Call(middleware).status == "503 Service Unavailable"
    clock.advance(1)
    assert Call(middleware).read() == b"served"


def uses(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("X-From", "app")])
    environ["db.conn"].cursor().execute("SELECT 1")
    return [b"served"]


def uses_in_generator(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [("X-From", "app")])
    environ["db.conn"].cursor().execute("SELECT 1")
    yield b"served"


@pytest.mark.parametrize("app", [uses, uses_in_generator])
def test_first_use_that_fails_becomes_the_same_503(failing: FakeDB, app: Any) -> None:
    """R1: with acquire=first-use nothing was sent yet, so the application's status and headers are dropped."""
    call = Call(lazy(app, failing))

    assert [args[0] for args in call.started] == ["503 Service Unavailable"]
    assert "X-From" not in call.headers
    assert call.headers["Retry-After"] == "1"
    assert "db.conn" not in call.environ
    call.read()


@pytest.mark.parametrize("transaction", ["manual", "request"])
def test_another_databases_failure_is_the_apps_own(failing: FakeDB, transaction: Any) -> None:
    """R2: the error of a second Database is the application's to handle, as the request has its connection."""
    second = Database(creator=failing.connect)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        with second.connection():
            return [b"never"]

    with Database(creator=FakeDB().connect, transaction=transaction) as first, pytest.raises(DatabaseUnavailable):
        Call(DatabaseMiddleware(app, first))


@pytest.mark.parametrize("app", [uses, uses_in_generator])
def test_first_use_that_works_is_the_apps_response(fakedb: FakeDB, app: Any) -> None:
    """R1: with acquire=first-use a request that gets its connection is answered as usual."""
    call = Call(lazy(app, fakedb))

    assert call.read() == b"served"
    assert [args[0] for args in call.started] == ["200 OK"]


def test_first_use_acquires_nothing_where_nothing_is_used(failing: FakeDB) -> None:
    """R1: with acquire=first-use a request that does not use its connection acquires none."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert "db.conn" in environ
        start_response("200 OK", [])
        return [b"static"]

    assert Call(lazy(app, failing)).read() == b"static"
    assert failing.count("connect") == 0


def test_first_use_after_the_first_byte_cannot_become_a_503(failing: FakeDB) -> None:
    """R1: what was sent cannot be taken back, so the error ends the response early."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"sent"
        environ["db.conn"].cursor()

    call = Call(lazy(app, failing))
    with pytest.raises(DatabaseUnavailable):
        call.read()
    assert [args[0] for args in call.started] == ["200 OK"]


def test_first_use_after_write_cannot_become_a_503(failing: FakeDB) -> None:
    """R1: what write() sent cannot be taken back."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"sent")
        environ["db.conn"].cursor()
        return []

    with pytest.raises(DatabaseUnavailable):
        Call(lazy(app, failing))


def test_first_use_that_the_app_handles_is_the_apps_business(failing: FakeDB) -> None:
    """R1: a handler may catch DatabaseUnavailable and answer itself."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        try:
            environ["db.conn"].cursor()
        except DatabaseUnavailable:
            start_response("200 OK", [])
            return [b"from the cache"]
        raise AssertionError("there was a connection")

    assert Call(lazy(app, failing)).read() == b"from the cache"


def test_a_server_that_is_not_there_is_a_503_of_the_real_driver(caplog: pytest.LogCaptureFixture) -> None:
    """R1: a real driver cannot connect. The log shows the address and no password."""
    with bind() as nobody:  # its port is nobody else's meanwhile
        port = nobody.getsockname()[1]
        call = Call(DatabaseMiddleware(never, f"mysql+pymysql://guest:geheim@127.0.0.1:{port}/test"))

    assert call.status == "503 Service Unavailable"
    assert f"127.0.0.1:{port}" in caplog.text
    assert "geheim" not in caplog.text


@pytest.mark.server
@pytest.mark.parametrize(
    ("login", "cause"),
    [
        ({"user": "app", "password": "geheim"}, "Access denied for user 'app'"),
        ({"user": "nobody", "password": "geheim"}, "Access denied for user 'nobody'"),
        ({"user": "root", "database": "nowhere"}, "Unknown database 'nowhere'"),
    ],
)
def test_a_refused_login_is_a_503_with_its_cause_in_the_log_only(
    mariadb: MariaDB, login: dict[str, str], cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R1: a wrong password or database is found when the server refuses it. The client does not learn the cause."""
    url = mariadb.url(**login)

    call = Call(DatabaseMiddleware(never, url))

    assert call.status == "503 Service Unavailable"
    assert cause.encode() not in call.read()
    assert cause in caplog.text
    assert "geheim" not in caplog.text
