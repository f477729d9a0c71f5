"""PyMySQL's connection on the wire: TLS by the server's greeting, and one deadline over many reads and writes.

Private names of PyMySQL that this and the observed connection rely on are listed in `PRIVATE_NAMES`; a test holds
them against every supported version.
"""

from __future__ import annotations

import ssl
from functools import partial
from socket import socket
from typing import Any

import pymysql.connections
from pymysql.constants import CLIENT, CR
from pymysql.err import OperationalError

from ..activity import Activity
from ..sockets import MINIMUM, shutdown
from ..states import Clock

PRIVATE_NAMES = (
    "_closed",
    "_current_timeout",  # since 1.2; only ever set
    "_execute_command",
    "_force_close",
    "_get_server_information",
    "_next_seq_id",
    "_read_bytes",
    "_read_ok_packet",
    "_read_query_result",
    "_read_timeout",
    "_request_authentication",
    "_result",
    "_rfile",
    "_secure",
    "_sock",
    "_write_bytes",
)

SLACK = 0.01
"""Seconds by which a deadline may be missed, because the socket's timeout is not set again for each step."""

Base: Any = pymysql.connections.Connection  # its stubs leave out what is private


class Wire(Base):  # type: ignore[misc]
    """The part of our connection that deals with the socket."""

    _tls: ssl.SSLContext | None = None
    _tls_required = False
    _seen: Activity
    _sock: Any
    _rfile: Any
    _ahead: int
    """Bytes that were read from the socket, but not yet asked for; known inside of `_within`."""

    def _get_server_information(self) -> None:
        """Decide on TLS when the greeting tells what the server offers, alike for all versions of PyMySQL."""
        super()._get_server_information()
        if self._tls is None:
            return
        if self.server_capabilities & CLIENT.SSL:
            self.ssl = True
            self.ctx = self._tls
            self.client_flag |= CLIENT.SSL
        elif self._tls_required:
            raise OperationalError(CR.CR_SSL_CONNECTION_ERROR, "the server offers no TLS, but ssl_mode requires it")

    def _limit(self, deadline: float, clock: Clock) -> None:
        """Put one deadline on all that is read and written; each step gets what is left of it.

        PyMySQL's own timeouts are for one read each, and can only be set through attributes that other statements
        use too. Instance attributes hide the two methods only until `_unlimit`, so that statements pay nothing.
        """
        self._ahead = 0
        self._current_timeout = self._read_timeout  # else PyMySQL would set that one before it reads
        self._read_bytes = partial(self._read_before, deadline, clock)
        self._write_bytes = partial(self._write_before, deadline, clock)

    def _unlimit(self) -> None:
        """Let statements have the driver's own read timeout again."""
        del self._read_bytes, self._write_bytes
        if self._sock is not None and self._sock.gettimeout() != self._read_timeout:
            self._sock.settimeout(self._read_timeout)

    def _time(self, deadline: float, clock: Clock) -> None:
        """Give the next step what is left of the time. As that is a call of the system's, a time limit that is right to
        within `SLACK` is left as it is."""
        left = deadline - clock()
        before = self._sock.gettimeout()
        if before is None or not -SLACK < left - before < SLACK:
            self._sock.settimeout(max(left, MINIMUM))

    def _receive(self, deadline: float, clock: Clock) -> None:
        """Wait until there is something to read."""
        self._time(deadline, clock)
        self._ahead = len(self._rfile.peek())  # unlike read1, it takes all that is there in one call
        if not self._ahead:
            raise ConnectionResetError("the server closed the connection")

    def _read_before(self, deadline: float, clock: Clock, size: int) -> bytes:
        data = b""
        try:
            if size and not self._ahead:
                self._receive(deadline, clock)
            if size <= self._ahead:  # as nearly always: a packet comes with its header
                self._ahead -= size
                there: bytes = self._rfile.read(size)
                return there
            while len(data) < size:
                if not self._ahead:
                    self._receive(deadline, clock)
                piece = self._rfile.read1(min(size - len(data), self._ahead))
                self._ahead -= len(piece)
                data += piece
                if len(data) < size and clock() >= deadline:
                    raise TimeoutError("the server answers too slowly")
        except OSError as error:
            self._force_close()
            raise OperationalError(CR.CR_SERVER_LOST, f"Lost connection to MySQL server ({error})") from error
        except BaseException:
            self._force_close()
            raise
        return data

    def _write_before(self, deadline: float, clock: Clock, data: bytes) -> None:
        try:
            self._time(deadline, clock)
            self._sock.sendall(data)
        except OSError as error:
            self._force_close()
            raise OperationalError(CR.CR_SERVER_GONE_ERROR, f"MySQL server has gone away ({error})") from error

    def _force_close(self) -> None:
        """End the network connection now. The descriptor is closed when no other thread uses it any more."""
        line, reader = self._sock, self._rfile
        self._sock = self._rfile = None
        if line is None:
            return
        seen = self._seen
        if seen.users or seen.busy:
            try:
                shutdown(line.fileno())  # whoever reads gets an end of file; an SSLSocket's own method would spoil it
            except OSError:
                pass  # not connected any more, which is what was wanted
        seen.close_when_unused(partial(_close, line, reader))

    def _abandon(self, busy: bool) -> None:
        result = self._result
        if result is not None:  # else its finalizer would read the rest of the rows
            result.unbuffered_active = False
        self._force_close()


def _close(line: socket, reader: Any) -> None:
    """Close a socket and its reader. Whatever is said of errors, the descriptor is free afterwards."""
    try:
        reader.close()
    finally:
        line.close()
