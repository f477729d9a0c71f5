"""R11: ``wsgiref.validate`` around and inside the middleware reports nothing, for every kind of body."""

from __future__ import annotations

import gc
import io
import sys
import unittest.mock
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from wsgiref.util import FileWrapper
from wsgiref.validate import validator

import pytest

from support.fakedb import FakeDB
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware

LENGTH = ("Content-Length", "4")
PLAIN = ("Content-Type", "text/plain")


class OwnBody:
    """A body that is an iterable and no iterator, with a length and a close()."""

    def __iter__(self) -> Iterator[bytes]:
        return iter([b"fo", b"ur"])

    def __len__(self) -> int:
        return 2

    def close(self) -> None:
        pass


def chunks(*parts: bytes) -> Iterator[bytes]:
    yield from parts


BODIES: dict[str, Any] = {
    "list": lambda: [b"four"],
    "tuple": lambda: (b"fo", b"ur"),
    "empty list": list,
    "generator": lambda: chunks(b"fo", b"ur"),
    "one chunk": lambda: chunks(b"four"),
    "empty generator": lambda: chunks(),
    "own": OwnBody,
    "file": lambda: FileWrapper(io.BytesIO(b"four")),
}
SIDES = ("around", "inside", "both")


def wrapped(app: Any, side: str, fakedb: FakeDB, **options: Any) -> Any:
    """The application in the middleware, with a validator around the middleware, inside it, or both."""
    middleware = DatabaseMiddleware(validator(app) if side != "around" else app, creator=fakedb.connect, **options)
    return middleware if side == "inside" else validator(middleware)


def settle(call: Call, leave: str = "end") -> bytes:
    """Read the response as a server does. `leave` says when the client disconnects."""
    try:
        if leave == "at once":
            return b""
        if leave == "midway":
            return next(iter(call.body), b"")
        return b"".join(call.body)
    finally:
        if hasattr(call.body, "close"):
            call.body.close()


@pytest.fixture(autouse=True)
def unraisable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The validator reports unclosed bodies in a finalizer, whose exceptions reach only this hook."""
    hook = unittest.mock.Mock()
    monkeypatch.setattr(sys, "unraisablehook", hook)
    yield
    gc.collect()
    assert [call.args[0].exc_value for call in hook.call_args_list] == []


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("leave", ["end", "midway", "at once"])
@pytest.mark.parametrize("options", [{}, {"acquire": "first-use"}], ids=["request", "first-use"])
def test_every_kind_of_body(fakedb: FakeDB, side: str, kind: str, leave: str, options: Any) -> None:
    """R11: nothing is reported whenever the client disconnects, and the lease ends."""
    def app(environ: dict[str, Any], start_response: Any) -> Any:
        environ["db.conn"].cursor().execute("SELECT 1")
        empty = kind.startswith("empty")
        start_response("200 OK", [PLAIN] if empty else [PLAIN, LENGTH])
        return BODIES[kind]()

    call = Call(wrapped(app, side, fakedb, **options))
    body = settle(call, leave)

    assert leave != "end" or body == (b"" if kind.startswith("empty") else b"four")
    assert fakedb.count("rollback") == 1


@pytest.mark.parametrize("side", SIDES)
def test_write_and_exc_info(fakedb: FakeDB, side: str) -> None:
    """R11: write() and exc_info are used correctly."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [PLAIN])
        try:
            raise KeyError
        except KeyError:
            write = start_response("500 Oops", [PLAIN, LENGTH], sys.exc_info())
        write(b"fo")
        return [b"ur"]

    call = Call(wrapped(app, side, fakedb))
    assert settle(call) == b"ur"
    assert (call.status, call.written) == ("500 Oops", [b"fo"])


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("answer", [("204 No Content", "GET"), ("304 Not Modified", "GET"), ("200 OK", "HEAD")])
def test_answers_without_a_body(fakedb: FakeDB, side: str, answer: tuple[str, str]) -> None:
    """R11: nothing is reported for 204, 304 and HEAD."""
    status, method = answer

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response(status, [PLAIN] if method == "HEAD" else [])
        return []

    assert settle(Call(wrapped(app, side, fakedb), REQUEST_METHOD=method)) == b""


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_the_503(fakedb: FakeDB, method: str) -> None:
    """R11: the middleware's own response is valid."""
    fakedb.fail("connect", FakeDB.OperationalError())
    middleware = DatabaseMiddleware(lambda environ, start_response: [], creator=fakedb.connect)
    call = Call(validator(middleware), REQUEST_METHOD=method)
    assert call.status == "503 Service Unavailable"
    settle(call)


@pytest.mark.parametrize("side", SIDES)
def test_nested_middlewares(fakedb: FakeDB, side: str) -> None:
    """R11: nothing is reported for two middlewares with two Databases and two keys."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [PLAIN])
        return chunks(b"fo", b"ur")

    with Database(creator=fakedb.connect, key="other.conn") as other:
        assert settle(Call(wrapped(DatabaseMiddleware(app, other), side, fakedb))) == b"four"


@pytest.mark.parametrize("side", SIDES)
def test_an_exception_midway(fakedb: FakeDB, side: str) -> None:
    """R11: after an exception in the body, the validator sees one close()."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [PLAIN])
        yield b"fo"
        raise KeyError

    with suppress(KeyError):
        settle(Call(wrapped(app, side, fakedb)))
    assert fakedb.opened == 1
