"""MySQL Connector/Python's connection, observed: it records what became of its transaction, from replies alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from mysql.connector.connection import MySQLConnection
from mysql.connector.errors import Error

from ...errors import TransactionLost
from ..activity import first_word
from ..mysql.observed import (
    AUTOCOMMIT,
    COMMIT_UNTOLD,
    CONNECTION_LOST,
    IN_TRANSACTION,
    NO_BACKSLASH_ESCAPES,
    SEMICOLON,
)
from ..mysql.procedures import CALLS, Procedures
from ..mysql.sessions import PLAIN, USUAL, may_set_next_transaction
from ..outcome import ANYTHING, Keeps
from ..states import CLEAN, DIRTY, Clock, State
from .session import Session

base_cmd_query: Any = MySQLConnection.cmd_query  # cheaper than super()
PREPARED = b"PREPARED"
"""Stands for the text of a prepared statement, which is not kept. It may do anything but run a procedure."""


def may_call(sql: str | bytes | bytearray) -> bool:
    """Whether a statement, or one of several sent as one, may run a procedure."""
    if isinstance(sql, str):
        sql = sql.encode(errors="replace")
    return (PLAIN.match(sql) is None or SEMICOLON in sql) and CALLS.search(sql) is not None


class Connection(Session, Procedures):
    """Records what became of the transaction.

    Every OK packet, and the end of every result, brings the server's status; an error does not.
    """

    _view: Any = None
    """The connection as tracing tools see it."""
    _own_socket: Any
    """The socket that was connected first. If there is another one now, the application has reconnected."""
    _other_user: bool
    _calling: set[int]
    """The numbers of prepared statements that may run a procedure."""
    _keeping: dict[int, Keeps]
    """What prepared statements make permanent, by their numbers, where requests may be repeated."""

    def _begin_record(self, clock: Clock) -> None:
        super()._begin_record(clock)
        self._own_socket = None
        self._other_user = False

    def _connected(self) -> None:
        """Record what has to stay the same for as long as the connection lives."""
        self._own_socket = self._socket
        self._calling, self._keeping = set(), {}
        self._remember_session()

    def connect(self, **options: Any) -> None:
        self._refuse_to_reconnect()
        super().connect(**options)

    def reconnect(self, *args: Any, **options: Any) -> None:
        self._refuse_to_reconnect()
        super().reconnect(*args, **options)

    def _refuse_to_reconnect(self) -> None:
        """Raise TransactionLost where a transaction is open, or was when the connection broke; then only once, as the
        handler knows what it has lost."""
        if self._own_socket is None or not self._still_open():
            return
        if not self._socket.open:
            self._status &= ~IN_TRANSACTION
        raise TransactionLost("cannot reconnect: the transaction that is open would be lost unnoticed")

    # -- the handler's statements

    @property
    def autocommit(self) -> bool:
        """Whether autocommit is on, by the last reply. The driver itself sends a statement to find out."""
        return bool(self._status & AUTOCOMMIT)

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        if bool(value) is not self.autocommit:
            self.cmd_query(f"SET AUTOCOMMIT = {int(value)}")
        self._autocommit = bool(value)

    def cmd_query(self, query: Any, *args: Any, **options: Any) -> Any:
        seen = self._seen
        if self._guarded:
            self._guard(query)
            if seen.outcome is not None:
                self._note_sent(seen.outcome, query)
        elif not self._next_set and (type(query) is not bytes or query[:3] not in USUAL):
            self._next_set = may_set_next_transaction(query)
        if seen.written and first_word(query) in COMMIT_UNTOLD:
            seen.written = 0
        return base_cmd_query(self, query, *args, **options)

    def cmd_query_iter(self, statements: Any, *args: Any, **options: Any) -> Iterator[Any]:
        if self._guarded:
            self._guard(statements)
            if self._seen.outcome is not None:
                self._note_sent(self._seen.outcome, statements)
        self._next_set = True  # any of the statements may have set it
        try:
            yield from super().cmd_query_iter(statements, *args, **options)
        except BaseException as error:
            if self._have_next_result and not self._unread_result and not isinstance(error, GeneratorExit):
                self._broken(error)  # while the next result was waited for
            raise

    def commit(self) -> None:
        super().commit()
        self._seen.settled()
        self._next_set = False

    def rollback(self) -> None:
        """Roll the transaction back. The rest of the last reply is read first and dropped, errors in it too."""
        self._unreported = None
        if not self._seen.busy:
            with suppress(Error):  # if it does not come in full, the connection is closed
                self._read_rest()
        super().rollback()
        self._seen.settled()
        self._next_set = False

    def cmd_quit(self) -> Any:
        self._seen.unfit = "closed by the application or the driver"
        return super().cmd_quit()

    def cmd_change_user(self, *args: Any, **options: Any) -> Any:
        self._other_user = self._changed = True
        self._note_keeping(ANYTHING)  # autocommit is on then
        return super().cmd_change_user(*args, **options)

    def cmd_reset_connection(self) -> Any:
        self._note_keeping(ANYTHING)  # autocommit is what the server's default is
        return super().cmd_reset_connection()

    # -- replies

    def cmd_stmt_prepare(self, statement: Any, *args: Any, **options: Any) -> Any:
        prepared = super().cmd_stmt_prepare(statement, *args, **options)
        if self._guarded and may_call(statement):
            self._calling.add(prepared["statement_id"])
        if self._seen.outcome is not None:
            self._keeping[prepared["statement_id"]] = self._keeps(statement)
        return prepared

    def cmd_stmt_execute(self, statement_id: int, *args: Any, **options: Any) -> Any:
        if self._guarded:
            self._guard(b"EXECUTE" if statement_id in self._calling else PREPARED)
            self._note_keeping(self._keeping.get(statement_id, ANYTHING))
        return super().cmd_stmt_execute(statement_id, *args, **options)

    def cmd_stmt_close(self, statement_id: int, *args: Any, **options: Any) -> None:
        self._calling.discard(statement_id)
        self._keeping.pop(statement_id, None)
        super().cmd_stmt_close(statement_id, *args, **options)

    def _guard(self, sql: Any) -> None:
        """Refuse a command that could commit part of a lost transaction, while leases are committed as a whole.

        Raises TransactionLost, and the errors of `_finish_reply` if a procedure has to be looked after."""
        if self._rollbacks is not None:
            self._finish_reply()
            self._after_procedure(sql)
        if self._lost():
            self._refuse_after_loss(sql)
        elif self._still_open() and may_call(sql):
            self._finish_reply()
            self._before_procedure()

    def _note_keeping(self, keeps: Keeps) -> None:
        if self._seen.outcome is not None:
            self._seen.outcome.sends(keeps)

    def _ask(self, sql: str) -> Any:
        seen = self._seen
        before = seen.touched, seen.outside, seen.statements, seen.seconds
        try:
            result = super().cmd_query(sql)
            return self.get_rows(raw=True)[0] if "columns" in result else ()
        finally:
            seen.touched, seen.outside, seen.statements, seen.seconds = before

    def _reset_session(self) -> None:
        self._rollbacks = None
        super()._reset_session()

    def _greeted_as(self) -> Any:
        return self._handshake["server_version_original"]

    def _done(self, ok: Any) -> None:
        seen = self._seen
        seen.written = seen.written + ok["affected_rows"] if self._status & IN_TRANSACTION else 0
        if seen.outcome is not None and ok["affected_rows"] and not self._status & IN_TRANSACTION:
            seen.outcome.stood_alone()

    def _autocommits(self) -> bool:
        return self.autocommit

    def _backslash_escapes(self) -> bool:
        return not self._status & NO_BACKSLASH_ESCAPES

    def _had_transaction(self) -> bool:
        return self._still_open()  # as of the last reply: an error brings no status

    def _ask_whether_open(self) -> bool:
        self._unseen_ping()  # its OK packet has a true status
        return self._still_open()

    def _still_open(self) -> bool:
        return bool(self._status & IN_TRANSACTION)

    def _lost(self) -> bool:
        """Whether the server has ended the transaction, as far as its errors and the socket tell."""
        seen = self._seen
        if seen.lost is None and (seen.busy or self._socket is not self._own_socket or not self._socket.open):
            seen.lost = CONNECTION_LOST
        return seen.lost is not None

    def _unseen_ping(self) -> None:
        seen = self._seen
        seconds = seen.seconds
        self.cmd_ping()
        seen.seconds = seconds

    # -- what became of it

    def _state(self, autocommit: bool, whole_session: bool) -> State | str:
        seen = self._seen
        sock = self._socket  # a call less than for its `open`
        if sock is not self._own_socket or sock._ended or sock.sock.fileno() < 0 or seen.busy or self._changed:
            reason = self._unusable()
            if reason is not None:
                return reason
        if self._rows_begun or self._unread_result:
            return "unread rows"
        status = self._status
        if seen.unknown or self._have_next_result:
            return DIRTY
        if status & IN_TRANSACTION or bool(status & AUTOCOMMIT) is not autocommit:
            return DIRTY
        if self._next_set:
            return DIRTY
        if (self._changed or self.converter.__dict__ != self._own_converter) and self._altered():
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
        if self._reconfigured:
            return "configured anew by the application"
        return "in the middle of a statement" if self._seen.busy else None
