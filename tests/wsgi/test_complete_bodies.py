"""R3: a complete body's lease is over before the body leaves the middleware."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import Any
from wsgiref.util import FileWrapper

import flask
import pytest
import werkzeug.wsgi
from werkzeug.wrappers import Response

from support.fakedb import FakeDB
from support.wsgi import Call, environment
from wsgi.conftest import said
from wsgidb import Database, DatabaseMiddleware


def wrapped(database: Database, body: Any, *headers: tuple[str, str], used: bool = True) -> DatabaseMiddleware:
    """An app that used its connection and returns `body`, or what calling it gives."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if used:
            environ["db.conn"].cursor().execute("UPDATE")
        start_response("200 OK", list(headers))
        return body(environ) if callable(body) and not isinstance(body, type) else body

    return DatabaseMiddleware(app, database)


def released(database: Database) -> bool:
    return database.stats().leased == 0


@pytest.mark.parametrize("body", [[], [b"a", b"b"], (), (b"a",)], ids=repr)
def test_a_plain_list_or_tuple_is_returned_itself(fakedb: FakeDB, database: Database, body: Any) -> None:
    """R3: the very object, with its lease settled and over."""
    call = Call(wrapped(database, body))

    assert call.body is body
    assert released(database)
    assert fakedb.count("rollback") == 1


@pytest.mark.parametrize("kind", [FileWrapper, werkzeug.wsgi.FileWrapper])
def test_a_file_wrapper_of_a_class_is_returned_itself(database: Database, kind: Any) -> None:
    """R3: gunicorn and waitress know their wrapper by its class, and need it for sendfile."""
    made = kind(io.BytesIO(b"data"))
    call = Call(wrapped(database, lambda environ: made), **{"wsgi.file_wrapper": kind})

    assert call.body is made
    assert released(database)
    assert call.read() == b"data", "closed by the server, not before"


@pytest.mark.parametrize("fails", ["commit", "veto"])
def test_a_file_that_the_server_never_gets_is_closed(fakedb: FakeDB, fails: str) -> None:
    """PEP 3333: by the middleware, where the commit fails, or the veto, and the answer is another one."""
    file = io.BytesIO(b"data")

    def veto(environ: Any, status: str, headers: Any) -> bool:
        raise RuntimeError("no idea")

    environ: dict[str, Any] = {"wsgi.file_wrapper": FileWrapper}
    options: dict[str, Any] = {"transaction": "request"}
    if fails == "commit":
        fakedb.fail("commit", FakeDB.OperationalError("no"))
    else:
        options["commit_veto"] = veto
    with Database(creator=fakedb.connect, **options) as database:
        app = wrapped(database, lambda environ: FileWrapper(file))
        with nullcontext() if fails == "commit" else pytest.raises(RuntimeError):
            Call(app, "/", **environ)
    assert file.closed


def test_a_file_wrapper_of_a_function_is_returned_itself(database: Database) -> None:
    """R3: uWSGI's wrapper is a function that gives back the application's own file."""
    file = io.BytesIO(b"data")

    def give_back(file: Any, size: int = 8192) -> Any:
        return file

    wrapper: Any = give_back
    seen: list[Any] = []

    def body(environ: dict[str, Any]) -> Any:
        seen.append(environ["wsgi.file_wrapper"])
        return environ["wsgi.file_wrapper"](file)

    call = Call(wrapped(database, body), **{"wsgi.file_wrapper": wrapper})

    assert call.body is file
    assert seen == [wrapper], "the key is never replaced"
    assert released(database)
    assert not file.closed


def test_a_file_is_no_file_wrapper_where_the_server_has_none(database: Database) -> None:
    """R3: without a wrapper, a body with ``read`` is the application's, and streamed."""
    file = io.BytesIO(b"data")
    call = Call(wrapped(database, file))

    assert call.body is not file
    assert not released(database)
    assert call.read() == b"data"
    assert released(database)
    assert file.closed


class Body:
    """Chunks, with a record of what was done to them."""

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
    """R3: one look tells that it is empty; it is closed, and the server gets an empty list."""
    body = Body()
    call = Call(wrapped(database, body))

    assert (call.body, body.log) == ([], ["next", "close"])
    assert released(database)


@pytest.mark.parametrize("chunk", [b"four", b"long" * 1000])
def test_a_chunk_that_fills_the_length_is_over_when_it_leaves(database: Database, chunk: bytes) -> None:
    """R3: one chunk and the look for another; then closed, and returned as a list of one."""
    body = Body(chunk)
    call = Call(wrapped(database, body, ("Age", "1"), ("content-LENGTH", str(len(chunk))), ("X-Age", "1")))

    assert (call.body, body.log) == ([chunk], ["next", "next", "close"])
    assert released(database)


@pytest.mark.parametrize(
    ("chunks", "length", "looked"),
    [
        ((b"fo", b"ur"), "4", 1),  # not filled by the first
        ((b"four",), "5", 1),  # never filled
        ((b"four", b"more"), "4", 2),  # filled, and yet there is more
        ((b"four",), None, 1),  # nothing announced
        ((b"four",), "four", 1),  # announced nonsense
        ((b"", b"four"), "4", 1),  # an empty chunk first
    ],
)
def test_what_may_have_more_to_come_is_streamed_unread(
    database: Database, chunks: tuple[bytes, ...], length: str | None, looked: int
) -> None:
    """R3: never more than one next() beyond what was announced, and no chunk lost or out of order."""
    body = Body(*chunks)
    call = Call(wrapped(database, body, *[("Content-Length", length)] if length else []))

    assert body.log == ["next"] * looked
    assert not released(database)
    assert list(call.body) == list(chunks)
    assert released(database)


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_a_stream_is_never_read_ahead(fakedb: FakeDB, acquire: str) -> None:
    """R3: a chunk is made when the server asks for it, and the last one that was announced is no exception."""
    body = Body(b"fo", b"ur")
    with Database(creator=fakedb.connect, acquire=acquire) as database:
        call = Call(wrapped(database, body, ("Content-Length", "4")))
        for looked, chunk in enumerate((b"fo", b"ur"), 1):
            assert next(call.body) == chunk
            assert body.log == ["next"] * looked
        assert not released(database)
        call.body.close()


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_what_is_written_is_sent_at_once(fakedb: FakeDB, acquire: str) -> None:
    """R3: by write(), also what fills the announced length."""
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
    """R3: exactly list and tuple: any other class may need its connection while it is iterated, or have a close()."""

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
    """R3: Flask's and Werkzeug's responses are no lists, but their first chunk fills their Content-Length."""
    call = Call(DatabaseMiddleware(app, database))

    assert call.body == [b"hello"]
    assert call.headers["Content-Length"] == "5"
    assert released(database)
    assert said(fakedb)[-1] == "rollback"


@pytest.mark.parametrize("app", [flask_app, werkzeug_app])
def test_framework_answers_to_head_are_complete(database: Database, app: Callable[..., Any]) -> None:
    """R3: a HEAD's body is empty, whatever length is announced."""
    call = Call(DatabaseMiddleware(app, database), REQUEST_METHOD="HEAD")

    assert call.read() == b""
    assert call.headers["Content-Length"] == "5"
    assert released(database)


def test_the_apps_close_of_a_complete_body_belongs_to_the_request(fakedb: FakeDB, database: Database) -> None:
    """R3: closed before it is released: Flask's teardown functions use the connection."""

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
