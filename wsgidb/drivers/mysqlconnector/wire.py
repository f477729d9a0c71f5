"""MySQL Connector/Python's connection on the wire: one deadline over many reads and writes, one TLS context for all.

Private names of the driver that this and the observed connection rely on are listed in `PRIVATE_NAMES`; a test holds
them against every supported version.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from mysql.connector.connection import MySQLConnection
from mysql.connector.constants import ClientFlag
from mysql.connector.errors import InterfaceError, OperationalError, ReadTimeoutError, WriteTimeoutError
from mysql.connector.network import MySQLSocket

from .. import sockets
from ..activity import Activity
from ..mysql.observed import LOST, NO_TLS
from ..states import Clock

PRIVATE_NAMES = (
    "_allow_local_infile_in_path",
    "_autocommit",
    "_character_set",
    "_charset_id",
    "_client_flags",
    "_converter_class",
    "_converter_str_fallback",
    "_database",
    "_do_handshake",
    "_get_connection",
    "_handle_binary_result",
    "_handle_eof",
    "_handle_ok",
    "_handle_result",
    "_handle_server_status",
    "_handshake",
    "_have_next_result",
    "_host",
    "_init_command",
    "_password",
    "_port",
    "_post_connection",
    "_query_attrs",
    "_read_timeout",
    "_send_cmd",
    "_socket",
    "_sql_mode",
    "_ssl_disabled",
    "_time_zone",
    "_unix_socket",
    "_unread_result",
    "_use_unicode",
    "_user",
    "_write_timeout",
)

_Base: Any = MySQLConnection
_BaseSocket: Any = MySQLSocket
HOW_LONG = 10.0
"""Seconds for a reconnect by the application, which no deadline of wsgidb's covers; the driver's own default."""


class Limited:
    """A socket each of whose reads and writes gets the time that is left until one deadline."""

    def __init__(self, sock: Any, deadline: float, clock: Clock) -> None:
        self._sock, self._deadline, self._clock = sock, deadline, clock

    def sendall(self, data: bytes) -> None:
        self._sock.settimeout(sockets.remaining(self._deadline, self._clock))
        self._sock.sendall(data)

    def recv_into(self, buffer: Any, size: int) -> int:
        self._sock.settimeout(sockets.remaining(self._deadline, self._clock))
        received: int = self._sock.recv_into(buffer, size)
        if self._clock() >= self._deadline and received < size:
            raise TimeoutError("the server answers too slowly")
        return received


class Socket(_BaseSocket):  # type: ignore[misc]
    """Sends and receives the connection's packets. Each physical connection has a new one."""

    def __init__(self, conn: Any) -> None:
        super().__init__()
        self._conn_clock: Clock = conn._clock
        self._seen: Activity = conn._seen
        self._ended = False
        self._context: ssl.SSLContext | None = conn._tls
        self._deadline: float | None = None
        self._target = (conn._unix_socket, conn._host, conn._port)

    @property
    def address(self) -> str:
        path, host, port = self._target
        return str(path) if path else f"{host}:{port}"

    def open_connection(self) -> None:
        """Connect to the first of the host's addresses that answers; the driver itself tries only one.

        Raises OperationalError."""
        path, host, port = self._target
        deadline = self._conn_clock() + HOW_LONG if self._deadline is None else self._deadline
        try:
            if path:
                self.sock = sockets.connect_unix(path, deadline, self._conn_clock)
            else:
                self.sock = sockets.connect_tcp(host, port, deadline, self._conn_clock)
        except OSError as error:
            raise OperationalError(errno=2003, msg=f"cannot connect to {self.address} ({error})") from error

    def build_ssl_context(self, **options: Any) -> Any:
        return self._context

    def switch_to_ssl(self, ssl_context: Any, host: str) -> None:
        try:
            self.sock = ssl_context.wrap_socket(self.sock, server_hostname=host)
        except OSError as error:
            raise InterfaceError(errno=2026, msg=f"no TLS with {self.address} ({error})") from error

    def limit(self, deadline: float) -> None:
        """Put one deadline on everything that is sent and received until `unlimit`. Only meanwhile do instance
        attributes hide the two methods, so that statements and rows cost no more."""
        self._deadline = deadline
        self.send, self.recv = self._send_before, self._recv_before

    def unlimit(self) -> None:
        if self._deadline is not None:
            self._deadline = None
            del self.send, self.recv

    def _send_before(self, payload: bytes, *numbers: Any, **_: Any) -> None:
        assert self._deadline is not None
        self._before(self._netbroker.send, payload, *numbers[:2])

    def _recv_before(self, *_: Any, **__: Any) -> Any:
        return self._before(self._netbroker.recv)

    def _before(self, method: Any, *args: Any) -> Any:
        assert self._deadline is not None
        try:
            return method(Limited(self.sock, self._deadline, self._conn_clock), self.address, *args)
        except (ReadTimeoutError, WriteTimeoutError) as error:
            self.close_connection()
            raise OperationalError(errno=LOST, msg="Lost connection to MySQL server (timed out)") from error
        except BaseException:
            self.close_connection()
            raise

    @property
    def open(self) -> bool:
        sock: socket.socket | None = self.sock
        return sock is not None and not self._ended and sock.fileno() >= 0

    def close_connection(self) -> None:
        """End the network connection now, and close the descriptor once no call uses it any more. Never blocks."""
        sock: socket.socket | None = self.sock
        if sock is None or self._ended:
            return
        self._ended = True
        if self._seen.users or self._seen.busy:
            try:
                socket.socket.shutdown(sock, socket.SHUT_RDWR)  # a call that is under way gets an end of file
            except OSError:
                pass  # the network connection has ended already
        self._seen.close_when_unused(sock.close)

    def shutdown(self) -> None:
        """End the network connection without telling the server. The driver itself would close the descriptor at
        once."""
        self.close_connection()

    def __del__(self) -> None:
        # The driver would shut the network connection down, which in a forked child is the parent's.
        if self.sock is not None:
            self.sock.close()


