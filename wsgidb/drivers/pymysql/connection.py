"""PyMySQL's connection, observed: what it did since it was last settled, without asking the server.

A subclass of the connection, not of its cursors: ``conn.query()`` goes past those.
"""

from __future__ import annotations

from typing import Any

from ...errors import TransactionLost
from ..mysql.observed import AUTOCOMMIT, CONNECTION_LOST, IN_TRANSACTION, NO_BACKSLASH_ESCAPES
from ..states import CLEAN, DIRTY, State
from .commands import COM_QUERY, Commands


class Connection(Commands):
    """Records what became of the transaction."""

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

    def _backslash_escapes(self) -> bool:
        return not self.server_status & NO_BACKSLASH_ESCAPES

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

    def _greeted_as(self) -> Any:
        return self.server_version

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
