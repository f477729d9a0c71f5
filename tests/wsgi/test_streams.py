"""R4: a body that is not complete is wrapped once, and its lease ends however the response ends."""

from __future__ import annotations

import gc
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from support.fakedb import FakeDB
from support.wsgi import Call
from wsgi.conftest import said
from wsgidb import Database, DatabaseMiddleware


class Surprise(Exception):
    pass


class Body:
    """A body that uses the connection for each chunk. `fails` names the method that raises instead."""

    def __init__(self, conn: Any, chunks: int, fails: str) -> None:
        self.conn, self.left, self.fails = conn, chunks, fails
        self.closed = 0

    def __iter__(self) -> Body:
        if self.fails == "iter":
            raise Surprise("iter")
        return self

    def __next__(self) -> bytes:
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        if self.left == 0 and self.fails == "next":
            raise Surprise("next")
        self.conn.cursor().execute("SELECT 1")
        return b"x"

    def close(self) -> None:
        self.closed += 1
        self.conn.cursor().execute("INSERT INTO log")
        if self.fails == "close":
            raise Surprise("close")


class Sized(Body):
    def __len__(self) -> int:
        return 3


class App:
    """An application that returns a Body and keeps it for the test to look at."""

    def __init__(self, kind: type[Body] = Body, chunks: int = 3, fails: str = "") -> None:
        self.kind, self.chunks, self.fails = kind, chunks, fails
        self.body: Any = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Body:
        self.body = self.kind(environ["db.conn"], self.chunks, self.fails)
        start_response("200 OK", [("X-A", "b")])
        return self.body  # type: ignore[no-any-return]


def is_over(fakedb: FakeDB, database: Database, app: App) -> bool:
    """Whether the body was closed once while it had its connection, and the lease was released once after that."""
    stats = database.stats()
    kept = int(database.settings.strategy_name != "per-request")
    return (
        (stats.open, stats.leased, app.body.closed) == (kept, 0, 1)
        and fakedb.statements()[-1] == "INSERT INTO log"
        and said(fakedb)[-1] == "rollback"
        and fakedb.count("rollback") == 1
    )


def test_the_end_of_the_iteration_ends_the_lease(fakedb: FakeDB, database: Database) -> None:
    """R4: the end of the iteration closes the body, releases, and raises StopIteration. Later close() does nothing."""
    app = App()
    body = Call(DatabaseMiddleware(app, database)).body

    for _ in range(3):
        assert next(body) == b"x"
        assert database.stats().leased == 1
    with pytest.raises(StopIteration):
        next(body)

    assert is_over(fakedb, database, app)
    body.close()
    with pytest.raises(StopIteration):
        next(body)
    assert is_over(fakedb, database, app)


def test_close_before_the_end_ends_the_lease(fakedb: FakeDB, database: Database) -> None:
    """R4: close() before the end closes the body, rolls back and releases. A second close() does nothing."""
    app = App()
    body = Call(DatabaseMiddleware(app, database)).body

    next(body)
    body.close()
    assert is_over(fakedb, database, app)
    body.close()
    assert is_over(fakedb, database, app)
    assert list(body) == [], "nothing more comes from a closed body"


def test_a_body_that_is_closed_without_iteration_ends_the_lease(fakedb: FakeDB, database: Database) -> None:
    """R4: a server may close a body without iterating over it."""
    app = App()
    Call(DatabaseMiddleware(app, database)).body.close()

    assert is_over(fakedb, database, app)


