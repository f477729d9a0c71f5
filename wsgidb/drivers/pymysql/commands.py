"""PyMySQL's commands, observed: the start of each, and the end of its reply.

Each step here is paid for by every statement.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from pymysql.constants import COMMAND, CR
from pymysql.err import Error, OperationalError

from ..activity import first_word
from ..mysql.observed import COMMIT_UNTOLD, CONNECTION_LOST, IN_TRANSACTION, OUT_OF_SYNC
from ..mysql.procedures import CALLS, Procedures
from ..mysql.sessions import HIDDEN
from ..outcome import ANYTHING
from ..states import Clock
from .rows import Rows
from .session import Session
from .wire import Base

COM_QUERY = COMMAND.COM_QUERY

execute_command = Base._execute_command  # cheaper than super(), by 0.1 µs
read_query_result = Base._read_query_result


def may_call(sql: Any) -> bool:
    """Whether a statement may run a procedure. The driver's own statements are of type str, and do not."""
    return type(sql) is not str and CALLS.search(sql) is not None


def may_hide(sql: Any) -> bool:
    """Whether a statement may do something to the session that no reply shows. The driver's own do not."""
    return type(sql) is not str and HIDDEN.search(sql) is not None


class Commands(Session, Procedures):
    """Notes each command's start, end and error in its `Activity`."""

    server_status: int  # PyMySQL sets it when the server greets
    _own_socket: Any
    """The socket at the time of connecting: another one now means a reconnect by the application."""
    _usual: frozenset[bytes]
    """`USUAL`, except where a semicolon may begin another statement."""
    _shows_all: bool
    """Whether a connection is clean as soon as its status says so: with autocommit."""

    def _begin_record(self, clock: Clock) -> None:
        super()._begin_record(clock)
        self.server_status = 0
        self._own_socket = None
        self._usual = frozenset()
        self._shows_all = False

    def _execute_command(self, command: int, sql: Any) -> None:
        seen = self._seen
        if seen.busy:
            self._refuse_out_of_sync()
        result = self._result
        if result is not None and (result.unbuffered_active or result.has_next):
            if result.unbuffered_active:
                warnings.warn("Previous unbuffered result was left incomplete", stacklevel=4)
            self._read_the_rest(result)
        if command == COM_QUERY:
            if self._guarded:
                if self._rollbacks is not None:
                    self._after_procedure(sql)
                if seen.lost or self._sock is not self._own_socket:
                    seen.lost = seen.lost or CONNECTION_LOST  # nor does it go on in another session
                    self._refuse_after_loss(sql)
                if (type(sql) is not bytes or sql[:3] not in self._usual) and may_call(sql):
                    self._before_procedure()
                if seen.outcome is not None:
                    self._note_sent(seen.outcome, sql)
            elif self._shows_all and (type(sql) is not bytes or sql[:3] not in self._usual) and may_hide(sql):
                seen.unknown = True
            if seen.written and first_word(sql) in COMMIT_UNTOLD:
                seen.written = 0
        seen.busy = seen.used = True
        seen.touched += 1
        seen.statements += 1
        seen.began = self._clock()
        try:
            execute_command(self, command, sql)
        except BaseException as error:
            self._failed(error)
            raise

    def write_packet(self, payload: bytes) -> None:
        """Send a packet. A handler's own begins a command whose reply nobody knows how to read."""
        seen = self._seen
        if not seen.busy and self._sock is self._own_socket:  # not while connecting
            if seen.outcome is not None:
                seen.outcome.sends(ANYTHING)
            seen.busy = seen.used = True
            seen.touched += 1
        super().write_packet(payload)

    def _refuse_out_of_sync(self) -> None:
        """Close the connection: a command was interrupted, or another thread's is under way. The server would take the
        next command for the rest of that one, or its reply would be taken for the next one's. Raises OperationalError.
        """
        if self._sock is not None:  # else PyMySQL has an error of its own
            self._force_close()
            raise OperationalError(OUT_OF_SYNC, "Commands out of sync: the last command has not ended")

    def _read_the_rest(self, result: Any) -> None:
        """Read what is left of the last command's reply, as PyMySQL does before it sends the next command.

        It is done here so that an interruption of the next command is not taken for the end of this reply."""
        if result.unbuffered_active:
            result.connection = Rows(self)  # it may be wsgidb that reads them
            result._finish_unbuffered_query()
        while self._result is not None and self._result.has_next:
            self.next_result()

    def _read_query_result(self, unbuffered: bool = False) -> Any:
        try:
            affected = read_query_result(self, unbuffered)
        except BaseException as error:
            self._failed(error)
            raise
        seen = self._seen
        if seen.busy:  # else it is one more result of the same command
            seen.busy = False
            seen.seconds += self._clock() - seen.began
        result = self._result
        if not result.field_count:  # an OK packet: status and affected rows are true
            if self.server_status & IN_TRANSACTION:
                seen.written += affected
            else:
                seen.written = 0
                if not result.has_next:
                    seen.outside = seen.touched
                if affected and seen.outcome is not None:
                    seen.outcome.stood_alone()
        elif unbuffered:
            result.connection = Rows(self)
        return affected

    def _read_ok_packet(self) -> Any:
        return self._reply(super()._read_ok_packet)

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        self._reply(super().set_character_set, charset, collation)

    def show_warnings(self) -> Any:
        return self._reply(super().show_warnings)

    def _reply(self, read: Callable[..., Any], *args: Any) -> Any:
        """Read a reply that does not pass `_read_query_result`, and note how it ends."""
        try:
            found = read(*args)
        except BaseException as error:
            if self._seen.busy:  # else the command was not sent
                self._failed(error)
            raise
        self._seen.ended(self._clock())
        return found

    def _failed(self, error: BaseException) -> None:
        """Note that sending a command or reading its reply has ended in this exception."""
        if isinstance(error, Error):
            self._note_error(error, error.args[0] if error.args else None)
        elif isinstance(error, AttributeError) and self._sock is None:  # another thread has closed the connection
            raise OperationalError(CR.CR_SERVER_LOST, "Lost connection: it was closed meanwhile") from error
        else:
            self._force_close()  # half of the command may have been sent, or half of the reply read
