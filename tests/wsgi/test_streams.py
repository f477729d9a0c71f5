"""R4: any other body is wrapped once, and its lease ends on every way out."""

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
    """Chunks that are made with the connection; `fails` names where it raises instead."""

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
    """Returns a Body, and keeps it to be looked at."""

    def __init__(self, kind: type[Body] = Body, chunks: int = 3, fails: str = "") -> None:
        self.kind, self.chunks, self.fails = kind, chunks, fails
        self.body: Any = None

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Body:
        self.body = self.kind(environ["db.conn"], self.chunks, self.fails)
        start_response("200 OK", [("X-A", "b")])
        return self.body  # type: ignore[no-any-return]


def is_over(fakedb: FakeDB, database: Database, app: App) -> bool:
    """The lease is released, after the body was closed with the connection still there, and both only once."""
    stats = database.stats()
    kept = int(database.settings.strategy_name != "per-request")
    return (
        (stats.open, stats.leased, app.body.closed) == (kept, 0, 1)
        and fakedb.statements()[-1] == "INSERT INTO log"
        and said(fakedb)[-1] == "rollback"
        and fakedb.count("rollback") == 1
    )


def test_the_end_of_the_iteration_ends_the_lease(fakedb: FakeDB, database: Database) -> None:
    """R4: at the end the app's close(), then the release, then StopIteration; the server's close() finds nothing."""
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
    """R4: the client left: the app's close(), a rollback, the release; a second close() does nothing."""
    app = App()
    body = Call(DatabaseMiddleware(app, database)).body

    next(body)
    body.close()
    assert is_over(fakedb, database, app)
    body.close()
    assert is_over(fakedb, database, app)
    assert list(body) == [], "nothing more comes from a closed body"


def test_a_body_that_is_closed_without_iteration_ends_the_lease(fakedb: FakeDB, database: Database) -> None:
    """R4: as for an answer that the server does not want to send."""
    app = App()
    Call(DatabaseMiddleware(app, database)).body.close()

    assert is_over(fakedb, database, app)


@pytest.mark.parametrize("iterated", [False, True])
def test_a_body_that_is_dropped_unclosed_ends_the_lease(
    fakedb: FakeDB, database: Database, iterated: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """R4: test clients do that. It is taken back by garbage collection, and the log names the path."""
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
    """R4: the body's own exception comes out, after its close() and the release."""
    app = App(fails="next")
    body = Call(DatabaseMiddleware(app, database)).body

    with pytest.raises(Surprise, match="next"):
        list(body)

    assert is_over(fakedb, database, app)
    body.close()
    assert is_over(fakedb, database, app)


def test_an_exception_of_iter_ends_the_lease(fakedb: FakeDB, database: Database) -> None:
    """R4: a body that does not even begin."""
    app = App(fails="iter")
    with pytest.raises(Surprise, match="iter"):
        Call(DatabaseMiddleware(app, database))

    assert is_over(fakedb, database, app)


@pytest.mark.parametrize("how", ["to the end", "close"])
def test_a_close_that_raises_does_not_keep_the_lease(fakedb: FakeDB, database: Database, how: str) -> None:
    """R4: each step is guaranteed though the one before raises; and a second close() is quiet."""
    app = App(fails="close")
    body = Call(DatabaseMiddleware(app, database)).body

    with pytest.raises(Surprise, match="close"):
        list(body) if how == "to the end" else body.close()

    assert is_over(fakedb, database, app)
    body.close()


def test_a_complete_body_whose_close_raises_does_not_keep_the_lease(fakedb: FakeDB, database: Database) -> None:
    """R4: the same where the middleware closes it before the server ever sees it."""
    app = App(chunks=0, fails="close")
    with pytest.raises(Surprise, match="close"):
        Call(DatabaseMiddleware(app, database))

    assert is_over(fakedb, database, app)


def test_a_failing_rollback_does_not_reach_the_client(fakedb: FakeDB, database: Database) -> None:
    """R4: the response is complete; a connection that cannot be cleaned is a matter of the pool's."""
    app = App()
    body = Call(DatabaseMiddleware(app, database)).body
    fakedb.fail("rollback", FakeDB.OperationalError())

    assert list(body) == [b"x"] * 3
    assert database.stats().discards == {"reset failed": 1}


@pytest.mark.parametrize(("kind", "sized"), [(Body, False), (Sized, True)])
def test_a_length_is_there_only_where_the_body_has_one(database: Database, kind: type[Body], sized: bool) -> None:
    """R4: servers make a Content-Length of len(body) == 1, and test for ``__len__`` first."""
    body = Call(DatabaseMiddleware(App(kind), database)).body

    assert hasattr(body, "__len__") is sized
    assert not sized or len(body) == 3
    body.close()


def test_a_body_without_close_is_fine(database: Database) -> None:
    """R4: close() is optional in PEP 3333."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        return iter([b"a", b"b"])

    assert Call(DatabaseMiddleware(app, database)).read() == b"ab"
    assert database.stats().leased == 0


def test_a_none_body_is_passed_on(database: Database) -> None:
    """R4: it is a bug that the server or a lint reports better; the lease is over."""

    def app(environ: dict[str, Any], start_response: Any) -> None:
        start_response("200 OK", [])

    assert Call(DatabaseMiddleware(app, database)).body is None
    assert database.stats().leased == 0


@pytest.mark.parametrize("change", ["overwrite", "delete"])
def test_the_middleware_keeps_its_own_reference(database: Database, change: str) -> None:
    """R4: an app may do with the environ key what it likes; the lease ends all the same."""

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
def test_start_response_gets_two_arguments(fakedb: FakeDB, acquire: str) -> None:
    """R4: where there is no exc_info the server's start_response is called with exactly two, as some demand."""
    call = Call(DatabaseMiddleware(App(), creator=fakedb.connect, acquire=acquire))
    call.read()

    assert call.started == [("200 OK", [("X-A", "b")])]
