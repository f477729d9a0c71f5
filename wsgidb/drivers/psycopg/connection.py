"""psycopg's connection, observed: what it did since it was last settled, without asking the server.

libpq knows the true state of the transaction after every reply, so nothing has to be guessed here. All that is said
to the server goes through ``Connection.wait()``; cursors are observed only to count statements and the rows they
changed.

Private names of psycopg that this relies on are listed in `PRIVATE_NAMES`; a test holds them against the version
that is installed.
"""

from __future__ import annotations

import re
import time
from typing import Any

import psycopg
from psycopg import pq

from ...errors import TransactionLost
from ..activity import Activity
from ..base import CLEAN, DIRTY, Clock, State
from .cursor import observed
from .session import Session
from .wire import Limit, Work, drive

PRIVATE_NAMES = {
    "Connection": (
        "_adapters",
        "_autocommit",
        "_begin_statement",
        "_check_connection_ok",
        "_deferrable",
        "_exec_command",
        "_isolation_level",
        "_notice_handlers",
        "_notify_handlers",
        "_num_transactions",
        "_pipeline",
        "_prepared",
        "_read_only",
        "_rollback_gen",
        "_tpc",
    ),
    "Cursor": ("_conn", "_pgconn"),
}

IDLE, ACTIVE, INERROR = pq.TransactionStatus.IDLE, pq.TransactionStatus.ACTIVE, pq.TransactionStatus.INERROR
OPEN = pq.ConnStatus.OK  # named here, as looking an enumeration up costs as much as all else of an inspect
ENDS_TRANSACTION = re.compile(r"(?:\s|;|--[^\n]*\n|/\*.*?\*/)*(?:COMMIT|END|PREPARE)\b", re.IGNORECASE | re.DOTALL)


class Connection(Session):
    """Notes each command's start, end and error in its `Activity`."""

    _clock: Clock = time.monotonic
    _limit: Limit | None = None
    """For each single wait of a handler's statement."""

    def __init__(self, pgconn: Any, *args: Any, **kwargs: Any) -> None:
        self._seen = Activity()
        super().__init__(pgconn, *args, **kwargs)
        self._own_pid = pgconn.backend_pid
        self.server_cursor_factory = self.server_cursor_factory  # through the property: what it makes is observed

    def __del__(self) -> None:
        """No warning that it was not closed: of what was abandoned, garbage collection closes the socket."""

    # -- cursors

    @property
    def cursor_factory(self) -> Any:
        return self._cursor_factory

    @cursor_factory.setter
    def cursor_factory(self, factory: Any) -> None:
        self._cursor_factory = observed(factory)

    @property
    def server_cursor_factory(self) -> Any:
        return self._server_cursor_factory

    @server_cursor_factory.setter
    def server_cursor_factory(self, factory: Any) -> None:
        self._server_cursor_factory = observed(factory)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("withhold"):
            self._holds = True
        return super().cursor(*args, **kwargs)

    # -- the handler's commands

    def wait(self, work: Work, *args: Any, **kwargs: Any) -> Any:
        """All that is said to the server, but for wsgidb's own work."""
        seen = self._seen
        seen.busy = seen.used = True
        seen.touched += 1
        began = self._clock()
        try:
            # Who listens for notifications waits as long as he likes.
            if self._limit is None or getattr(work, "__name__", "") == "notifies":
                result = super().wait(work, *args, **kwargs)
            else:
                result = self._wait_limited(work, self._limit)
        except Exception as error:
            self._ended()
            if not isinstance(error, psycopg.errors.ReadOnlySqlTransaction) or self._server_is_read_only():
                seen.failed(error)
            raise
        finally:
            seen.seconds += self._clock() - began
        self._ended()  # not after a BaseException: then it may be in its middle
        return result

    def _wait_limited(self, work: Work, limit: Limit) -> Any:
        try:
            return drive(work, limit, self.pgconn.socket)
        except psycopg.OperationalError as error:
            if error.sqlstate is None:
                self.pgconn.finish()  # a reply that comes later would be taken for another statement's
            raise

    def _server_is_read_only(self) -> bool:
        """A transaction of the handler's may be read-only, too, with the same error. Servers before version 14 do not
        say what they are."""
        said = [self.pgconn.parameter_status(name) for name in (b"in_hot_standby", b"default_transaction_read_only")]
        return b"on" in said or (None in said and not self._read_only)

    def _ended(self) -> None:
        seen = self._seen
        seen.busy = False
        if self.pgconn.transaction_status == IDLE:
            seen.touched = seen.written = 0

    def commit(self) -> None:
        self._seen.statements += self.pgconn.transaction_status != IDLE
        super().commit()

    def rollback(self) -> None:
        self._seen.statements += self.pgconn.transaction_status != IDLE
        super().rollback()

    def _exec_command(self, command: Any, *args: Any, **kwargs: Any) -> Any:
        """What psycopg says by itself: BEGIN, COMMIT, ROLLBACK, SAVEPOINT …"""
        if self.pgconn.transaction_status == INERROR:
            self.refuse_to_lose(command)
        return super()._exec_command(command, *args, **kwargs)

    def refuse_to_lose(self, command: Any) -> None:
        """After an error in a transaction the server would answer COMMIT with a ROLLBACK, and no error.

        Raises TransactionLost for a command that is to keep what the transaction did."""
        if isinstance(command, bytes):
            text = command.decode("utf-8", "replace")
        else:
            text = command if isinstance(command, str) else command.as_string(self)
        if ENDS_TRANSACTION.match(text):
            raise TransactionLost("an error has ended the transaction, and the handler went on")

    # -- what became of it

    def state(self, autocommit: bool, whole_session: bool) -> State | str:
        """What `Driver.inspect` tells. `autocommit` is what the connection was opened with."""
        reason = self.unusable()
        if reason is not None:
            return reason
        if (
            self.pgconn.transaction_status != IDLE
            or self._autocommit is not autocommit
            or self._isolation_level is not None
            or self._read_only is not None
            or self._deferrable is not None
            or self._holds
            or self._notice_handlers
            or self._notify_handlers
            or (whole_session and self._seen.used)
        ):
            return DIRTY
        return CLEAN

    def unusable(self) -> str | None:
        pgconn = self.pgconn
        if pgconn.status != OPEN:
            return "closed by the application or the driver"
        if pgconn.backend_pid != self._own_pid:
            return "reconnected by the application"
        if self._pipeline is not None:
            return "unread results of a pipeline"
        if self.in_use or pgconn.transaction_status == ACTIVE:
            return "in the middle of a statement"
        if self._num_transactions or self._tpc is not None:
            return "inside a transaction() block or a two-phase transaction"
        return None

    @property
    def in_use(self) -> bool:
        """A stream(), copy() or notifies() that was left in its middle keeps the lock, as another thread does."""
        return bool(self._seen.busy or self.lock.locked())
