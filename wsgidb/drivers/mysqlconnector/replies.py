"""Replies, from the command to their last packet: none is left behind when the next command is sent.

A reply is one result or several: an OK packet, or columns, rows and an end packet. The server's status in the last
packet of each tells whether another one follows. An error packet ends the whole reply. Source: MySQL's "Client/Server
Protocol", chapter "Command Phase".
"""

from __future__ import annotations

from inspect import unwrap
from typing import Any

from mysql.connector.connection import MySQLConnection
from mysql.connector.constants import ServerCmd
from mysql.connector.errors import Error, OperationalError, get_exception

from ..mysql.observed import OUT_OF_SYNC, Observed
from ..states import Clock
from .wire import Wire

END_PACKET, ERROR_PACKET = 0xFE, 0xFF
"""First byte of a packet that ends rows, or stands in their place."""
LONGEST_END = 9
"""Bytes of an end packet with its header; a longer one that begins alike is a row."""
FULL_HEADER = b"\xff\xff\xff"
"""How a packet begins whose payload goes on in the next one."""
FIRST_OF_REPLY = 1
"""Number of the first packet of a reply to a command of one packet, as all packets of an exchange are numbered."""
ONE_PACKET = 0xFFFFFF - 16
"""Bytes of a command that is sent as one packet for sure, also with compression, where there is one more header."""
ROWS_ON_DEMAND = 0x40
"""Status flag: the rows of this result come by STMT_FETCH only."""
# The driver closes the connection after a time-out by a decorator of each of these. Here that is done after every error
# of which the server did not tell, so that a statement need not pass the decorators, too.
_send_cmd: Any = unwrap(MySQLConnection._send_cmd)
_handle_result: Any = unwrap(MySQLConnection._handle_result)
_handle_binary_result: Any = unwrap(MySQLConnection._handle_binary_result)
_get_rows: Any = unwrap(MySQLConnection.get_rows)
_handle_ok: Any = MySQLConnection._handle_ok
_handle_server_status: Any = MySQLConnection._handle_server_status

STATEMENTS = (ServerCmd.QUERY, ServerCmd.STMT_EXECUTE)
PING, STMT_CLOSE, STMT_FETCH = ServerCmd.PING, ServerCmd.STMT_CLOSE, ServerCmd.STMT_FETCH


