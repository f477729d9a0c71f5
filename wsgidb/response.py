"""The two halves of a WSGI response on their way to the server: its head, and a body that is not complete yet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from .connection import ConnectionProxy, doom, release

log = logging.getLogger("wsgidb")

END: Any = object()

Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]


class Head:
    """The start_response that the application gets. With `hold`, the server's is called with the first byte only,
    so that another response is possible until then."""

    __slots__ = ("_hold", "_server", "_server_write", "headers", "sent", "status")

    def __init__(self, server: StartResponse, hold: bool) -> None:
        self._server = server
        self._server_write: Write | None = None
        self._hold = hold
        self.status: str | None = None
        self.headers: list[tuple[str, str]] = []
        self.sent = False

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Write:
        if self._hold and not self.sent:
            if self.status is not None and exc_info is None:
                raise AssertionError("start_response was called twice without exc_info")
            self.status, self.headers = status, headers
            return self._write
        self.status, self.headers, self.sent = status, headers, True
        if exc_info is None:
            return self._server(status, headers)
        try:
            return self._server(status, headers, exc_info)
        finally:
            exc_info = None  # PEP 3333: no circular reference through the traceback

    def send(self) -> None:
        """Pass a held head on, if there is one."""
        if self._hold and not self.sent and self.status is not None:
            self.sent = True
            self._server_write = self._server(self.status, self.headers)

    def _write(self, data: bytes) -> object:
        self.send()
        assert self._server_write is not None, "write() comes from start_response"
        return self._server_write(data)

    @property
    def length(self) -> int | None:
        """The announced Content-Length."""
        for name, value in self.headers:
            if name.lower() == "content-length" and value.isdecimal():
                return int(value)
        return None


def is_whole(body: Any, environ: dict[str, Any]) -> bool:
    """Whether the body needs neither the application nor its connection any more: a plain list or tuple, or what
    the server's file wrapper made. Where the wrapper is a function, that may be the application's own file."""
    kind = type(body)
    if kind is list or kind is tuple:
        return True
    wrapper = environ.get("wsgi.file_wrapper")
    if wrapper is None:
        return False
    return isinstance(body, wrapper) if isinstance(wrapper, type) else hasattr(body, "read")


class Stream:
    """Any other body. Its end, or its close(), ends the lease; so does its garbage collection."""

    def __init__(self, body: Iterable[bytes], conn: ConnectionProxy, head: Head, path: str) -> None:
        self._body = body
        self._conn = conn
        self._head = head
        self._path = path
        self._iterator: Iterator[bytes] | None = None
        self._read_ahead: list[bytes] = []
        self._over = False

    def start(self) -> Iterable[bytes]:
        """Read up to the first chunk. What is returned is for the server: chunks in a list, where that was all."""
        try:
            self._iterator = iter(self._body)
            for chunk in self._iterator:
                self._read_ahead.append(chunk)
                if len(self._read_ahead) > 1 or len(chunk) != self._head.length:
                    return self
        except BaseException as error:
            self._abort(error)
            raise
        self._finish()
        self._head.send()
        return self._read_ahead

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        if self._over:
            raise StopIteration
        assert self._iterator is not None, "started before the server gets it"
        try:
            chunk = self._read_ahead.pop(0) if self._read_ahead else next(self._iterator)
        except StopIteration:
            self._finish()
            self._head.send()
            raise
        except BaseException as error:
            self._abort(error)
            raise
        self._head.send()
        return chunk

    def close(self) -> None:
        """Before the end: what is not committed is rolled back. After it: nothing."""
        if not self._over:
            self._finish()

    def _abort(self, error: BaseException) -> None:
        if not isinstance(error, Exception):
            doom(self._conn, "interrupted")
        self._finish()

    def _finish(self) -> None:
        """The application's close(), which still belongs to the request; then, whatever it does, the release."""
        self._over = True
        try:
            close = getattr(self._body, "close", None)
            if close is not None:
                close()
        finally:
            release(self._conn)

    def __del__(self) -> None:
        if not self._over:
            log.warning("a response body was never closed: %s; its connection is taken back", self._path)
            self._finish()


class SizedStream(Stream):
    """The body of a body that has a length."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]
