"""mysqlclient's connection, observed: what it did since it was last settled, without asking the server.

Its C library keeps the server's status to itself, all but the autocommit flag and whether more results follow. So the
words of each statement tell whether a transaction may be open, and in doubt one is.
"""

from __future__ import annotations

from typing import Any

from MySQLdb import MySQLError, _mysql
from MySQLdb.constants import CLIENT

from ..mysql.observed import CONNECTION_LOST, SEMICOLON
from ..mysql.procedures import Procedures
from ..states import CLEAN, DIRTY, Clock, State
from .commands import Commands
from .record import Record
from .result import own_rows_of
from .statements import (
    BEGINS,
    COMMITS,
    COMPLETION_TYPE,
    ENDS,
    HIDES,
    NONE,
    SETS,
    UNKNOWN,
    USUAL,
    WRITES,
    Effect,
    effect_of,
    may_set,
)

_raw: Any = _mysql

# How to ask whether a transaction is open: MariaDB's way, and what MySQL can tell after a lock timeout.
QUESTIONS = ("SELECT @@in_transaction", "SELECT NOT @@innodb_rollback_on_timeout")

base_query = _raw.connection.query  # the library's own, which Base.query only calls


class Connection(Procedures, Commands):
    """Notes each statement's start, end and error in its `Record`."""

    _seen: Record

    def __init__(self, deadline: float, clock: Clock, **arguments: Any) -> None:
        self._begin_record(clock)
        self._own_settings = arguments
        super().__init__(deadline, clock, **{**arguments, "sql_mode": ""})  # `_set_session` sets it
        self._seen.own_thread = self.thread_id()
        self._own_multi_statements = bool(self.client_flag & CLIENT.MULTI_STATEMENTS)
        self._connected = True

    def _new_record(self, clock: Clock) -> Record:
        return Record(clock)

    def __delattr__(self, name: str) -> None:
        """The C class refuses it for all names, also for what an application has set."""
        try:
            del self.__dict__[name]
        except KeyError:
            raise AttributeError(name) from None

    # -- the handler's statements

    def query(self, query: Any) -> None:
        seen = self._seen
        effect = self._begin(seen, query)
        try:
            if seen.deadline is None:
                base_query(self, bytes(query) if isinstance(query, bytearray) else query)  # which must not change
            else:
                self._query_before(query, *seen.deadline)
        except MySQLError as error:
            self._failed(error)
            raise
        seen.busy = False
        seen.seconds += seen.clock() - seen.began
        if effect is not NONE:
            self._succeeded(effect)

    def send_query(self, query: Any) -> None:
        """The first half of `query`, for applications that wait for the reply in ways of their own."""
        self._begin(self._seen, query)
        super().send_query(query)

    def read_query_result(self) -> None:
        try:
            super().read_query_result()
        except MySQLError as error:
            self._failed(error)
            raise
        self._seen.ended(self._clock())

    def _begin(self, seen: Record, query: Any) -> Effect:
        if seen.incomplete:
            self._look_for_error()
        # As `effect_of` does it for usual statements, with one call less.
        usual = USUAL.get(query[:7]) if type(query) is bytes and SEMICOLON not in query else None
        effect = usual or effect_of(query)
        if seen.guarded:
            self._guard(query, effect)
            if seen.outcome is not None:
                self._note_sent(seen.outcome, query)
        if effect is BEGINS:
            seen.begun = True
        elif effect is UNKNOWN or effect is SETS:
            seen.opaque = True
            seen.may_have_begun = seen.may_have_begun or effect is UNKNOWN
            seen.may_have_set |= may_set(query, effect)
        seen.further = seen.noted = False
        seen.incomplete = seen.busy = seen.used = True
        seen.touched += 1
        seen.statements += 1
        seen.began = seen.clock()
        return effect

    def _succeeded(self, effect: Effect) -> None:
        seen = self._seen
        if effect is ENDS:
            seen.begun = seen.may_have_begun = seen.incomplete = False
            seen.opaque = seen.opaque or COMPLETION_TYPE in seen.may_have_set
            seen.settled()
        elif effect is COMMITS:
            seen.begun = seen.may_have_begun = False
            seen.written = 0
        elif effect is BEGINS:
            seen.written = 0
        elif effect is WRITES and (seen.begun or not self.get_autocommit()):
            seen.written += max(self.affected_rows(), 0)

    def commit(self) -> None:
        self.query("COMMIT")

    def rollback(self) -> None:
        self.query("ROLLBACK")

    def autocommit(self, on: Any) -> None:
        if self.get_autocommit() is not bool(on):
            seen = self._seen
            opaque = seen.opaque
            self.query(f"SET AUTOCOMMIT = {int(bool(on))}")
            seen.opaque = opaque
            if on:  # which has committed
                seen.begun = seen.may_have_begun = False
            seen.written = 0

    # -- losses

    def _guard(self, query: Any, effect: Effect) -> None:
        """Find out whether the transaction was lost, and refuse a statement that could commit what came after.

        Raises TransactionLost."""
        seen = self._seen
        if self._rollbacks is not None and not seen.incomplete:
            self._after_procedure(query)
        if seen.lost is None and seen.gone:
            seen.lost = CONNECTION_LOST
        if seen.lost is not None:
            self._refuse_after_loss(query)
        elif (effect is UNKNOWN or effect is HIDES) and not seen.incomplete and (seen.written or seen.may_have_begun):
            self._before_procedure()

    def _ask(self, sql: str) -> Any:
        deadline = self._seen.deadline
        if deadline is None:
            super().query(sql)
        else:
            self._query_before(sql, *deadline)
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
        seen = self._seen
        if self._autocommits():
            return seen.begun or seen.may_have_begun
        return seen.further or seen.touched > 1

    def _greeted_as(self) -> Any:
        return self.get_server_info()

    # -- what became of it

    def _state(self, autocommit: bool, whole_session: bool) -> State | str:
        seen = self._seen
        if seen.busy or not self.open:
            return self._unusable() or DIRTY
        if seen.incomplete:
            self._look_for_error()
        for reference in seen.stored.values():
            if reference() is not None:
                return "a result set is still in use"
        # One that is being freed now, in another thread, has locked the connection, which the next call tells.
        seen.stored.clear()
        if seen.gone or seen.other_user or self.thread_id() != seen.own_thread:
            return self._unusable() or DIRTY
        if seen.incomplete and self._unread():
            return "unread rows"
        if seen.unbuffered and not self._end_results():
            return "a result set is still in use"
        if not seen.touched:
            untouched = not (seen.opaque or (whole_session and seen.used))
            return CLEAN if untouched and self.get_autocommit() is autocommit else DIRTY
        doubtful = seen.unknown or seen.begun or seen.opaque
        if doubtful or self.get_autocommit() is not autocommit:
            return DIRTY
        return CLEAN if autocommit and not whole_session else DIRTY

    def _unusable(self) -> str | None:
        seen = self._seen
        if not self.open or seen.gone:
            return "closed by the application or the driver"
        if seen.busy:
            return "in the middle of a statement"
        if seen.other_user:
            return "given to another user by the application"
        return None if self.thread_id() == seen.own_thread else "reconnected by the application"