@pytest.mark.parametrize("iterated", [False, True])
def test_a_body_that_is_dropped_unclosed_ends_the_lease(
    fakedb: FakeDB, database: Database, iterated: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """R4: some test clients never close a body. Garbage collection ends the lease, and the log names the path."""
    app = App()
    call = Call(DatabaseMiddleware(app, database), "/dropped")
    if iterated:
        next(call.body)
    assert database.stats().leased == 1

    del call
    gc.collect()

    assert is_over(fakedb, database, app)
    (record,) = (record for record in caplog.records if "/dropped" in record.getMessage())
    assert (record.name, record.levelno) == ("wsgidb", logging.WARNING)


def test_an_exception_midway_ends_the_lease(fakedb: FakeDB, database: Database) -> None:
    """R4: the exception of the body is raised after its close() and the release."""
    app = App(fails="next")
    body = Call(DatabaseMiddleware(app, database)).body

    with pytest.raises(Surprise, match="next"):
        list(body)

    assert is_over(fakedb, database, app)
    body.close()
    assert is_over(fakedb, database, app)


def test_an_exception_of_iter_ends_the_lease(fakedb: FakeDB, database: Database) -> None:
    """R4: an exception in the body's __iter__ ends the lease."""
    app = App(fails="iter")
    with pytest.raises(Surprise, match="iter"):
        Call(DatabaseMiddleware(app, database))

    assert is_over(fakedb, database, app)


@pytest.mark.parametrize("how", ["to the end", "close"])
def test_a_close_that_raises_does_not_keep_the_lease(fakedb: FakeDB, database: Database, how: str) -> None:
    """R4: the lease ends although the body's close() raised, and a second close() does nothing."""
    app = App(fails="close")
    body = Call(DatabaseMiddleware(app, database)).body

    with pytest.raises(Surprise, match="close"):
        list(body) if how == "to the end" else body.close()

    assert is_over(fakedb, database, app)
    body.close()


def test_a_complete_body_whose_close_raises_does_not_keep_the_lease(fakedb: FakeDB, database: Database) -> None:
    """R4: the lease ends although the close() of a body that the server never gets raised."""
    app = App(chunks=0, fails="close")
    with pytest.raises(Surprise, match="close"):
        Call(DatabaseMiddleware(app, database))

    assert is_over(fakedb, database, app)


def test_a_failing_rollback_does_not_reach_the_client(fakedb: FakeDB, database: Database) -> None:
    """R4: the client gets its complete response. The connection that could not be cleaned is discarded."""
    app = App()
    body = Call(DatabaseMiddleware(app, database)).body
    fakedb.fail("rollback", FakeDB.OperationalError())

    assert list(body) == [b"x"] * 3
    assert database.stats().discards == {"reset failed": 1}


@pytest.mark.parametrize(("kind", "sized"), [(Body, False), (Sized, True)])
def test_a_length_is_there_only_where_the_body_has_one(database: Database, kind: type[Body], sized: bool) -> None:
    """R4: servers derive a Content-Length from a length of 1, so there is a ``__len__`` only if the body has one."""
    body = Call(DatabaseMiddleware(App(kind), database)).body

    assert hasattr(body, "__len__") is sized
    assert not sized or len(body) == 3
    body.close()


def test_a_body_without_close_is_fine(database: Database) -> None:
    """R4: PEP 3333 makes close() optional."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        return iter([b"a", b"b"])

    assert Call(DatabaseMiddleware(app, database)).read() == b"ab"
    assert database.stats().leased == 0


def test_a_none_body_is_passed_on(database: Database) -> None:
    """R4: None is returned unchanged, because the server or a validator reports that bug better. The lease ends."""

    def app(environ: dict[str, Any], start_response: Any) -> None:
        start_response("200 OK", [])

    assert Call(DatabaseMiddleware(app, database)).body is None
    assert database.stats().leased == 0


@pytest.mark.parametrize("change", ["overwrite", "delete"])
def test_the_middleware_keeps_its_own_reference(database: Database, change: str) -> None:
    """R4: the lease ends although the application changed or deleted the key in environ."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"a"
        if change == "overwrite":
            environ["db.conn"] = "mine"
        else:
            del environ["db.conn"]
        yield b"b"

    call = Call(DatabaseMiddleware(app, database))
    assert call.read() == b"ab"
    assert database.stats().leased == 0


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_start_response_gets_two_arguments(fakedb: FakeDB, acquire: Any) -> None:
    """R4: without exc_info the server's start_response gets exactly two arguments, as some servers take no more."""
    call = Call(DatabaseMiddleware(App(), creator=fakedb.connect, acquire=acquire))
    call.read()

    assert call.started == [("200 OK", [("X-A", "b")])]