class Replies(Wire, Observed):
    """Notes each command's start, end and error in the connection's `Activity`.

    Before a command is sent, the further results of the one before are read and dropped. If one of them is an error,
    that is raised instead, and nothing is sent. Unread rows of the present result are the driver's to refuse. Where it
    is not known what is still to come, the command is refused with error 2014, "commands out of sync".
    """

    _status: int
    _rows_begun: bool
    """A result's header came; its end, or an error in its place, did not."""
    _unreported: Exception | None
    """The error of a further result that no caller has got yet; the next command raises it in place of being sent."""

    def _begin_record(self, clock: Clock) -> None:
        super()._begin_record(clock)
        self._status = 0
        self._rows_begun = False
        self._unreported = None

    # -- the start of a command

    def _send_cmd(
        self,
        command: int,
        argument: Any = None,
        packet_number: int = 0,
        packet: Any = None,
        expect_response: bool = True,
        **options: Any,
    ) -> Any:
        seen = self._seen
        try:
            if seen.busy or self._pending():
                self._finish_reply()
        except Error as error:
            if command != STMT_CLOSE or self._seen.unfit is not None or self._unread_result:
                raise
            self._unreported = error  # a cursor that is closed would drop it
        if command != PING:
            seen.used = True
            seen.touched += 1
        if command in STATEMENTS:
            seen.statements += 1
        if expect_response:
            seen.busy = True
            seen.began = self._clock()
        elif command == STMT_FETCH:
            self._rows_begun = True
        try:
            reply = _send_cmd(self, command, argument, packet_number, packet, expect_response, **options)
        except BaseException as error:
            self._broken(error)
            raise
        if reply is not None and reply[3] != FIRST_OF_REPLY and len(packet or argument or b"") < ONE_PACKET:
            raise self._out_of_sync("a packet came that is not the reply to this command", close=True)
        return reply

    def _pending(self) -> Any:
        """Whether there is something of the last command's reply to be read or raised. Never blocks."""
        return self._unread_result or self._rows_begun or self._have_next_result or self._unreported

    def _finish_reply(self) -> None:
        """Leave nothing of the last command's reply on the wire. Blocks while further results are read.

        Raises the driver's InternalError where rows are unread, the server's error if a further result is one, and
        OperationalError 2014."""
        if self._seen.busy:
            raise self._out_of_sync("another command is under way, or was interrupted")
        if self._unreported is not None:
            error, self._unreported = self._unreported, None
            raise error
        self.handle_unread_result()
        if self._rows_begun:
            raise self._out_of_sync("a result has rows that were not read")
        if self._have_next_result:
            self._read_rest()

    def _read_rest(self) -> None:
        """Read what is left of the last reply, unread rows too, and drop it. Blocks as long as a statement may.

        Raises the server's error if one of the results ends in it; then, too, nothing is left."""
        if self._rows_begun:
            self._skip_rows()
        while self._have_next_result:
            self._handle_result(self._receive())
            if self._rows_begun:
                self._skip_rows()

    def _receive(self, read_timeout: Any = None) -> Any:
        """The first packet of a further result. A cursor without a time limit has the connection's."""
        try:
            return self._socket.recv(read_timeout or self._read_timeout)
        except BaseException as error:
            self._broken(error)
            raise

    def _skip_rows(self) -> None:
        recv, timeout = self._socket.recv, self._read_timeout
        goes_on = False  # of a payload in several packets only the first byte of the first one tells what it is
        try:
            while True:
                packet = recv(timeout)
                if not goes_on and packet[4] == ERROR_PACKET:
                    raise get_exception(packet)
                if not goes_on and packet[4] == END_PACKET and len(packet) <= LONGEST_END:
                    break
                goes_on = packet.startswith(FULL_HEADER)
            self._handle_eof(packet)
            self._unread_result = False
        except BaseException as error:
            self._ended_in(error)
            raise

    # -- its end

    def _ended_in(self, error: BaseException) -> None:
        """Note that reading a result has ended in this error: the server's, which ends the reply, or another one, after
        which nobody knows what is left of it."""
        if isinstance(error, Error) and error.sqlstate is not None:
            self._end_reply(error)
        else:
            self._broken(error)

    def _end_reply(self, error: Any) -> None:
        among_rows = self._rows_begun
        self._rows_begun = self._unread_result = self._have_next_result = False
        self._note_error(error, error.errno, among_rows)

    def _broken(self, error: BaseException) -> None:
        """The reply did not come, or is none: what is left of it would be taken for the next one."""
        if self._socket is not None:
            self._socket.close_connection()
        self._note_error(error, None)

    def _out_of_sync(self, text: str, close: bool = False) -> Exception:
        error = OperationalError(errno=OUT_OF_SYNC, msg=f"Commands out of sync: {text}")
        if close:
            self._broken(error)
        else:
            self._seen.failed(error)
        return error

    def _handle_ok(self, packet: Any) -> Any:
        try:
            ok = _handle_ok(self, packet)
        except BaseException as error:
            self._ended_in(error)
            raise
        self._seen.ended(self._clock())
        self._done(ok)
        return ok

    def _done(self, ok: Any) -> None:
        """Note what an OK packet tells."""
        raise NotImplementedError

    def _handle_result(self, packet: Any, *args: Any) -> Any:
        try:
            result = _handle_result(self, packet, *args)
        except BaseException as error:
            self._ended_in(error)
            raise
        self._rows_begun = "columns" in result
        self._seen.ended(self._clock())
        return result

    def _handle_binary_result(self, packet: Any, *args: Any) -> Any:
        try:
            result = _handle_binary_result(self, packet, *args)
        except BaseException as error:
            self._ended_in(error)
            raise
        self._rows_begun = isinstance(result, tuple) and not self._status & ROWS_ON_DEMAND
        self._seen.ended(self._clock())
        return result

    def get_rows(self, *args: Any, **options: Any) -> Any:
        try:
            return _get_rows(self, *args, **options)
        except BaseException as error:
            # A row that was read in full and cannot be converted leaves those behind it where they were.
            unconverted = isinstance(error, Exception) and not isinstance(error, Error)
            if self._rows_begun and not (unconverted and 1 in (*args[:1], options.get("count"))):
                self._ended_in(error)
            raise

    def _handle_server_status(self, flags: int) -> None:
        _handle_server_status(self, flags)
        self._status = flags
        self._rows_begun = False
