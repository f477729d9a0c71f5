"""psycopg's connection as wsgidb itself uses it. None of this is recorded as a handler's work."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import psycopg
from psycopg import generators, pq
from psycopg.adapt import AdaptersMap

from ..activity import Activity
from ..sockets import shutdown, watch
from ..states import Clock
from .wire import Work, before, drive

IDLE, ACTIVE = pq.TransactionStatus.IDLE, pq.TransactionStatus.ACTIVE
QUESTION = "SELECT current_setting('transaction_read_only'), CASE WHEN pg_is_in_recovery() THEN 'on' ELSE 'off' END"
"""Whether the server is read-only, and whether it is a standby."""
TOLD_AT_LOGIN = (b"default_transaction_read_only", b"in_hot_standby")
"""The same, as a server of version 14 or newer tells it by itself."""
AT_MOST = 10
"""How often an idle socket is read. If there is still more to read, a ping decides."""


class Kept(NamedTuple):
    """What on_connect has set on the connection object, for as long as the connection lives."""

    adapters: Any = None
    isolation_level: Any = None
    read_only: Any = None
    deferrable: Any = None
    notice_handlers: tuple[Any, ...] = ()
    notify_handlers: tuple[Any, ...] = ()


NOTHING = Kept()

_Base: Any = psycopg.Connection


class Session(_Base):  # type: ignore[misc]
    """The part of wsgidb's connection that begins, cleans and ends sessions."""

    _seen: Activity
    _adapters: Any
    _prepared: Any
    _isolation_level: Any
    _read_only: Any
    _deferrable: Any
    _context: Any
    """The context whose adapters each session begins with, if they are not psycopg's own."""
    _ours: Kept = NOTHING
    direct = False
    """Whether the server is known to be no pooler's, and libpq can send several commands at once. Some poolers lose
    count of the replies to them."""
    _holds: bool
    """Whether a cursor WITH HOLD was declared, which outlives its transaction."""

    # -- never blocks

    def is_at_its_end(self) -> bool:
        """Read what has arrived on the idle socket, without waiting. Returns whether that is the end of the
        connection; it may also be a notification, a changed parameter or a notice."""
        readable = watch(self.pgconn.socket)
        try:
            for _ in range(AT_MOST):
                self.pgconn.consume_input()
                if not readable(0):
                    return False
        except psycopg.OperationalError:
            return True
        return False

    def told_at_login(self) -> list[bytes] | None:
        """The server's answers to `QUESTION`, if it has told them at the login."""
        told = [self.pgconn.parameter_status(name) for name in TOLD_AT_LOGIN]
        return None if None in told else told

    def shut_down(self) -> None:
        """Shut the socket down, so that a thread that waits for the server gets an error. Never blocks."""
        try:
            shutdown(self.pgconn.socket)
        except (OSError, psycopg.OperationalError):
            pass  # it is not connected any more

    def drop(self) -> None:
        """Close the connection without telling the server, which libpq would do: /dev/null takes the place of its
        socket first. That closes the descriptor of this process only, and not a parent's."""
        if not self.closed:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.dup2(null, self.pgconn.socket, inheritable=False)
            finally:
                os.close(null)
        self.pgconn.finish()

    # -- may block until a deadline

    def own(self, work: Work, deadline: float, clock: Clock) -> Any:
        """Do wsgidb's own work before the deadline, and return its result. Any exception means that the connection must
        be discarded."""
        limit = before(deadline, clock)
        try:
            if not self.lock.acquire(timeout=limit(0) or 0):
                raise psycopg.OperationalError("another thread is in the middle of a statement")
        except BaseException:
            work.close()
            raise
        try:
            return drive(work, limit, self.pgconn.socket)
        finally:
            self.lock.release()

    def ask(self, command: str) -> Work:
        """Send one command without a BEGIN before it, and read all of its results. Returns the first row of the last
        one, as bytes. Raises psycopg.Error."""
        self._check_connection_ok()
        self.pgconn.send_query(command.encode(self.info.encoding))
        row: list[Any] = []
        for result in (yield from generators.execute(self.pgconn)):
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding=self.info.encoding)
            row = [result.get_value(0, column) for column in range(result.nfields)] if result.ntuples else []
        if self.pgconn.transaction_status == ACTIVE:
            raise psycopg.OperationalError(f"COPY cannot be used here: {command}")
        return row

    def ask_at_once(self, commands: tuple[str, ...]) -> Work:
        """Send several commands, each of which stands by itself, in one round trip. Raises psycopg.Error."""
        self._check_connection_ok()
        pgconn = self.pgconn
        pgconn.enter_pipeline_mode()
        for command in commands:
            pgconn.send_query_params(command.encode(), None)
            pgconn.pipeline_sync()
        results = yield from generators.execute(pgconn)
        for _ in range(2 * len(commands) - 1):  # the end of each command's results is one more
            results += yield from generators.fetch_many(pgconn)
        for result in results:
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding=self.info.encoding)
        pgconn.exit_pipeline_mode()

    def read_rest(self) -> Work:
        """Read the rows that the handler has left unread. If there is an error among them, it has ended the
        transaction, and libpq's status tells that. Raises psycopg.OperationalError for a COPY FROM, which waits for
        more data."""
        while (result := (yield from generators.fetch(self.pgconn))) is not None:
            if result.status == pq.ExecStatus.COPY_OUT:
                while type((yield from generators.copy_from(self.pgconn))) is memoryview:
                    pass
            elif result.status == pq.ExecStatus.COPY_IN:
                raise psycopg.OperationalError("a COPY FROM was not ended")

    def initialize(self, statements: tuple[str, ...], autocommit: bool) -> Work:
        """Run init_sql: in one transaction and one round trip, unless each statement is to stand by itself."""
        if statements and not autocommit:
            statements = ("\n;\n".join(("BEGIN", *statements, "COMMIT")),)  # a statement may end with a comment
        for statement in statements:
            yield from self.ask(statement)

    def clean(self, autocommit: bool) -> Work:
        """Roll back, and restore what was set on the connection rather than in the transaction."""
        yield from self._rollback_gen()
        if self._holds:
            yield from self.ask("CLOSE ALL")
        self._undo(autocommit)

    def renew(self, statements: tuple[str, ...], autocommit: bool) -> Work:
        """Make the session like a new one."""
        commands = ("DISCARD ALL",) if self.pgconn.transaction_status == IDLE else ("ROLLBACK", "DISCARD ALL")
        if self.direct and len(commands) > 1:
            yield from self.ask_at_once(commands)
        else:
            for command in commands:
                yield from self.ask(command)
        forgotten = self._prepared  # the server has none of these statements any more
        self._prepared = type(forgotten)()
        self._prepared.prepare_threshold = forgotten.prepare_threshold
        self._prepared.prepared_max = forgotten.prepared_max
        self.renew_adapters()
        if backlog := getattr(self, "_notifies_backlog", None):  # since 3.2
            backlog.clear()
        yield from self.initialize(statements, autocommit)
        self._undo(autocommit)
        self._seen.used = False

    def keep_settings(self) -> None:
        """Let each lease begin with what is set on the connection object now."""
        self._ours = Kept(
            None if self._adapters is None else AdaptersMap(self._adapters),
            *(self._isolation_level, self._read_only, self._deferrable),
            *(tuple(self._notice_handlers), tuple(self._notify_handlers)),
        )

    def renew_adapters(self) -> None:
        """Forget the adapters that were registered on the connection by a handler."""
        ours = self._ours.adapters
        if ours is None and self._context is not None:
            ours = self._context.adapters
        self._adapters = None if ours is None else AdaptersMap(ours)

    def is_altered(self) -> bool:
        """Whether a setting of the connection object is not as it was at first. Never blocks."""
        ours = self._ours
        return (
            self._isolation_level is not ours.isolation_level
            or self._read_only is not ours.read_only
            or self._deferrable is not ours.deferrable
            or tuple(self._notice_handlers) != ours.notice_handlers
            or tuple(self._notify_handlers) != ours.notify_handlers
        )

    def _undo(self, autocommit: bool) -> None:
        """Restore the settings of the connection object, which are not the server's."""
        if self.pgconn.transaction_status != IDLE:
            raise psycopg.OperationalError("a transaction is still open")
        ours = self._ours
        self._autocommit = autocommit
        self._isolation_level, self._read_only, self._deferrable = ours.isolation_level, ours.read_only, ours.deferrable
        self._begin_statement = b""
        self._holds = False
        self._notice_handlers[:] = ours.notice_handlers
        self._notify_handlers[:] = ours.notify_handlers
        self._seen.settled()
