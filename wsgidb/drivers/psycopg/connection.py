"""psycopg's connection, observed: what it did since it was last settled, without asking the server.

libpq knows the true state of the transaction after every reply, so nothing has to be guessed here. All that is said
to the server goes through ``Connection.wait()``. The cursors of a lease, and whatever else psycopg hands out, hold the
lease in place of this connection (`Psycopg.lease_members`), so that they reach ``wait()`` through the lease only.

Private names of psycopg that this relies on are listed in `PRIVATE_NAMES`; a test holds them against the version
that is installed.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import Any

import psycopg
from psycopg import pq

from ...errors import TransactionLost
from ..activity import Activity
from ..base import CLEAN, DIRTY, Clock, State
from .session import Session
from .statements import COPIED, DECLARE, ENDINGS, NOTIFIES, QUERIES, ROLLBACK, rows_changed, would_commit
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
        "_start_query",
        "_tpc",
    ),
    "Cursor": ("_conn", "_results", "_rowcount"),
}
"""Beside those of `statements`."""

IDLE, ACTIVE, INERROR = pq.TransactionStatus.IDLE, pq.TransactionStatus.ACTIVE, pq.TransactionStatus.INERROR
OPEN = pq.ConnStatus.OK  # named here, as looking an enumeration up costs as much as all else of an inspect
LOST = 0
"""The process id of the server that libpq tells where there is no connection."""


class Connection(Session):
    """Notes each command's start, end and error in its `Activity`."""

    lock: Any
    _clock: Clock = time.monotonic
    _limit: Limit | None = None
    """For each single wait of a handler's statement."""

    def __init__(self, pgconn: Any, *args: Any, **kwargs: Any) -> None:
        self._seen = Activity()
        super().__init__(pgconn, *args, **kwargs)
        self._own_pid = pgconn.backend_pid
        self._queued: set[Any] = set()
        """The cursors whose results a pipeline has still to read."""

    def __del__(self) -> None:
        """No warning that it was not closed: of what was abandoned, garbage collection closes the socket."""

    # -- the handler's commands

    def wait(self, work: Work, *args: Any, **kwargs: Any) -> Any:
        """All that is said to the server, but for wsgidb's own work."""
        seen = self._seen
        name = getattr(work, "__name__", "")
        status = self.pgconn.transaction_status
        if status == IDLE and seen.touched and name != ROLLBACK and self._was_reset():
            raise TransactionLost("the connection was reset in the middle of a transaction")
        cursor = None
        if name in QUERIES:
            cursor = self._statement(work, name, status)
        elif name in ENDINGS:
            seen.statements += status != IDLE
        seen.busy = seen.used = True
        seen.touched += 1
        began = self._clock()
        try:
            # Who listens for notifications waits as long as he likes.
            if self._limit is None or name == NOTIFIES:
                result = super().wait(work, *args, **kwargs)
            else:
                result = self._wait_limited(work, self._limit)
        except Exception as error:
            self._ended()
            if self._concerns_connection(error):
                seen.failed(error)
            raise
        finally:
            seen.seconds += self._clock() - began
        if cursor is not None and self._pipeline is None:
            seen.written += rows_changed(cursor)
        elif name == COPIED:
            seen.written += result.command_tuples or 0
        self._ended()  # not after a BaseException: then it may be in its middle
        return result

    def _statement(self, work: Any, name: str, status: int) -> Any:
        """Note a statement that is about to be run. Returns its cursor, unless no transaction can come of it. Raises
        TransactionLost."""
        self._seen.statements += 1
        if status == IDLE and self._autocommit and name != DECLARE:
            return None
        arguments = work.gi_frame.f_locals
        cursor = arguments["self"]
        if status == INERROR:
            self._refuse_to_lose(arguments[QUERIES[name]])
        if self._pipeline is not None:
            self._queued.add(cursor)
        if name == DECLARE and cursor.withhold:
            self._holds = True
        return cursor

    def _was_reset(self) -> bool:
        return self.pgconn.backend_pid not in (self._own_pid, LOST)

    def _wait_limited(self, work: Work, limit: Limit) -> Any:
        try:
            return drive(work, limit, self.pgconn.socket)
        except psycopg.OperationalError as error:
            if error.sqlstate is None:
                self.pgconn.finish()  # a reply that comes later would be taken for another statement's
            raise

    def _concerns_connection(self, error: Exception) -> bool:
        """Whether the error may tell something of the connection, beyond its statement."""
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            return self._server_is_read_only()
        if isinstance(error, psycopg.Error) and error.sqlstate is None:  # libpq's own: it knows what is left
            return bool(self.pgconn.status != OPEN)
        return True

    def _server_is_read_only(self) -> bool:
        """A transaction of the handler's may be read-only, too, with the same error. Servers before version 14 do not
        say what they are."""
        said = [self.pgconn.parameter_status(name) for name in (b"in_hot_standby", b"default_transaction_read_only")]
        return b"on" in said or (None in said and not self._read_only)

    def _ended(self) -> None:
        seen = self._seen
        seen.busy = False
        if self._queued and not (self._pipeline and self._pipeline.result_queue):
            seen.written += sum(map(rows_changed, self._queued))
            self._queued.clear()
        if self.pgconn.transaction_status == IDLE:
            seen.touched = seen.written = 0

    def _exec_command(self, command: Any, *args: Any, **kwargs: Any) -> Any:
        """What psycopg says by itself: BEGIN, COMMIT, ROLLBACK, SAVEPOINT …"""
        if self.pgconn.transaction_status == INERROR:
            self._refuse_to_lose(command)
        return super()._exec_command(command, *args, **kwargs)

    def _refuse_to_lose(self, query: Any) -> None:
        """After an error in a transaction the server would answer COMMIT with a ROLLBACK, and no error.

        Raises TransactionLost for a statement that is to keep what the transaction did."""
        if would_commit(query, self):
            raise TransactionLost("an error has ended the transaction, and the handler went on")

    def _cancel_gen(self) -> Any:
        """A cancellation, of which nobody knows what it will hit unless the server has confirmed it."""
        seen = self._seen
        before, seen.unfit = seen.unfit, "a cancellation was not confirmed"
        yield from super()._cancel_gen()
        seen.unfit = before

    # -- what became of it

    def state(self, autocommit: bool, whole_session: bool) -> State | str:
        """What `Driver.inspect` tells. `autocommit` is what the connection was opened with."""
        reason = self.unusable()
        if reason is not None:
            return reason
        self.free_lock()
        self.renew_adapters()
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
        """Why no further command can be sent, if so. Rows that are left unread can be read (`read_rest`)."""
        pgconn = self.pgconn
        if pgconn.status != OPEN:
            return "closed by the application or the driver"
        if self._was_reset():
            return "reconnected by the application"
        if self._pipeline is not None:
            return "unread results of a pipeline"
        if self._seen.busy or pgconn.transaction_status == ACTIVE:
            return "in the middle of a statement"
        if self._num_transactions or self._tpc is not None:
            return "inside a transaction() block or a two-phase transaction"
        return None

    @property
    def has_unread_rows(self) -> bool:
        """Whether a stream() or copy() was left in its middle."""
        return bool(self.pgconn.transaction_status == ACTIVE and self._pipeline is None and not self._seen.busy)

    def free_lock(self) -> None:
        """Replace psycopg's lock if it is held, once no call of the lease can begin any more.

        A generator that was left suspended holds it (stream(), notifies()), or a thread that is about to be refused."""
        if self.lock.locked() and not self._seen.busy:
            self.lock = Lock()
