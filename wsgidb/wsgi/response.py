"""The body of a WSGI response. Its end ends the lease."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from ..strategies import printable
from .exchange import Environ, Exchange, refuse_surplus

log = logging.getLogger("wsgidb")


BLOCK = 8192
"""How many bytes are read at a time from a body that can only be read. It is the default of PEP 3333's wrapper."""


def is_file(body: Any, environ: Environ) -> bool:
    """Whether the body is what the server's file wrapper made of a file that the server can send without the
    application and its connection.

    Any other object with a read() may use the connection for it. Such a body is streamed."""
    wrapper = environ.get("wsgi.file_wrapper")
    if wrapper is None:
        return False
    if not isinstance(wrapper, type):  # uWSGI's is a function that returns the file itself
        return _has_its_data(body)
    if not isinstance(body, wrapper):
        return False
    for name in ("filelike", "file"):  # the latter in Waitress and Werkzeug
        if hasattr(body, name):
            return _has_its_data(getattr(body, name))
    return False


def _has_its_data(file: Any) -> bool:
    """Whether a file has a descriptor, from which servers send it, or has all its bytes in memory."""
    if type(file) is io.BytesIO:
        return True
    fileno = getattr(file, "fileno", None)
    if fileno is None:
        return False
    try:
        return type(fileno()) is int
    except Exception:  # noqa: BLE001 - io.UnsupportedOperation and whatever else the application's own class raises
        return False


def _iterate(body: Any) -> Iterator[bytes]:
    """Iterate over a body. uWSGI's file wrapper may return a file that can only be read."""
    if not hasattr(body, "__iter__") and hasattr(body, "read"):
        return iter(partial(body.read, BLOCK), b"")
    return iter(body)


class Closed(list[bytes]):
    """The chunks of a body that is complete and has been closed. A caller may expect the close() of that body."""

    def close(self) -> None:
        """Do nothing: the body is closed."""


class Stream:
    """The wrapper of a body that is not complete. The lease ends when the body ends, is closed, or is
    garbage-collected."""

    def __init__(self, body: Iterable[bytes], exchange: Exchange) -> None:
        self._body = body
        self._exchange = exchange
        self._iterator: Iterator[bytes] = iter(())
        self._ahead: list[bytes] = []  # chunks that were read before the server asked for them
        self._missing: int | None = None  # how many bytes of the announced length the server has not got
        self._over = False

    def start(self) -> Iterable[bytes]:
        """Read the first chunk. Returns the body for the server: a list of chunks, if the body turned out complete."""
        exchange = self._exchange
        try:
            self._iterator = _iterate(self._body)
            for chunk in self._iterator:
                if exchange.hold and not chunk:
                    continue  # an empty chunk would only send the headers
                self._ahead.append(chunk)
                if exchange.filled:  # beyond the announced length: held back until the commit
                    refuse_surplus(sum(map(len, self._ahead)))
                    continue
                if len(self._ahead) > 1 or len(chunk) != exchange.missing:
                    self._missing = exchange.missing if exchange.commits else None
                    return self
        except BaseException as error:
            self._abort(error)
            raise
        self._finish()
        return Closed(self._ahead) if hasattr(self._body, "close") else self._ahead

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
                    self._read_surplus()
        except StopIteration:
            self._finish()
            raise
        except BaseException as error:
            self._abort(error)
            raise
        if self._missing is not None and self._missing <= 0:
            surplus, self._ahead = self._ahead, []
            self._finish()  # before the client has the whole response
            self._ahead = surplus
        return chunk

    def _read_surplus(self) -> None:
        """Read what comes after the announced length. Usually that is nothing. It is held back until the commit."""
        surplus = sum(map(len, self._ahead))
        for chunk in self._iterator:
            if chunk:
                surplus += len(chunk)
                refuse_surplus(surplus)
                self._ahead.append(chunk)

    def close(self) -> None:
        """Roll back and end the lease, if the body has not ended yet. Otherwise do nothing."""
        if not self._over:
            self._abort(None)

    def _finish(self) -> None:
        """Call the application's close(), which still belongs to the request. Then settle the lease."""
        self._over = True
        try:
            self._close_body()
        except BaseException as error:
            self._exchange.interrupt(error)
            raise
        self._exchange.complete()

    def _abort(self, error: BaseException | None) -> None:
        """Call the application's close(). Then roll back and end the lease, even if close() raised."""
        self._over = True
        self._ahead.clear()
        try:
            self._close_body()
        finally:
            self._exchange.interrupt(error)

    def _close_body(self) -> None:
        close = getattr(self._body, "close", None)
        if close is not None:
            close()

    def _wsgidb_has_lease(self, lease: Any) -> bool:
        """Whether it is this lease's body. Reports of leaks look for it among what a thread is doing."""
        return self._exchange.has(lease)

    def __del__(self) -> None:
        if not self._over:
            path = printable(self._exchange.environ.get("PATH_INFO", ""))
            log.warning("a response body was never closed: %s; its connection is taken back", path)
            self.close()


class SizedStream(Stream):
    """The wrapper of a body that has a length. Servers derive a Content-Length from a length of 1."""

    def __len__(self) -> int:
        return len(self._body)  # type: ignore[arg-type]