class Wire(_Base):  # type: ignore[misc]
    """The part of the observed connection that deals with the socket."""

    _cursorclass: Any = None
    _vouched = False
    _deadline: float | None = None
    _tls: ssl.SSLContext | None = None
    _tls_required = False

    def _get_connection(self) -> Socket:
        self._rows_begun = self._unread_result = self._have_next_result = False
        made = Socket(self)
        if self._deadline is not None:
            made.limit(self._deadline)
        self._ssl_disabled = self._tls is None  # the driver refuses TLS on a Unix socket
        return made

    def _do_handshake(self) -> None:
        super()._do_handshake()
        if self._tls_required and not self._handshake["capabilities"] & ClientFlag.SSL:
            raise OperationalError(errno=NO_TLS, msg="the server offers no TLS, but ssl_mode requires it")

    def _limit(self, deadline: float, clock: Clock) -> None:
        self._deadline = deadline
        if self._socket is not None:
            self._socket.limit(deadline)

    def _unlimit(self) -> None:
        self._deadline = None
        if self._socket is not None:
            self._socket.unlimit()

    def cursor(self, *args: Any, **options: Any) -> Any:
        """Make a cursor without the ping that the driver sends for each one."""
        if self._cursorclass is not None and not args and not options:
            options["cursor_class"] = self._cursorclass
        for name in ("read_timeout", "write_timeout"):
            if name in options and options[name] is getattr(self, f"_{name}"):
                del options[name]  # a fraction is refused by cursors; without it they use the connection's
        self._vouched = True
        try:
            return super().cursor(*args, **options)
        finally:
            self._vouched = False

    def is_connected(self) -> bool:
        if not self._vouched:
            return bool(super().is_connected())
        return self._socket is not None and bool(self._socket.open)

    def _abandon(self, busy: bool) -> None:
        if self._socket is not None:
            self._socket.close_connection()
