"""The start_response that the application gets. It can hold the response back until the request is settled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from ..lease.proxy import ConnectionProxy, interrupt, settle

Environ = dict[str, Any]
Write = Callable[[bytes], object]
StartResponse = Callable[..., Write]
Veto = Callable[[Environ, str, list[tuple[str, str]]], Any]


SURPLUS = 65_536
"""How many bytes beyond the announced Content-Length are held in memory until the commit."""


def refuse_surplus(size: int) -> None:
    """Raise AssertionError, as servers do for violations of PEP 3333, if a body goes on and on after its end."""
    if size > SURPLUS:
        raise AssertionError(f"the response is longer than its Content-Length, by more than {SURPLUS} bytes")


class CommitFailed(Exception):
    """The commit failed before anything was sent, so that another response can still be given."""


class Exchange:
    """One request's response and its lease. It is called by the application as start_response, and passes everything on
    to the server at once."""

    __slots__ = ("conn", "environ", "headers", "server")
    hold: ClassVar[bool] = False
    """Whether status and headers are held back until the first byte of the body."""

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
            exc_info = None  # PEP 3333: the traceback must not keep this frame alive

    @property
    def missing(self) -> int | None:
        """How many bytes of the announced Content-Length the application has not written yet; None without one."""
        for name, value in self.headers:
            if name.lower() == "content-length" and value.isdecimal():
                return int(value)
        return None

    @property
    def filled(self) -> bool:
        """Whether write() got everything that was announced, and its last part is held back until the commit."""
        return False

    @property
    def commits(self) -> bool:
        """Whether the request is committed at the end of the response, unless it is vetoed."""
        return False

    def send(self) -> None:
        """Send status and headers to the server, if they are held back."""

    def complete(self) -> None:
        """Settle the lease, because the body is complete."""
        settle(self.conn, success=True)

    def interrupt(self, error: BaseException | None) -> None:
        """End the lease without success, because of `error` if there is one (see `lease.proxy.interrupt`)."""
        interrupt(self.conn, error)

    def has(self, lease: object) -> bool:
        """Whether it ends this lease."""
        return self.conn is lease


class HeldExchange(Exchange):
    """A response whose status and headers are held back until the first byte of its body, so that they can still be
    replaced.

    With a `veto` the request is one transaction, and it is committed before the client can see success."""

    __slots__ = ("_last", "_server_write", "_veto", "_written", "sent", "status")
    hold = True

    def __init__(
        self, environ: Environ, conn: ConnectionProxy, start_response: StartResponse, veto: Veto | None
    ) -> None:
        super().__init__(environ, conn, start_response)
        self.sent = False
        self.status: str | None = None
        self._veto = veto
        self._server_write: Write | None = None
        self._written = 0
        self._last: bytes | None = None  # what write() got since the announced length is complete; it is held back

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
            return None  # an empty string would only send the headers
        self._written += len(data)
        missing = self.missing
        if self.commits and data and missing is not None and missing <= 0:
            if self._last is not None:
                refuse_surplus(-missing)
            self._last = (self._last or b"") + data
            return None
        return self._pass_on(data)

    def _pass_on(self, data: bytes) -> object:
        self.send()
        assert self._server_write is not None, "write() is what start_response returns"
        return self._server_write(data)

    def send(self) -> None:
        if not self.sent and self.status is not None:
            self.sent = True
            self._server_write = self.server(self.status, self.headers)

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
        """Settle the lease, because the body is complete. Then send what is held back.

        Raises CommitFailed if the commit fails while the headers are held back, otherwise what the commit raises, or
        what the veto raises."""
        self._settle()
        self.send()
        if self._last is not None:
            self._pass_on(self._last)

    def _settle(self) -> bool:
        """Commit, or roll back if the veto wants it. Returns whether it was a success, which is committed."""
        try:
            success = self._veto is None or (
                self.status is not None and not self._veto(self.environ, self.status, self.headers)
            )
        except BaseException as error:
            self.interrupt(error)
            raise
        try:
            self._end(success)
        except Exception as error:
            if self.sent:
                raise
            raise CommitFailed from error
        return success

    def _end(self, success: bool) -> None:
        settle(self.conn, success)
