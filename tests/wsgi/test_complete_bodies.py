"""R3: the lease of a complete body has ended before the middleware returns the body."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flask
import pytest
from werkzeug.wrappers import Response

from support.fakedb import FakeDB
from support.wsgi import Call, environment
from wsgi.conftest import released, said, wrapped
from wsgidb import Database, DatabaseMiddleware


@pytest.mark.parametrize("body", [[], [b"a", b"b"], (), (b"a",)], ids=repr)
def test_a_plain_list_or_tuple_is_returned_itself(fakedb: FakeDB, database: Database, body: Any) -> None:
    """R3: the same object is returned, and its lease is settled."""
    call = Call(wrapped(database, body))

    assert call.body is body
    assert released(database)
    assert fakedb.count("rollback") == 1


class Body:
    """An iterator of chunks that records what was called."""

    def __init__(self, *chunks: bytes) -> None:
        self.chunks = list(chunks)
        self.log: list[str] = []

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> bytes:
        self.log.append("next")
        if not self.chunks:
            raise StopIteration
        return self.chunks.pop(0)

    def close(self) -> None:
        self.log.append("close")


def test_an_empty_body_is_over_when_it_leaves(database: Database) -> None:
    """R3: one next() shows that the body is empty. It is closed, and the server gets an empty list."""
    body = Body()
    call = Call(wrapped(database, body))

    assert (call.body, body.log) == ([], ["next", "close"])
    assert released(database)


@pytest.mark.parametrize(("chunks", "length"), [((), None), ((b"four",), "4")])
def test_what_takes_the_place_of_a_body_has_its_close(
    database: Database, chunks: tuple[bytes, ...], length: str | None
) -> None:
    """R3: an outer middleware may call the close() of a body that has one; another body gets none."""
    headers = [("Content-Length", length)] if length else []
    body = Body(*chunks)
    call = Call(wrapped(database, body, *headers))
    call.body.close()
    assert (call.read(), body.log.count("close")) == (b"".join(chunks), 1)
    assert not hasattr(Call(wrapped(database, iter(chunks), *headers)).body, "close")


@pytest.mark.parametrize("chunk", [b"four", b"long" * 1000])
def test_a_chunk_that_fills_the_length_is_over_when_it_leaves(database: Database, chunk: bytes) -> None:
    """R3: after one chunk and one more next() the body is closed, and the server gets a list with the chunk."""
    body = Body(chunk)
    call = Call(wrapped(database, body, ("Age", "1"), ("content-LENGTH", str(len(chunk))), ("X-Age", "1")))

    assert (call.body, body.log) == ([chunk], ["next", "next", "close"])
    assert released(database)


@pytest.mark.parametrize(
    ("chunks", "length", "looked"),
    [
        ((b"fo", b"ur"), "4", 1),  # the first chunk does not complete the length
        ((b"four",), "5", 1),  # the body is shorter than announced
        ((b"four", b"more"), "4", 2),  # the body is longer than announced
        ((b"four",), None, 1),  # no length is announced
        ((b"four",), "four", 1),  # the announced length is no number
        ((b"", b"four"), "4", 1),  # the first chunk is empty
    ],
)
def test_what_may_have_more_to_come_is_streamed_unread(
    database: Database, chunks: tuple[bytes, ...], length: str | None, looked: int
) -> None:
    """R3: there is at most one next() beyond the announced length, and no chunk is lost or out of order."""
    body = Body(*chunks)
    call = Call(wrapped(database, body, *[("Content-Length", length)] if length else []))

    assert body.log == ["next"] * looked
    assert not released(database)
    assert list(call.body) == list(chunks)
    assert released(database)


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_a_stream_is_never_read_ahead(fakedb: FakeDB, acquire: Any) -> None:
    """R3: a chunk is made when the server asks for it, including the one that completes the announced length."""
    body = Body(b"fo", b"ur")
    with Database(creator=fakedb.connect, acquire=acquire) as database:
        call = Call(wrapped(database, body, ("Content-Length", "4")))
        for looked, chunk in enumerate((b"fo", b"ur"), 1):
            assert next(call.body) == chunk
            assert body.log == ["next"] * looked
        assert not released(database)
        call.body.close()


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_what_is_written_is_sent_at_once(fakedb: FakeDB, acquire: Any) -> None:
    """R3: write() sends at once, including what completes the announced length."""
    written: list[bytes] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", [("Content-Length", "4")])
        write(b"fo")
        assert written == [b"fo"]
        write(b"ur")
        assert written == [b"fo", b"ur"]
        return []

    with Database(creator=fakedb.connect, acquire=acquire) as database:
        body = DatabaseMiddleware(app, database)(environment(), lambda *args: written.append)
    assert (body, written) == ([], [b"fo", b"ur"])


def test_a_sub_class_of_list_is_not_trusted(database: Database) -> None:
    """R3: only list and tuple themselves are complete; a subclass may use the connection or have a close()."""

    class Rows(list[bytes]):
        pass

    body = Rows([b"a", b"b"])
    call = Call(wrapped(database, body))

    assert call.body is not body
    assert not released(database)
    assert call.read() == b"ab"


def flask_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    app = flask.Flask(__name__)

    @app.route("/")
    def index() -> str:
        flask.request.environ["db.conn"].cursor().execute("UPDATE")
        return "hello"

    return app(environ, start_response)


def werkzeug_app(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    environ["db.conn"].cursor().execute("UPDATE")
    return Response("hello")(environ, start_response)


def generator_app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    environ["db.conn"].cursor().execute("UPDATE")
    start_response("200 OK", [("Content-Length", "5")])
    yield b"hello"


@pytest.mark.parametrize("app", [flask_app, werkzeug_app, generator_app])
def test_framework_bodies_are_complete(fakedb: FakeDB, database: Database, app: Callable[..., Any]) -> None:
    """R3: the bodies of Flask and Werkzeug are not lists, but their first chunk completes their Content-Length."""
    call = Call(DatabaseMiddleware(app, database))

    assert call.body == [b"hello"]
    assert call.headers["Content-Length"] == "5"
    assert released(database)
    assert said(fakedb)[-1] == "rollback"


@pytest.mark.parametrize("app", [flask_app, werkzeug_app])
def test_framework_answers_to_head_are_complete(database: Database, app: Callable[..., Any]) -> None:
    """R3: the body for a HEAD request is empty, whatever length is announced."""
    call = Call(DatabaseMiddleware(app, database), REQUEST_METHOD="HEAD")

    assert call.read() == b""
    assert call.headers["Content-Length"] == "5"
    assert released(database)


def test_the_apps_close_of_a_complete_body_belongs_to_the_request(fakedb: FakeDB, database: Database) -> None:
    """R3: close() is called before the release, because Flask's teardown functions use the connection."""

    class Closing(Body):
        conn: Any

        def close(self) -> None:
            self.conn.commit()

    body = Closing(b"four")

    def app(environ: dict[str, Any], start_response: Any) -> Closing:
        body.conn = environ["db.conn"]
        body.conn.cursor().execute("UPDATE")
        start_response("200 OK", [("Content-Length", "4")])
        return body

    Call(DatabaseMiddleware(app, database))
    assert said(fakedb)[-3:] == ["execute", "commit", "rollback"]
