"""psycopg's connection as wsgidb itself uses it: its own work on a session, none of which counts as a handler's."""

from __future__ import annotations

import os
from typing import Any

import psycopg
from psycopg import generators, pq
from psycopg.adapt import AdaptersMap

from ..activity import Activity
from ..base import Clock
from ..sockets import shutdown, watch
from .wire import Work, before, drive

IDLE, ACTIVE = pq.TransactionStatus.IDLE, pq.TransactionStatus.ACTIVE
AT_MOST = 10
"""Reads of what was heard on an idle line; if there is more, a ping will tell."""

_Base: Any = psycopg.Connection


class Session(_Base):  # type: ignore[misc]
    """The part of our connection that begins, cleans and ends sessions."""

    _seen: Activity
    _adapters: Any
    _prepared: Any
    _isolation_level: Any
    _read_only: Any
    _deferrable: Any
    _context: Any = None
    """What adapters a new session has, if they are not psycopg's."""
    _holds = False
    """Whether a cursor WITH HOLD was made: it outlives its transaction."""

    # -- never blocks

    def is_at_its_end(self) -> bool:
        """Read what was heard on the idle line, without waiting: the server's goodbye, or but a notification, a
        changed parameter or a notice."""
        heard = watch(self.pgconn.socket)
        try:
            for _ in range(AT_MOST):
                self.pgconn.consume_input()
                if not heard(0):
                    return False
        except psycopg.OperationalError:
            return True
        return False

    def hang_up(self) -> None:
        """Let whoever waits for the server hear the end of the line."""
        try:
            shutdown(self.pgconn.socket)
        except (OSError, psycopg.OperationalError):
            pass  # not connected any more, which is what was wanted

    def drop(self) -> None:
        """Close without a goodbye: the socket is taken away from libpq before libpq would send one.

        That closes this process's descriptor, and leaves a parent's alone."""
        if not self.closed:
            null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
            try:
                os.dup2(null, self.pgconn.socket, inheritable=False)
            finally:
                os.close(null)
        self.pgconn.finish()

    # -- may block until a deadline

    def own(self, work: Work, deadline: float, clock: Clock) -> None:
        """Do it before the deadline. Any exception means that the connection is of no use any more."""
        limit = before(deadline, clock)
        try:
            if not self.lock.acquire(timeout=limit(0) or 0):
                raise psycopg.OperationalError("another thread is in the middle of a statement")
        except BaseException:
            work.close()
            raise
        try:
            drive(work, limit, self.pgconn.socket)
        finally:
            self.lock.release()

    def ask(self, command: str) -> Work:
        """One round trip, as it is: no BEGIN before it."""
        self._check_connection_ok()
        self.pgconn.send_query(command.encode(self.info.encoding))
        for result in (yield from generators.execute(self.pgconn)):
            if result.status == pq.ExecStatus.FATAL_ERROR:
                raise psycopg.errors.error_from_result(result, encoding=self.info.encoding)
        if self.pgconn.transaction_status == ACTIVE:
            raise psycopg.OperationalError(f"COPY cannot be used here: {command}")

    def read_rest(self) -> Work:
        """Read the rows that the handler has left unread, and forget them. An error among them has ended the
        transaction, which libpq knows. Raises psycopg.OperationalError for a COPY FROM, which waits for data."""
        while (result := (yield from generators.fetch(self.pgconn))) is not None:
            if result.status == pq.ExecStatus.COPY_OUT:
                while type((yield from generators.copy_from(self.pgconn))) is memoryview:
                    pass
            elif result.status == pq.ExecStatus.COPY_IN:
                raise psycopg.OperationalError("a COPY FROM was not ended")

    def initialize(self, statements: tuple[str, ...], autocommit: bool) -> Work:
        """Run init_sql, in one transaction unless each statement is to stand by itself."""
        if statements and not autocommit:
            statements = ("BEGIN", *statements, "COMMIT")
        for statement in statements:
            yield from self.ask(statement)

    def clean(self, autocommit: bool) -> Work:
        """Roll back, and take back what was set on the connection rather than in the transaction."""
        yield from self._rollback_gen()
        if self._holds:
            yield from self.ask("CLOSE ALL")
        self._undo(autocommit)

    def renew(self, statements: tuple[str, ...], autocommit: bool) -> Work:
        """Make the session as a new one."""
        if self.pgconn.transaction_status != IDLE:
            yield from self.ask("ROLLBACK")
        yield from self.ask("DISCARD ALL")
        forgotten = self._prepared  # by the server
        self._prepared = type(forgotten)()
        self._prepared.prepare_threshold = forgotten.prepare_threshold
        self._prepared.prepared_max = forgotten.prepared_max
        self.renew_adapters()
        if backlog := getattr(self, "_notifies_backlog", None):  # since 3.2
            backlog.clear()
        yield from self.initialize(statements, autocommit)
        self._undo(autocommit)
        self._seen.used = False

    def renew_adapters(self) -> None:
        self._adapters = None if self._context is None else AdaptersMap(self._context.adapters)

    def _undo(self, autocommit: bool) -> None:
        if self.pgconn.transaction_status != IDLE:
            raise psycopg.OperationalError("a transaction is still open")
        self._autocommit = autocommit
        self._isolation_level = self._read_only = self._deferrable = None
        self._begin_statement = b""
        self._holds = False
        self._notice_handlers.clear()
        self._notify_handlers.clear()
        self._seen.settled()
