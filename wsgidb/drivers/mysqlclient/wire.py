"""mysqlclient's connection on the wire: deadlines that its C library does not know, and ways out without a goodbye."""

from __future__ import annotations

import os
import socket
import struct
from contextlib import suppress
from typing import Any

import MySQLdb.connections
from MySQLdb import MySQLError, OperationalError

from .. import sockets
from ..mysql.observed import LOST
from ..states import Clock
from .record import Record

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER, on, for 0 seconds: closing the socket sends a reset."""

Base: Any = MySQLdb.connections.Connection


class Wire(Base):  # type: ignore[misc]
    """The part of our connection that deals with the socket."""

    _seen: Record
    _identity: tuple[int, int] | None = None
    """Of the socket: the library may have closed its descriptor, and the number be somebody else's by now."""

    def __init__(self, deadline: float, clock: Clock, **arguments: Any) -> None:
        self._pid = os.getpid()
        self._limit(deadline, clock)
        super().__init__(**arguments)
        self._unlimit()
        self._descriptor = self.fileno()
        self._identity = _identity(self._descriptor)

    def _limit(self, deadline: float, clock: Clock) -> None:
        """The library's own timeouts are whole seconds, and those of statements: so the reply is waited for outside."""
        self._seen.deadline = deadline, clock

    def _unlimit(self) -> None:
        self._seen.deadline = None

    def _query_before(self, query: Any, deadline: float, clock: Clock) -> None:
        super().send_query(query)
        if not sockets.wait_readable(self.fileno(), sockets.remaining(deadline, clock)):
            self._seen.gone = True
            raise OperationalError(LOST, "Lost connection to MySQL server (timed out)")
        super().read_query_result()

    def _abandon(self, busy: bool) -> None:
        """Close without a word to the server. A thread that waits for a reply gets an end of file, and the descriptor
        is closed when no thread uses it any more."""
        if not self.open:
            return
        if os.getpid() == self._pid:  # in a forked child it would end the parent's session
            self._shut_down()
        self._seen.close_when_unused(self._close_silently)

    def _shut_down(self) -> None:
        """End the connection, though not the descriptor, which is the library's to close.

        With a reset: where the library has read all that was sent, a server that has more to send would otherwise wait
        for the closed socket to take it, up to a minute, and hold its locks."""
        try:
            copy = os.dup(self._descriptor)
        except OSError:
            return
        if _identity(copy) != self._identity:
            return os.close(copy)
        with socket.socket(fileno=copy) as line, suppress(OSError):  # it may not be connected any more
            line.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
            line.shutdown(socket.SHUT_RDWR)

    def _close_silently(self) -> None:
        """The library can only close with a goodbye: so it gets to say that to nobody."""
        self._drop_descriptor()
        with suppress(MySQLError):  # closed already, or in use by a thread that has the driver's own connection
            self.close()

    def _drop_descriptor(self) -> None:
        """Close the socket without a word, by putting another file in its place."""
        with suppress(OSError):  # closed already
            if _identity(self._descriptor) == self._identity:
                nobody = os.open(os.devnull, os.O_RDWR)
                os.dup2(nobody, self._descriptor, inheritable=False)
                os.close(nobody)

    def __del__(self) -> None:
        """In a forked child the library's goodbye would end the parent's session."""
        if self._identity is not None and os.getpid() != self._pid:
            self._drop_descriptor()


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
