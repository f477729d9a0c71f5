"""MySQL Connector/Python's connection, observed: what it did since it was last settled, without asking the server."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mysql.connector.constants import ServerCmd
from mysql.connector.errors import OperationalError, ReadTimeoutError, get_exception

from ...errors import TransactionLost
from ..activity import first_word
from ..base import CLEAN, DIRTY, State
from ..mysql.observed import AUTOCOMMIT, COMMIT_UNTOLD, IN_TRANSACTION, UNKNOWN, Observed
from .wire import Socket, Wire

ERROR_PACKET = 0xFF
STATEMENTS = (ServerCmd.QUERY, ServerCmd.STMT_EXECUTE)


class Connection(Wire, Observed):
    """Notes each command's start, end and error in its `Activity`.

    Every OK packet, and the end of every result, brings the server's status; an error does not.
    """

    KEPT = ("_charset_id", "_autocommit", "_time_zone", "_sql_mode", "_init_command", "_database")
    """What the driver sends after connecting; an application may change it for its own session only."""
    _view: Any = None
    """The connection as tracing tools see it."""
    _own_socket: Any = None
    """The socket at the time of connecting: another one now means a reconnect by the application."""
    _own_settings: dict[str, Any] | None = None
    """What the driver sends after connecting, as it was then."""
    _status = 0
    _rows_begun = False
    """A result's header came; its end, or an error in its place, did not."""
    _other_user = False

    def _connected(self) -> None:
        """Remember what is to be the same for as long as the connection lives."""
        self._own_socket = self._socket
        self._own_settings = {name: getattr(self, name) for name in self.KEPT}

    def _get_connection(self) -> Socket:
        if self._guarded:
            raise TransactionLost("a reconnect would go on in another session")
        return super()._get_connection()

    # -- the handler's statements

    @property
    def autocommit(self) -> bool:
        """From the last reply; the driver's own is a statement for each look."""
        return bool(self._status & AUTOCOMMIT)

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        if bool(value) is not self.autocommit:
            self.cmd_query(f"SET AUTOCOMMIT = {int(value)}")
        self._autocommit = bool(value)

    def cmd_query(self, query: Any, *args: Any, **options: Any) -> Any:
        seen = self._seen
        if self._guarded and self._lost():
            seen.refuse_after_loss(query)
        if seen.written and first_word(query) in COMMIT_UNTOLD:
            seen.written = 0
        return super().cmd_query(query, *args, **options)

    def cmd_query_iter(self, statements: Any, *args: Any, **options: Any) -> Any:
        if self._guarded and self._lost():
            self._seen.refuse_after_loss(statements)
        return super().cmd_query_iter(statements, *args, **options)

    def commit(self) -> None:
        super().commit()
        self._seen.settled()

    def rollback(self) -> None:
        super().rollback()
        self._seen.settled()

    def cmd_change_user(self, *args: Any, **options: Any) -> Any:
        self._other_user = True
        return super().cmd_change_user(*args, **options)

    # -- every command, its start and its end

    def _send_cmd(self, command: int, *args: Any, **options: Any) -> Any:
        self.handle_unread_result()  # may refuse, and then nothing was sent
        seen = self._seen
        if command == ServerCmd.STMT_EXECUTE and self._guarded and self._lost():
            seen.refuse_after_loss("EXECUTE")  # of what, is not known here
        if command != ServerCmd.PING:
            seen.used = True
            seen.touched += 1
        if self._rows_begun:
            seen.unknown = True
        if command in STATEMENTS:
            self._rows_begun = False
            seen.statements += 1
        if options.get("expect_response", True):
            seen.busy = True
            seen.began = self._clock()
        try:
            return super()._send_cmd(command, *args, **options)
        except BaseException as error:
            self._broken(error)
            raise

    def _broken(self, error: BaseException) -> None:
        """The reply did not come, or is none: what is left of it would be taken for the next one."""
        if self._socket is not None:
            self._socket.close_connection()
        self._note_error(error, None)

    def _handled(self, handle: Callable[..., Any], packet: Any, *args: Any, **options: Any) -> Any:
        """What the driver makes of a reply's packet, and of those behind it."""
        told = self._look_for_error(packet)
        try:
            return handle(packet, *args, **options)
        except BaseException as error:
            if not told:
                self._broken(error)
            raise

    def _handle_ok(self, packet: Any) -> Any:
        ok = self._handled(super()._handle_ok, packet)
        seen = self._seen
        seen.ended(self._clock())
        seen.written = seen.written + ok["affected_rows"] if self._status & IN_TRANSACTION else 0
        return ok

    def _handle_eof(self, packet: Any) -> Any:
        return self._handled(super()._handle_eof, packet)

    def _handle_result(self, packet: Any, *args: Any, **options: Any) -> Any:
        result = self._handled(super()._handle_result, packet, *args, **options)
        self._rows_begun = "columns" in result
        self._seen.ended(self._clock())
        return result

    def _handle_binary_ok(self, packet: Any) -> Any:
        return self._handled(super()._handle_binary_ok, packet)

    def _handle_binary_result(self, packet: Any, *args: Any, **options: Any) -> Any:
        result = self._handled(super()._handle_binary_result, packet, *args, **options)
        self._rows_begun = isinstance(result, tuple)
        self._seen.ended(self._clock())
        return result

    def get_rows(self, *args: Any, **options: Any) -> Any:
        try:
            return super().get_rows(*args, **options)
        except ReadTimeoutError as error:
            self._broken(error)
            raise

    def cmd_stmt_prepare(self, *args: Any, **options: Any) -> Any:
        result = super().cmd_stmt_prepare(*args, **options)
        self._seen.ended(self._clock())
        return result

    def _handle_server_status(self, flags: int) -> None:
        super()._handle_server_status(flags)
        self._status = flags
        self._rows_begun = False

    def _look_for_error(self, packet: Any) -> bool:
        """An error ends the reply, whichever of its packets it comes in the place of."""
        found = len(packet) > 6 and packet[4] == ERROR_PACKET
        if found:
            error: Any = get_exception(packet)
            self._note_error(error, error.errno)
        return found

    def _ask_whether_open(self) -> bool:
        self._unseen_ping()  # its OK packet has a true status
        return self._still_open()

    def _still_open(self) -> bool:
        return bool(self._status & IN_TRANSACTION)

    def _cut_short(self) -> bool:
        """Whether the last result ended in an error among its rows, which goes past the methods above."""
        return self._rows_begun and not self._unread_result

    def _lost(self) -> bool:
        """Whether the server has ended the transaction, as far as its errors and the socket tell."""
        seen = self._seen
        if seen.lost is None:
            if self._cut_short():
                seen.lost = "a result ended in an error, and the handler went on"
            elif seen.busy or self._socket is not self._own_socket or not self._socket.open:
                seen.lost = "the connection was lost, and the handler went on"
        return seen.lost is not None

    def _unseen_ping(self) -> None:
        seen = self._seen
        seconds = seen.seconds
        self.cmd_ping()
        seen.seconds = seconds

    # -- what became of it

    def _state(self, autocommit: bool, whole_session: bool) -> State | str:
        seen = self._seen
        reason = self._unusable()
        if reason is not None:
            return reason
        if self._unread_result:
            return "unread rows"
        status = self._status
        if seen.unknown or self._rows_begun:
            return DIRTY
        if self._have_next_result:
            return "unread rows"
        if status & IN_TRANSACTION or bool(status & AUTOCOMMIT) is not autocommit:
            return DIRTY
        if whole_session and seen.used:
            return DIRTY
        return CLEAN if autocommit or not seen.touched else DIRTY

    def _unusable(self) -> str | None:
        if self._socket is None or not self._socket.open:
            return "closed by the application or the driver"
        if self._socket is not self._own_socket:
            return "reconnected by the application"
        if self._other_user:
            return "given to another user by the application"
        return "in the middle of a statement" if self._seen.busy else None

    def _reset_session(self) -> None:
        """COM_RESET_CONNECTION (MySQL 5.7.3, MariaDB 10.2.4), and what it takes back of connecting. The current
        database is not part of it, and where the url names none, there is no way back to none."""
        assert self._own_settings is not None
        self._handle_ok(self._send_cmd(ServerCmd.RESET_CONNECTION))
        self._seen.settled()
        for name, value in self._own_settings.items():
            setattr(self, name, value)
        if self._database:
            self.cmd_init_db(self._database)
        elif self.info_query("SELECT DATABASE()")[0] is not None:
            raise OperationalError(errno=UNKNOWN, msg="a database was selected, and none can be unselected")
        self._post_connection()
