"""R3: the lease of a complete body has ended before the middleware returns the body."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import flask
import gunicorn.http.wsgi
import pytest
import werkzeug.wsgi
from waitress.buffers import ReadOnlyFileBasedBuffer as Buffer
from werkzeug.wrappers import Response

from support.fakedb import FakeDB
from support.wsgi import Call, environment
from wsgi.conftest import said
from wsgidb import Database, DatabaseMiddleware


def wrapped(database: Database, body: Any, *headers: tuple[str, str], used: bool = True) -> DatabaseMiddleware:
    """An application that uses its connection and returns `body`, or what calling it returns."""

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
    """R3: the same object is returned, and its lease is settled."""
    call = Call(wrapped(database, body))

    assert call.body is body
    assert released(database)
    assert fakedb.count("rollback") == 1


@pytest.mark.parametrize("kind", [FileWrapper, werkzeug.wsgi.FileWrapper])
def test_a_file_wrapper_of_a_class_is_returned_itself(database: Database, kind: Any) -> None:
    """R3: gunicorn and Waitress recognise their wrapper by its class, and use sendfile only then."""
    made = kind(io.BytesIO(b"data"))
    call = Call(wrapped(database, lambda environ: made), **{"wsgi.file_wrapper": kind})

    assert call.body is made
    assert released(database)
    assert call.read() == b"data", "closed by the server, not before"


class Report:
    """A file-like body that asks the database for each part."""

    def __init__(self, conn: Any) -> None:
        self.conn, self.left, self.closed = conn, 2, False

    def read(self, size: int = -1) -> bytes:
        self.conn.cursor().execute("SELECT part")
        self.left -= 1
        return b"part" if self.left >= 0 else b""

    def close(self) -> None:
        self.closed = True


class IterableReport(Report):
    def __iter__(self) -> Iterator[bytes]:
        return iter(self.read, b"")


class ReportWithoutDescriptor(IterableReport):
    def fileno(self) -> int:
        raise NotImplementedError("there is no file")


def give_back(file: Any, size: int = 8192) -> Any:
    """A file wrapper as uWSGI has it: a function that returns the application's own file."""
    return file


WRAPPERS: list[Any] = [FileWrapper, werkzeug.wsgi.FileWrapper, gunicorn.http.wsgi.FileWrapper, Buffer, give_back]


@pytest.mark.parametrize("wrapper", WRAPPERS)
@pytest.mark.parametrize("report", [Report, IterableReport, ReportWithoutDescriptor])
def test_a_wrapped_file_that_needs_its_connection_keeps_its_lease(
    fakedb: FakeDB, database: Database, wrapper: Any, report: type[Report]
) -> None:
    """R3: only a descriptor or bytes are complete. The read() of any other file may use the connection."""
    made: list[Report] = []

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        made.append(report(environ["db.conn"]))
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](made[0])

    call = Call(DatabaseMiddleware(app, database), **{"wsgi.file_wrapper": wrapper})

    assert not released(database)
    assert call.read() == b"partpart"
    assert made[0].closed
    assert released(database)
    assert fakedb.statements() == ["SELECT part"] * 3


@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_a_wrapped_file_with_a_descriptor_is_complete(database: Database, wrapper: Any, tmp_path: Path) -> None:
    """R3: the server sends it from the descriptor, or reads it without the application."""
    (tmp_path / "file").write_bytes(b"data")
    made: list[Any] = []

    def body(environ: dict[str, Any]) -> Any:
        made.append(environ["wsgi.file_wrapper"]((tmp_path / "file").open("rb")))
        return made[0]

    call = Call(wrapped(database, body), **{"wsgi.file_wrapper": wrapper})

    assert call.body is made[0]
    assert released(database)
    getattr(made[0], "filelike", getattr(made[0], "file", made[0])).close()


@pytest.mark.parametrize("wrapper", [lambda environ: None, FileWrapper])
def test_a_file_of_the_applications_own_keeps_its_lease(database: Database, wrapper: Any) -> None:
    """R3: so does a readable body that the application returns without the server's wrapper."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return IterableReport(environ["db.conn"])

    call = Call(DatabaseMiddleware(app, database), **{"wsgi.file_wrapper": wrapper})
    assert not released(database)
    assert call.read() == b"partpart"
    assert released(database)


@pytest.mark.parametrize("fails", ["commit", "veto"])
def test_a_file_that_the_server_never_gets_is_closed(fakedb: FakeDB, fails: str) -> None:
    """PEP 3333: the middleware closes the file if the commit or the veto fails, because another response is sent."""
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
    """R3: uWSGI's wrapper is a function that returns the application's own file."""
    file = io.BytesIO(b"data")

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
    """R3: if the server has no file wrapper, a body with ``read`` is streamed like any other."""
    file = io.BytesIO(b"data")
    call = Call(wrapped(database, file))

    assert call.body is not file
    assert not released(database)
    assert call.read() == b"data"
    assert released(database)
    assert file.closed


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
