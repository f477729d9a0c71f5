"""A WSGI response on its way to the server: what is held back of it, and how its lease ends."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar

from .connection import ConnectionProxy, interrupt, settle
from .stores import printable

log = logging.getLogger("wsgidb")

Environ = dict[str, Any]
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
Veto = Callable[[Environ, str, list[tuple[str, str]]], Any]


class CommitFailed(Exception):
    """A commit failed while nothing of the response was sent, so that it can still become an error's."""


class Exchange:
    """One request's response, passed on as it comes, and the lease that ends with it.

    It is the start_response that the application gets."""

    __slots__ = ("conn", "environ", "headers", "server")
    hold: ClassVar[bool] = False
    """Whether nothing goes to the server before the first byte of the body."""

    def __init__(self, environ: Environ, conn: ConnectionProxy, start_response: StartResponse) -> None:
        self.environ = environ
        self.conn = conn
        self.server = start_response
        self.headers: list[tuple[str, str]] = []

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Write:
        self.headers = headers
        if exc_info is None:
            return self.server(status, headers)
        try:
            return self.server(status, headers, exc_info)
        finally:
            exc_info = None  # PEP 3333: no circular reference through the traceback

    @property
    def missing(self) -> int | None:
        """How much of the announced Content-Length the application has not written yet."""
        for name, value in self.headers:
            if name.lower() == "content-length" and value.isdecimal():
                return int(value)
        return None

    @property
    def filled(self) -> bool:
        """Whether all that was announced was written, and its end is held back until the commit."""
        return False

    @property
    def commits(self) -> bool:
        """Whether the end of the response commits, unless it is vetoed."""
        return False

    def send(self) -> None:
        """Pass a held head on, if there is one."""

    def complete(self) -> None:
        """All of the body is there: settle the lease."""
        settle(self.conn, success=True)


class HeldExchange(Exchange):
    """A response whose head is held back until the first byte of its body, so that another one is possible until then.

    With a `veto` the request is one transaction, which is committed before the client can see success."""

    __slots__ = ("_last", "_veto", "_write_on", "_written", "sent", "status")
    hold = True

    def __init__(
        self, environ: Environ, conn: ConnectionProxy, start_response: StartResponse, veto: Veto | None
    ) -> None:
        super().__init__(environ, conn, start_response)
        self.sent = False
        self.status: str | None = None
        self._veto = veto
        self._write_on: Write | None = None  # the server's
        self._written = 0
        self._last: bytes | None = None  # what was given to write(), from where it completes the announced length

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Write:
        if self.sent:
            return super().__call__(status, headers, exc_info)
        if self.status is not None and exc_info is None:
            raise AssertionError("start_response was called twice without exc_info")
        self.status, self.headers = status, headers
        self._written, self._last = 0, None
        return self._write

    def _write(self, data: bytes) -> object:
        self._written += len(data)
        missing = self.missing
        if self.commits and data and missing is not None and missing <= 0:
            self._last = (self._last or b"") + data
            return None
        return self._pass_on(data)

    def _pass_on(self, data: bytes) -> object:
        self.send()
        assert self._write_on is not None, "write() comes from start_response"
        return self._write_on(data)

    def send(self) -> None:
        if not self.sent and self.status is not None:
            self.sent = True
            self._write_on = self.server(self.status, self.headers)

    @property
    def missing(self) -> int | None:
        announced = super().missing
        return None if announced is None else announced - self._written

    @property
    def filled(self) -> bool:
        return self._last is not None

    @property
    def commits(self) -> bool:
        return self._veto is not None

    def complete(self) -> None:
        """All of the body is there: settle the lease, then let go what is held back.

        Raises CommitFailed where the head is still held, else what the commit raised; or what the veto raised."""
        try:
            success = self._veto is None or (
                self.status is not None and not self._veto(self.environ, self.status, self.headers)
            )
        except BaseException as error:
            interrupt(self.conn, error)
            raise
        try:
            settle(self.conn, success)
        except Exception as error:
            if self.sent:
                raise
            raise CommitFailed from error
        self.send()
        if self._last is not None:
            self._pass_on(self._last)


def is_file(body: Any, environ: Environ) -> bool:
    """Whether the body is what the server's file wrapper made, which needs neither the application nor its connection
    any more. Where the wrapper is a function, that may be the application's own file."""
    wrapper = environ.get("wsgi.file_wrapper")
    if wrapper is None:
        return False
    return isinstance(body, wrapper) if isinstance(wrapper, type) else hasattr(body, "read")


class Stream:
    """Any other body. Its end, or its close(), ends the lease; so does its garbage collection."""

    def __init__(self, body: Iterable[bytes], exchange: Exchange) -> None:
        self._body = body
        self._exchange = exchange
        self._iterator: Iterator[bytes] = iter(())
        self._ahead: list[bytes] = []  # chunks that were read before the server asked
        self._missing: int | None = None  # bytes up to the announced length
        self._over = False

    def start(self) -> Iterable[bytes]:
        """Read up to the first chunk. Returns what is for the server: chunks in a list, where that was all."""
        exchange = self._exchange
        try:
            self._iterator = iter(self._body)
            for chunk in self._iterator:
                if exchange.hold and not chunk:
                    continue  # all it would do is send the head
                self._ahead.append(chunk)
                if exchange.filled:
                    continue  # more than was announced; none of it may go before the commit
                if len(self._ahead) > 1 or len(chunk) != exchange.missing:
                    self._missing = exchange.missing if exchange.commits else None
                    return self
        except BaseException as error:
            self._abort(error)
            raise
        self._finish()
        return self._ahead

    def __iter__(self) -> Stream:
        return self

    def __next__(self) -> bytes:
        if self._over:
            if self._ahead:
                return self._ahead.pop(0)
            raise StopIteration
        try:
            chunk = self._ahead.pop(0) if self._ahead else next(self._iterator)
            self._exchange.send()
            if self._missing is not None:
                self._missing -= len(chunk)
                if self._missing <= 0 and chunk:
                    self._ahead.extend(part for part in self._iterator if part)  # its end, as a rule
        except StopIteration:
            self._finish()
            raise
        except BaseException as error:
            self._abort(error)
            raise
        if self._missing is not None and self._missing <= 0:
            surplus, self._ahead = self._ahead, []
            self._finish()  # before the client can have the last byte that was announced
            self._ahead = surplus
        return chunk

    def close(self) -> None:
        """Before the end: what is not committed is rolled back. After it: nothing."""
        if not self._over:
            self._abort(None)

    def _finish(self) -> None:
        """The application's close(), which still belongs to the request; then the lease is settled."""
        self._over = True
        try:
            self._close_body()
        except BaseException as error:
            interrupt(self._exchange.conn, error)
            raise
        self._exchange.complete()

    def _abort(self, error: BaseException | None) -> None:
        """The application's close(); then, whatever that does, the lease ends and its work is rolled back."""
        self._over = True
        self._ahead.clear()
        try:
            self._close_body()
        finally:
            interrupt(self._exchange.conn, error)

    def _close_body(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()

    def __del__(self) -> None:
        if not self._over:
            path = printable(self._exchange.environ.get("PATH_INFO", ""))
            log.warning("a response body was never closed: %s; its connection is taken back", path)
            self.close()


class SizedStream(Stream):
    """The body of a body that has a length."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]
