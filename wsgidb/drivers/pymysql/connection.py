"""PyMySQL's connection, observed: what it did since it was last settled, without asking the server.

A subclass of the connection, not of its cursors: ``conn.query()`` goes past those.
"""

from __future__ import annotations

from typing import Any

from pymysql.constants import COMMAND, CR
from pymysql.err import Error, OperationalError

from ..activity import first_word
from ..base import CLEAN, DIRTY, State
from ..mysql.observed import AUTOCOMMIT, COM_RESET_CONNECTION, COMMIT_UNTOLD, IN_TRANSACTION, Observed
from .wire import Base, Wire

COM_QUERY = COMMAND.COM_QUERY

execute_command = Base._execute_command  # cheaper than super(), by 0.1 µs
read_query_result = Base._read_query_result


class Connection(Wire, Observed):
    """Notes each command's start, end and error in its `Activity`."""

    _own_socket: Any = None
    """The socket at the time of connecting: another one now means a reconnect by the application."""
    _own_charset: str
    _own_collation: str | None
    """Likewise: set_character_set() keeps an application's in the attributes without "own"."""

    # -- every command, its start and its end: each step here is paid for by every statement

    def _execute_command(self, command: int, sql: str | bytes) -> None:
        seen = self._seen
        result = self._result
        if result is not None and result.has_next is None:
            self._cut_short(result)
        if self._guarded and command == COM_QUERY and (seen.lost or self._sock is not self._own_socket):
            seen.lost = seen.lost or "the connection was lost, and the handler went on"  # not on in another session
            seen.refuse_after_loss(sql)
        if seen.written and command == COM_QUERY and first_word(sql) in COMMIT_UNTOLD:
            seen.written = 0
        seen.busy = seen.used = True
        seen.touched += 1
        seen.statements += 1
        seen.began = self._clock()
        execute_command(self, command, sql)

    def _read_query_result(self, unbuffered: bool = False) -> Any:
        try:
            affected = read_query_result(self, unbuffered)
        except Error as error:
            self._note_error(error, error.args[0] if error.args else None)
            raise
        except BaseException as error:
            if isinstance(error, AttributeError) and self._sock is None:  # the lease ended before its thread could read
                raise OperationalError(CR.CR_SERVER_LOST, "Lost connection: its lease is over") from error
            self._force_close()  # what is left of the reply would be taken for the next one
            raise
        seen = self._seen
        if seen.busy:  # else it is one more result of the same command
            seen.busy = False
            seen.seconds += self._clock() - seen.began
        if not self._result.field_count:  # an OK packet: status and affected rows are true
            seen.written = seen.written + affected if self.server_status & IN_TRANSACTION else 0
        return affected

    def _read_ok_packet(self) -> Any:
        try:
            packet = super()._read_ok_packet()
        except Error as error:
            self._note_error(error, error.args[0] if error.args else None)
            raise
        except BaseException:
            self._force_close()
            raise
        self._seen.ended(self._clock())
        return packet

    def set_character_set(self, charset: str, collation: str | None = None) -> None:
        super().set_character_set(charset, collation)
        self._seen.ended(self._clock())

    def show_warnings(self) -> Any:
        rows = super().show_warnings()
        self._seen.ended(self._clock())
        return rows

    def commit(self) -> None:
        self._settle("COMMIT")

    def rollback(self) -> None:
        self._settle("ROLLBACK")

    def _settle(self, sql: str) -> None:
        """The OK packet of the end of a transaction has a true status, whatever was unknown before."""
        self._execute_command(COM_QUERY, sql)
        self._read_ok_packet()
        self._seen.settled()

    # -- what went wrong

    def _ask_whether_open(self) -> bool:
        self._unseen_ping()  # its OK packet has a true status
        return self._still_open()

    def _still_open(self) -> bool:
        return bool(self.server_status & IN_TRANSACTION)

    def _cut_short(self, result: Any) -> None:
        """An unbuffered result has not come to its end, whose packet alone tells has_next: an error among its rows
        goes past the methods above, and PyMySQL may even swallow it."""
        seen = self._seen
        seen.unknown = True
        if self._guarded and not result.unbuffered_active:
            seen.lost = seen.lost or "an unbuffered result ended in an error, and the handler went on"

    def _unseen_ping(self) -> None:
        """A ping touches no transaction and no session."""
        seen = self._seen
        before = seen.touched, seen.used, seen.statements, seen.seconds
        self.ping(reconnect=False)
        seen.touched, seen.used, seen.statements, seen.seconds = before

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
        if seen.unknown or (result is not None and result.has_next is None):
            return DIRTY
        if self.server_status & (IN_TRANSACTION | AUTOCOMMIT) != (AUTOCOMMIT if autocommit else 0):
            return DIRTY
        if whole_session and seen.used:
            return DIRTY
        return CLEAN if autocommit or not seen.touched else DIRTY

    def _unusable(self) -> str | None:
        if self._sock is None:
            return "closed by the application or the driver"
        if self._sock is not self._own_socket:
            return "reconnected by the application"
        return "in the middle of a statement" if self._seen.busy else None

    def _reset_session(self) -> None:
        """COM_RESET_CONNECTION (MySQL 5.7.3, MariaDB 10.2.4), and what it takes back of connecting.

        The current database is not part of it (on MariaDB it stays as it is), and where the url names none, there
        is no way back to none."""
        self._execute_command(COM_RESET_CONNECTION, b"")
        self._read_ok_packet()
        self._seen.settled()
        self.set_character_set(self._own_charset, self._own_collation)
        if self.db is not None:
            self.select_db(self.db)
        elif self._selected_database() is not None:
            raise OperationalError(CR.CR_UNKNOWN_ERROR, "a database was selected, and none can be unselected")
        if self.sql_mode is not None:
            self.query(f"SET sql_mode={self.escape(self.sql_mode)}")
        if self.init_command is not None:
            self.query(self.init_command)

    def _selected_database(self) -> Any:
        self.query("SELECT DATABASE()")
        return self._result.rows[0][0]
