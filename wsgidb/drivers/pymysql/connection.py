"""PyMySQL's connection, observed: what it did since it was last settled, without asking the server.

A subclass of the connection, not of its cursors: ``conn.query()`` goes past those.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from pymysql.constants import COMMAND, CR
from pymysql.err import Error, OperationalError

from ...errors import TransactionLost
from ..activity import first_word
from ..base import CLEAN, DIRTY, Clock, State
from ..mysql.observed import (
    AUTOCOMMIT,
    COMMIT_UNTOLD,
    CONNECTION_LOST,
    IN_TRANSACTION,
    OUT_OF_SYNC,
)
from ..mysql.procedures import CALLS, Procedures
from ..mysql.sessions import HIDDEN
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


class Connection(Session, Procedures):
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

    # -- every command, its start and its end: each step here is paid for by every statement

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

    def ping(self, *args: Any, **options: Any) -> None:
        """A ping opens no transaction, so that one that succeeds leaves no trace."""
        seen = self._seen
        touched, used = seen.touched, seen.used
        super().ping(*args, **options)
        seen.touched, seen.used = touched, used

    def connect(self, sock: Any = None) -> None:
        """Connect. If a handler calls it, itself or by ``ping(reconnect=True)``, the session is another one from then
        on, and a transaction must not go on in that. Raises TransactionLost where one was open."""
        seen = self._seen
        self._force_close()
        if seen.lost is not None:
            raise TransactionLost(seen.lost)
        seen.busy = False
        super().connect(sock)

    def commit(self) -> None:
        self._settle("COMMIT")

    def rollback(self) -> None:
        self._seen.lost = None  # even if it fails, as the session is gone: the handler knows what it has lost
        self._settle("ROLLBACK")

    def _settle(self, sql: str) -> None:
        """The OK packet of the end of a transaction has a true status, whatever was unknown before."""
        self._execute_command(COM_QUERY, sql)
        self._read_ok_packet()
        self._seen.settled()

    def _force_close(self) -> None:
        if self._sock is not None and self._had_transaction():
            self._seen.lost = self._seen.lost or CONNECTION_LOST
        super()._force_close()

    # -- what went wrong

    def _ask_whether_open(self) -> bool:
        self._unseen_ping()  # its OK packet has a true status
        return self._still_open()

    def _still_open(self) -> bool:
        return bool(self.server_status & IN_TRANSACTION)

    def _autocommits(self) -> bool:
        return bool(self.server_status & AUTOCOMMIT)

    def _had_transaction(self) -> bool:
        """Whether a transaction may be open in which more was done than what a command did that has not ended."""
        seen = self._seen
        if self.server_status & AUTOCOMMIT and not seen.unknown:
            return self._still_open()
        return seen.touched - seen.outside > seen.busy

    def _before_procedure(self) -> None:
        if self._still_open():
            super()._before_procedure()

    def _unseen_ping(self) -> None:
        seen = self._seen
        before = seen.statements, seen.seconds
        self.ping(reconnect=False)
        seen.statements, seen.seconds = before

    def _ask(self, sql: str) -> Any:
        seen = self._seen
        before = seen.touched, seen.outside, seen.statements, seen.seconds
        try:
            self.query(sql)
            return self._result.rows
        finally:
            seen.touched, seen.outside, seen.statements, seen.seconds = before

    def _reset_session(self) -> None:
        self._rollbacks = None
        super()._reset_session()

    # -- what became of it

    def _state(self, autocommit: bool, whole_session: bool) -> State | str:
        """What `Driver.inspect` tells. `autocommit` is what the connection was opened with.

        server_status is that of the last OK packet; a result set brings none. So with autocommit off a SELECT's
        snapshot does not show in it, and only with autocommit on (in the same status) the transaction flag counts.
        """
        seen = self._seen
        sock = self._sock
        if sock is None or sock is not self._own_socket or seen.busy:
            return self._unusable() or DIRTY
        result = self._result
        if result is not None and (result.unbuffered_active or result.has_next):
            return "unread rows"
        if seen.unknown:
            return DIRTY
        if self.server_status & (IN_TRANSACTION | AUTOCOMMIT) != (AUTOCOMMIT if autocommit else 0):
            return DIRTY
        if whole_session and seen.used:
            return DIRTY
        return CLEAN if autocommit or not seen.touched else DIRTY

    def _unread(self) -> bool:
        """Whether rows or results of the last command are still to be read."""
        result = self._result
        return result is not None and bool(result.unbuffered_active or result.has_next)

    def _unusable(self) -> str | None:
        if self._sock is None:
            return "closed by the application or the driver"
        if self._sock is not self._own_socket:
            return "reconnected by the application"
        return "in the middle of a statement" if self._seen.busy else None
