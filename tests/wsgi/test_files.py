"""R3: of files in the server's file wrapper, those that need nothing more of their request are complete."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from wsgiref.util import FileWrapper

import gunicorn.http.wsgi
import pytest
import werkzeug.wsgi
from waitress.buffers import ReadOnlyFileBasedBuffer as Buffer

from support.fakedb import FakeDB
from support.wsgi import Call
from wsgi.conftest import released, wrapped
from wsgidb import Database, DatabaseMiddleware


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
