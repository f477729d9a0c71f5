"""PyMySQL's connection, observed: what it did since it was last settled, without asking the server.

A subclass of the connection, not of its cursors: ``conn.query()`` goes past those. Private names of PyMySQL that
this relies on are listed in `PRIVATE_NAMES`, and a test holds them against every supported version.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from socket import SHUT_RDWR, socket
from typing import Any

import pymysql.connections
from pymysql.constants import CLIENT, CR
from pymysql.err import Error, OperationalError

from .base import CLEAN, DIRTY, Clock, State
from .sockets import remaining

PRIVATE_NAMES = (
    "_execute_command",
    "_force_close",
    "_get_server_information",
    "_read_bytes",
    "_read_ok_packet",
    "_read_query_result",
    "_write_bytes",
)
IN_TRANSACTION, AUTOCOMMIT = 1, 2  # flags of server_status

_Base: Any = pymysql.connections.Connection  # its stubs leave out what is private

class Connection(_Base):  # type: ignore[misc]
    """Notes each command's start and end. A command that never came to its end leaves `_seen_busy` set."""

    _seen_busy = False
    """A command was sent and its reply not read to the end, or another thread is at it."""
    _seen_touched = False
    """A command was sent since the last commit or rollback."""
    _seen_unknown = False
    """An error came since then: server_status says nothing any more, as error packets carry none."""
    _seen_socket: Any = None
    """The socket at the time of connecting: another one now means a reconnect by the application."""
    _tls: ssl.SSLContext | None = None
    _tls_required = False

    def _execute_command(self, command: int, sql: str | bytes) -> None:
        self._seen_busy = self._seen_touched = True
        if self._cut_short():
            self._seen_unknown = True
        super()._execute_command(command, sql)

    def _read_query_result(self, unbuffered: bool = False) -> Any:
        try:
            affected = super()._read_query_result(unbuffered)
        except Error:
            self._seen_unknown = True
            self._seen_busy = False
            raise
        self._seen_busy = False
        return affected

    def _read_ok_packet(self) -> Any:
        try:
            packet = super()._read_ok_packet()
        except Error:
            self._seen_unknown = True
            self._seen_busy = False
            raise
        self._seen_busy = False
        return packet

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        super().set_character_set(charset, collation)
        self._seen_busy = False

    def show_warnings(self) -> Any:
        rows = super().show_warnings()
        self._seen_busy = False
        return rows

    def commit(self) -> None:
        super().commit()
        self._settled()

    def rollback(self) -> None:
        super().rollback()
        self._settled()

    def _settled(self) -> None:
        """The server has just said OK to the end of a transaction, and that packet's status is true."""
        self._seen_touched = self._seen_unknown = False

    def _cut_short(self) -> bool:
        """Whether an unbuffered result did not come to its end: an error among its rows goes past the methods above,
        and PyMySQL may even swallow it. Only the end's packet tells has_next."""
        return self._result is not None and self._result.has_next is None

    def _ping(self) -> None:
        """A ping that leaves no trace: it touches no transaction."""
        touched = self._seen_touched
        self.ping(reconnect=False)
        self._seen_touched = touched

    def _state(self, autocommit: bool) -> State | str:
        """What `Driver.inspect` tells. `autocommit` is what the connection was opened with.

        server_status is that of the last OK packet; a result set brings none. So with autocommit off a SELECT's
        snapshot does not show in it, and only with autocommit on (in the same status) the transaction flag counts.
        """
        if self._sock is None:
            return "closed by the application or the driver"
        if self._sock is not self._seen_socket:
            return "reconnected by the application"
        if self._seen_busy:
            return "in the middle of a statement"
        result = self._result
        if result is not None and (result.unbuffered_active or result.has_next):
            return "unread rows"
        status = self.server_status
        if self._seen_unknown or self._cut_short():
            return DIRTY
        if status & IN_TRANSACTION or bool(status & AUTOCOMMIT) is not autocommit:
            return DIRTY
        return CLEAN if autocommit or not self._seen_touched else DIRTY

    def _abandon(self) -> None:
        """Close without a word to the server, and without waiting for a thread that still reads a reply."""
        if self._sock is not None and self._seen_busy:
            try:
                socket.shutdown(self._sock, SHUT_RDWR)  # the reader gets an end of file and lets go of its lock
            except OSError:
                pass  # not connected any more, which is what was wanted
        result = self._result
        if result is not None:  # else its finalizer would read the rest of the rows
            result.unbuffered_active = False
            result.connection = None
        self._force_close()

    # -- connecting

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

    @contextmanager
    def _within(self, deadline: float, clock: Clock) -> Iterator[None]:
        """One deadline for all that is read and written inside; each step gets what is left of it.

        PyMySQL's own timeouts are for one read each, and can only be set through attributes that other statements
        use too. Instance attributes hide the two methods only here, so that statements pay nothing.
        """
        self._read_bytes = partial(self._read_before, deadline, clock)
        self._write_bytes = partial(self._write_before, deadline, clock)
        try:
            yield
        finally:
            del self._read_bytes, self._write_bytes
            if self._sock is not None:
                self._sock.settimeout(self._read_timeout)
                self._current_timeout = self._read_timeout

    def _read_before(self, deadline: float, clock: Clock, size: int) -> bytes:
        data = b""
        try:
            while len(data) < size:
                self._sock.settimeout(remaining(deadline, clock))
                piece = self._rfile.read1(size - len(data))
                if not piece:
                    raise ConnectionResetError("the server closed the connection")
                data += piece
                if clock() >= deadline and len(data) < size:
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
            self._sock.settimeout(remaining(deadline, clock))
            self._sock.sendall(data)
        except OSError as error:
            self._force_close()
            raise OperationalError(CR.CR_SERVER_GONE_ERROR, f"MySQL server has gone away ({error})") from error
