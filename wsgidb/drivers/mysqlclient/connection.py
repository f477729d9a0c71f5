"""mysqlclient's connection, observed: what it did since it was last settled, without asking the server.

Its C library keeps the server's status to itself, all but the autocommit flag and whether more results follow. So the
words of each statement tell whether a transaction may be open, and in doubt one is.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from MySQLdb import MySQLError, ProgrammingError
from MySQLdb.constants import CLIENT

from ..mysql.observed import CONNECTION_LOST
from ..mysql.procedures import Procedures
from ..states import CLEAN, DIRTY, Clock, State
from .commands import Commands
from .result import own_rows_of
from .statements import (
    BEGINS,
    COMMITS,
    COMPLETION_TYPE,
    ENDS,
    HIDES,
    NONE,
    ROLE,
    SETS,
    UNKNOWN,
    WRITES,
    Effect,
    effect_of,
    may_set,
)
from .wire import Base

# How to ask whether a transaction is open: MariaDB's way, and what MySQL can tell after a lock timeout.
QUESTIONS = ("SELECT @@in_transaction", "SELECT NOT @@innodb_rollback_on_timeout")

base_query = Base.query  # cheaper than super()


class Connection(Procedures, Commands):
    """Notes each statement's start, end and error in its `Activity`."""

    _begun = False
    """BEGIN was run, and neither COMMIT nor ROLLBACK since."""
    _may_have_begun = False
    """A statement of unknown effect may have opened a transaction since the last COMMIT or ROLLBACK."""
    _may_have_set: frozenset[bytes] = frozenset()
    """Which of `LASTING` a statement of this session may have set."""

    def __init__(self, deadline: float, clock: Clock, **arguments: Any) -> None:
        self._begin_record(clock)
        super().__init__(deadline, clock, **arguments)
        self._own_thread = self.thread_id()
        self._own_settings = arguments
        self._own_multi_statements = bool(self.client_flag & CLIENT.MULTI_STATEMENTS)
        self._other_charset = False

    def __delattr__(self, name: str) -> None:
        """The C class refuses it for all names, also for what an application has set."""
        try:
            del self.__dict__[name]
        except KeyError:
            raise AttributeError(name) from None

    # -- the handler's statements

    def query(self, query: Any) -> None:
        effect = self._begin(query)
        try:
            if self._deadline is None:
                base_query(self, query)
            else:
                self._query_before(query, *self._deadline)
        except MySQLError as error:
            self._failed(error)
            raise
        seen = self._seen
        seen.busy = False
        seen.seconds += self._clock() - seen.began
        if effect is not NONE:
            self._succeeded(effect)

    def send_query(self, query: Any) -> None:
        """The first half of `query`, for applications that wait for the reply in ways of their own."""
        self._begin(query)
        super().send_query(query)

    def read_query_result(self) -> None:
        try:
            super().read_query_result()
        except MySQLError as error:
            self._failed(error)
            raise
        self._seen.ended(self._clock())

    def _begin(self, query: Any) -> Effect:
        seen = self._seen
        if not seen.busy and self.open and self.errno():
            self._look_for_error()
        effect = effect_of(query)
        if self._guarded:
            self._guard(query, effect)
            if seen.outcome is not None:
                self._note_sent(seen.outcome, query)
        if effect is BEGINS:
            self._begun = True
        elif effect is UNKNOWN or effect is SETS:
            self._opaque = True
            self._may_have_begun = self._may_have_begun or effect is UNKNOWN
            self._may_have_set |= may_set(query, effect)
        self._incomplete = True
        self._further = self._noted = False
        seen.busy = seen.used = True
        seen.touched += 1
        seen.statements += 1
        seen.began = self._clock()
        return effect

    def _succeeded(self, effect: Effect) -> None:
        seen = self._seen
        if effect is ENDS:
            self._begun = self._may_have_begun = self._incomplete = False
            self._opaque = self._opaque or COMPLETION_TYPE in self._may_have_set
            seen.settled()
        elif effect is COMMITS:
            self._begun = self._may_have_begun = False
            seen.written = 0
        elif effect is BEGINS:
            seen.written = 0
        elif effect is WRITES and (self._begun or not self.get_autocommit()):
            seen.written += max(self.affected_rows(), 0)

    def commit(self) -> None:
        self.query("COMMIT")

    def rollback(self) -> None:
        self.query("ROLLBACK")

    def autocommit(self, on: Any) -> None:
        if self.get_autocommit() is not bool(on):
            opaque = self._opaque
            self.query(f"SET AUTOCOMMIT = {int(bool(on))}")
            self._opaque = opaque
            if on:  # which has committed
                self._begun = self._may_have_begun = False
            self._seen.written = 0

    # -- losses

    def _guard(self, query: Any, effect: Effect) -> None:
        """Find out whether the transaction was lost, and refuse a statement that could commit what came after.

        Raises TransactionLost."""
        seen = self._seen
        if self._rollbacks is not None and not self._incomplete:
            self._after_procedure(query)
        if seen.lost is None and self._gone:
            seen.lost = CONNECTION_LOST
        if seen.lost is not None:
            self._refuse_after_loss(query)
        elif (effect is UNKNOWN or effect is HIDES) and not self._incomplete and (seen.written or self._may_have_begun):
            self._before_procedure()

    def _ask(self, sql: str) -> Any:
        if self._deadline is None:
            super().query(sql)
        else:
            self._query_before(sql, *self._deadline)
        return () if self.field_count() == 0 else own_rows_of(self)

    def _ask_whether_open(self) -> bool:
        for question in QUESTIONS:
            try:
                ((answer,),) = self._ask(question)
            except MySQLError:
                continue  # not a variable of this server's
            return bool(int(answer))
        return False

    def _still_open(self) -> bool:
        return False  # a rollback names NO CHAIN wherever one might be

    def _autocommits(self) -> bool:
        return bool(self.open and self.get_autocommit())

    def _backslash_escapes(self) -> bool:
        return bool(self.escape_string(b"'") != b"''")

    def _had_transaction(self) -> bool:
        if self._autocommits():
            return self._begun or self._may_have_begun
        return self._further or self._seen.touched > 1

    def _greeted_as(self) -> Any:
        return self.get_server_info()

    # -- what became of it

    def _state(self, autocommit: bool, whole_session: bool) -> State | str:
        seen = self._seen
        if seen.busy or not self.open:
            return self._unusable() or DIRTY
        if self.errno():
            self._look_for_error()
        if self._gone or self._other_user or self.thread_id() != self._own_thread:
            return self._unusable() or DIRTY
        if self._incomplete and self._unread():
            return "unread rows"
        if self._unbuffered and not self._end_results():
            return "a result set is still in use"
        if not seen.touched:
            untouched = not (self._opaque or (whole_session and seen.used))
            return CLEAN if untouched and self.get_autocommit() is autocommit else DIRTY
        doubtful = seen.unknown or self._begun or self._opaque
        if doubtful or self.get_autocommit() is not autocommit:
            return DIRTY
        return CLEAN if autocommit and not whole_session else DIRTY

    def _unusable(self) -> str | None:
        if not self.open or self._gone:
            return "closed by the application or the driver"
        if self._seen.busy:
            return "in the middle of a statement"
        if self._other_user:
            return "given to another user by the application"
        return None if self.thread_id() == self._own_thread else "reconnected by the application"

    def _clean_up(self) -> None:
        """Roll back, whatever a handler has set completion_type to, and take back what a rollback does not."""
        self.query("ROLLBACK AND NO CHAIN" if COMPLETION_TYPE in self._may_have_set else "ROLLBACK")
        self._take_back_changes()
        self._begun = self._may_have_begun = self._opaque = False

    def _reset_session(self) -> None:
        """COM_CHANGE_USER to the same user, which rolls back, and what it takes back of connecting. The library has no
        deadline for it: so a server that does not answer is found out by a statement before.

        That statement finds no rows, so that FOUND_ROWS() tells nothing of an earlier one."""
        self._seen.settled()
        self._rollbacks = None
        self.query("SELECT 1 LIMIT 0")
        self.store_result()
        if ROLE in self._may_have_set:
            with suppress(ProgrammingError):  # a server without roles
                self.query("SET ROLE NONE")  # COM_CHANGE_USER sets the default role, if there is one
        given = self._own_settings
        super().change_user(given.get("user", ""), given.get("password", ""), given.get("database", ""))
        self._other_charset = True  # COM_CHANGE_USER has set the server's
        self._may_have_set = frozenset()
        self._take_back_changes()
        self._begun = self._may_have_begun = self._opaque = self._other_user = False
        if given.get("sql_mode"):
            self.set_sql_mode(given["sql_mode"])
        if given.get("init_command"):
            self.query(given["init_command"])
            self.store_result()
            while self.next_result() == 0:
                self.store_result()
