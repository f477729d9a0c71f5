"""psycopg's connection, observed: it records what was done on it, without asking the server.

libpq knows the state of the transaction after every reply, so nothing has to be guessed here. psycopg sends everything
through ``Connection.wait()``. The cursors of a lease, and whatever else psycopg hands out, hold the lease in place of
this connection (`Psycopg.lease_members`), so they reach ``wait()`` through the lease only.

`PRIVATE_NAMES` lists the private names of psycopg that this module uses; a test compares them with the installed
version.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import Any

import psycopg
from psycopg import pq

from ...errors import TransactionLost
from ..activity import Activity
from ..outcome import ANYTHING, EARLIER
from ..states import CLEAN, DIRTY, Clock, State
from .session import NOTHING, Session
from .statements import COPIED, DECLARE, ENDINGS, NOTIFIES, QUERIES, ROLLBACK, keeps, rows_changed, would_commit
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
"""The private names that are used, besides those in the module `statements`."""

IDLE, ACTIVE, INERROR = pq.TransactionStatus.IDLE, pq.TransactionStatus.ACTIVE, pq.TransactionStatus.INERROR
OPEN = pq.ConnStatus.OK  # named here, because looking up an enumeration costs as much as the rest of an inspect
base_wait: Any = psycopg.Connection.wait  # cheaper than super(), by 0.1 µs
LOST = 0
"""What libpq gives as the id of the server's process if there is no connection."""


class Connection(Session):
    """A connection that records the start, end and error of each command in its `Activity`."""

    lock: Any
    _clock: Clock
    _limit: Limit | None
    """The time limit of each single wait of a handler's statement, if there is one."""
    _ended_one: bool
    """Whether a transaction of a handler's has ended since the position of what is written was last asked for."""

    def __init__(self, pgconn: Any, *args: Any, **kwargs: Any) -> None:
        self._seen = Activity()
        self._clock, self._limit = time.monotonic, None
        self._context, self._holds, self._ended_one = None, False, False
        super().__init__(pgconn, *args, **kwargs)
        self._own_pid = pgconn.backend_pid
        self._queued: set[Any] = set()
        """The cursors whose results a pipeline has not read yet."""

    def __del__(self) -> None:
        """Do not warn that the connection was not closed: garbage collection closes the socket of an abandoned one."""

    # -- the handler's commands

    def wait(self, work: Work, *args: Any, **kwargs: Any) -> Any:
        """Do what a handler asks of the server: psycopg sends everything through this method. wsgidb's own commands go
        through `own` instead.

        Blocks as long as a statement may. Raises TransactionLost for a statement that would commit the rest of a lost
        transaction."""
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
            # No time limit applies to waiting for notifications.
            if self._limit is None or name == NOTIFIES:
                result = base_wait(self, work, *args, **kwargs)
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
        self._ended()  # not after a BaseException: the reply may then be incomplete
        return result

    def _statement(self, work: Any, name: str, status: int) -> Any:
        """Record a statement that is about to be run. Returns its cursor if the rows that it changes are to be counted.
        Raises TransactionLost."""
        self._seen.statements += 1
        outcome = self._seen.outcome
        if outcome is not None:
            alone = status == IDLE and self._autocommit
            outcome.sends(ANYTHING if alone else keeps(work.gi_frame.f_locals[QUERIES[name]], self))
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
        """Whether the application has replaced the session by a new one (``pgconn.reset()``)."""
        return self.pgconn.backend_pid not in (self._own_pid, LOST)

    def _wait_limited(self, work: Work, limit: Limit) -> Any:
        try:
            return drive(work, limit, self.pgconn.socket)
        except psycopg.OperationalError as error:
            if error.sqlstate is None:
                self.pgconn.finish()  # a reply that comes later would be taken for another statement's
            raise

    def _concerns_connection(self, error: Exception) -> bool:
        """Whether the error may say something about the connection, and not only about its statement."""
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
            return self._server_is_read_only()
        if isinstance(error, psycopg.Error) and error.sqlstate is None:  # libpq's own error: its status tells the rest
            return bool(self.pgconn.status != OPEN)
        return True

    def _server_is_read_only(self) -> bool:
        """Whether the whole server is read-only, as far as it tells. The handler's own transaction may be read-only
        too, with the same error. Servers before version 14 do not tell."""
        told = [self.pgconn.parameter_status(name) for name in (b"in_hot_standby", b"default_transaction_read_only")]
        return b"on" in told or (None in told and not self._read_only)

    def _ended(self) -> None:
        """Record that the reply has come."""
        seen = self._seen
        seen.busy = False
        if self._queued and not (self._pipeline and self._pipeline.result_queue):
            seen.written += sum(map(rows_changed, self._queued))
            self._queued.clear()
        if self.pgconn.transaction_status == IDLE:
            seen.touched = seen.written = 0
            self._ended_one = True

    def _exec_command(self, command: Any, *args: Any, **kwargs: Any) -> Any:
        """Make the commands that psycopg sends by itself: BEGIN, COMMIT, ROLLBACK, SAVEPOINT and others. Raises
        TransactionLost for a COMMIT after an error."""
        if self.pgconn.transaction_status == INERROR:
            self._refuse_to_lose(command)
        outcome = self._seen.outcome
        if outcome is not None and would_commit(command, self):
            outcome.sends(EARLIER)
        return super()._exec_command(command, *args, **kwargs)

    def _refuse_to_lose(self, query: Any) -> None:
        """Raise TransactionLost for a statement that would commit a transaction after an error in it. The server would
        answer with a rollback and report no error:
        https://www.postgresql.org/docs/current/sql-commit.html"""
        if would_commit(query, self):
            raise TransactionLost("an error has ended the transaction, and the handler went on")

    def _cancel_gen(self) -> Any:
        """Cancel the present statement. If the server does not confirm that, the cancellation could hit a later
        statement, so the connection must not be used for another lease."""
        seen = self._seen
        before, seen.unfit = seen.unfit, "a cancellation was not confirmed"
        yield from super()._cancel_gen()
        seen.unfit = before

    # -- the state in which a lease leaves it

    def state(self, autocommit: bool, whole_session: bool) -> State | str:
        """The answer of `Driver.inspect`. `autocommit` is the setting that the connection was opened with."""
        reason = self.unusable()
        if reason is not None:
            return reason
        if self.lock.locked():
            self.free_lock()
        if self._adapters is not None or self._context is not None:
            self.renew_adapters()
        if (
            self.pgconn.transaction_status != IDLE
            or self._autocommit is not autocommit
            or self._holds
            or (
                self.is_altered()
                if self._ours is not NOTHING
                else self._isolation_level is not None
                or self._read_only is not None
                or self._deferrable is not None
                or self._notice_handlers
                or self._notify_handlers
            )
            or (whole_session and self._seen.used)
        ):
            return DIRTY
        return CLEAN

    def unusable(self) -> str | None:
        """Why no further command can be sent, or None if one can. Rows that were left unread can still be read
        (`read_rest`)."""
        pgconn = self.pgconn
        if pgconn.status != OPEN:
            return "closed by the application or the driver"
        if pgconn.backend_pid != self._own_pid and self._was_reset():
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
        """Whether a stream() or copy() was left before its end."""
        return bool(self.pgconn.transaction_status == ACTIVE and self._pipeline is None and not self._seen.busy)

    def free_lock(self) -> None:
        """Replace psycopg's lock if it is held. To be called when no call of the lease can begin any more.

        The holder is a generator that was left suspended (stream(), notifies()), or a thread that is about to be
        refused. Neither will use the connection again."""
        if self.lock.locked() and not self._seen.busy:
            self.lock = Lock()
