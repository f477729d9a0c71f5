"""What is held back of a WSGI response until its lease is settled: the start_response that an application gets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..lease.proxy import ConnectionProxy, interrupt, settle

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
        if not data and not self.sent:
            return None  # all it would do is send the head
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
