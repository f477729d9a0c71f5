"""What connections to a MySQL or MariaDB server have in common, whichever driver made them.

Error numbers: https://mariadb.com/kb/en/mariadb-error-codes/ and MySQL's "Server/Client Error Message Reference".
"""

from __future__ import annotations

import re
from typing import Any

from ...errors import TransactionLost
from ..activity import Activity, first_word
from ..outcome import Keeps, Outcome
from ..states import Clock, State
from .keeping import keeps

IN_TRANSACTION, AUTOCOMMIT, NO_BACKSLASH_ESCAPES = 1, 2, 512  # flags of the status in the server's replies
COM_RESET_CONNECTION = 0x1F
SEMICOLON = ord(";")
"""CPython finds a number in bytes in a ninth of the time that it takes for a byte string of that length."""
VITESS = 1105
"""Whatever happened at Vitess. Elsewhere it is an unknown error."""

LOST, UNKNOWN, NO_TLS, OUT_OF_SYNC, MALFORMED = 2013, 2000, 2026, 2014, 2027
"""Client errors that wsgidb raises itself, or tells from others."""

CONNECTION_LOST = "the connection was lost, and the handler went on"
"""Why a transaction is lost that was open in a session that is gone."""

DISCONNECTS = frozenset(
    (
        0,  # the drivers' (0, ""): used after it was closed
        1053,  # server shutdown in progress
        1927,  # connection was killed
        2006,  # server has gone away
        LOST,  # lost connection during query
        OUT_OF_SYNC,  # commands out of sync
        MALFORMED,  # a packet that is none: whose reply the next one is, nobody knows
        2045,  # shared memory: connection reset
        2055,  # lost connection, with the system's error
        4031,  # closed by the server because of inactivity (MySQL 8.0.24)
    )
)
ANY = re.compile("")
READ_ONLY = {
    1290: re.compile(r"read[-_]only"),  # an option prevents the statement: --read-only, or --super-read-only
    1836: ANY,  # running in read-only mode
    1047: re.compile("WSREP"),  # a Galera node that is not ready; otherwise an unknown command
    1180: re.compile("Primary Component"),  # a Galera node that lost its quorum; otherwise a COMMIT that failed
    VITESS: re.compile("wrong tablet type"),  # this tablet is no primary any more
}
"""Errors of a server that takes no writes, each with a pattern for its text, as some numbers have several meanings.
1792 is not one of them: it is raised by a READ ONLY transaction of the application's own."""
READ_ONLY_TRANSACTION = 1792
NOT_READY = frozenset((1047, 1180))
"""Those of them that mean that no statement is executed."""
ENDS_TRANSACTION = {
    1020: ANY,  # a row was changed since the snapshot (MariaDB's innodb_snapshot_isolation)
    1213: ANY,  # deadlock; on Galera also a conflict with another node, at COMMIT
    1402: ANY,  # XA_RBROLLBACK
    1613: ANY,  # XA_RBTIMEOUT
    1614: ANY,  # XA_RBDEADLOCK
    3101: ANY,  # refused by group replication
    8002: ANY,  # TiDB: SELECT FOR UPDATE met a write conflict
    8022: ANY,  # TiDB: the COMMIT failed and was rolled back
    8028: ANY,  # TiDB: the schema was changed during the transaction
    9007: ANY,  # TiDB: write conflict
    VITESS: re.compile("code = Aborted"),  # the transaction took too long
}
"""Errors with which the server rolls the whole transaction back, each with a pattern for its text. TiDB's numbers:
https://docs.pingcap.com/tidb/stable/error-codes."""
MAY_END_TRANSACTION = frozenset((VITESS, 1205, 1206, 1317, 1969, 3024))
"""Errors after which the server is asked whether the transaction goes on: an error of Vitess, whose number is always
the same; a lock timeout and a full lock table (that depends on innodb_rollback_on_timeout); interrupted statements."""

COMMIT_UNTOLD = frozenset(("BEGIN", "START", "ANALYZE", "OPTIMIZE", "REPAIR", "CHECK"))
"""First words of statements that commit implicitly, and whose replies do not show it: afterwards a transaction is open
again, or the reply is a result set, which has no status."""


def ends_transaction(error: BaseException, code: Any) -> bool:
    """Whether the server has rolled the whole transaction back with this error. Never blocks."""
    pattern = ENDS_TRANSACTION.get(code)
    return pattern is not None and pattern.search(str(error)) is not None


class Within:
    """One deadline for all that a connection says and hears inside. Connecting takes several, and a generator as a
    context manager would cost it three times as much."""

    __slots__ = ("_clock", "_conn", "_deadline")

    def __init__(self, conn: Observed, deadline: float, clock: Clock) -> None:
        self._conn, self._deadline, self._clock = conn, deadline, clock

    def __enter__(self) -> None:
        self._conn._limit(self._deadline, self._clock)

    def __exit__(self, *_error: object) -> None:
        self._conn._unlimit()


class Observed:
    """What the observed connections of all MySQL drivers do alike; each inherits from its driver's own, too."""

    _seen: Activity
    _clock: Clock
    _last_written: Any = ""
    """What the server last answered to the question of what the session has written."""
    _guarded: bool
    """Whether a transaction that the server has ended must not be continued: the lease is to commit it as one."""

    def _begin_record(self, clock: Clock) -> None:
        """Set the attributes that statements read. They have no defaults in the class, because CPython then finds them
        in a third of the time."""
        self._seen, self._clock = self._new_record(clock), clock
        self._guarded = False

    def _new_record(self, clock: Clock) -> Activity:
        return Activity()

    def _limit(self, deadline: float, clock: Clock) -> None:
        """Put one deadline on all that is said and heard until `_unlimit`."""
        raise NotImplementedError

    def _unlimit(self) -> None:
        """Let statements have the driver's own time limits again. Never raises, whatever became of the connection."""
        raise NotImplementedError

    def _within(self, deadline: float, clock: Clock) -> Within:
        """One deadline for all that is said and heard inside."""
        return Within(self, deadline, clock)

    def _unusable(self) -> str | None:
        """Why nothing can be sent any more, as far as is known."""
        raise NotImplementedError

    def _state(self, autocommit: bool, whole_session: bool) -> State | str:
        """What `Driver.inspect` tells. `autocommit` is what the connection was opened with."""
        raise NotImplementedError

    def _unseen_ping(self) -> None:
        """A ping touches no transaction and no session."""
        raise NotImplementedError

    def _ask_whether_open(self) -> bool:
        """Ask the server whether it has a transaction open for us."""
        raise NotImplementedError

    def _still_open(self) -> bool:
        """Whether a transaction is open, as far as the last reply tells."""
        raise NotImplementedError

    def _reset_session(self) -> None:
        raise NotImplementedError

    def _greeted_as(self) -> Any:
        """What the server called itself when it greeted."""
        raise NotImplementedError

    def _abandon(self, busy: bool) -> None:
        """Close without a word to the server, and, where `busy`, without waiting for a thread that reads a reply."""
        raise NotImplementedError

    def _autocommits(self) -> bool:
        """Whether a statement outside of a transaction commits by itself now, as far as is known."""
        return False

    def _had_transaction(self) -> bool:
        """Whether a transaction may be open in which more was done than what the last command did, which has failed."""
        seen = self._seen
        return seen.touched - seen.outside > 1

    def _note_error(self, error: BaseException, code: Any, among_rows: bool = False) -> None:
        """Note that a reply, or a result's rows, ended in an error.

        An error packet carries no status, so what is known of the transaction may be wrong from now on. The transaction
        is lost if the server has ended it, and there was one."""
        seen = self._seen
        had_transaction = self._had_transaction()
        seen.failed(error)
        seen.ended(self._clock())
        seen.unknown = True
        if seen.outcome is not None and self._autocommits():
            seen.outcome.stood_alone()
        if not self._guarded or self._unusable() is not None:
            return
        if ends_transaction(error, code):
            lost = had_transaction or not self._autocommits()
        else:
            asked = had_transaction and (among_rows or code in MAY_END_TRANSACTION)
            lost = asked and not self._ask_whether_open()
        if lost:
            seen.lost = f"the server rolled the transaction back with error {code}, and the handler went on"
            if seen.outcome is not None:
                seen.outcome.lose(repr(error))

    def _note_sent(self, outcome: Outcome, sql: str | bytes | bytearray) -> None:
        """Tell the lease's record what a statement makes permanent that is about to be sent."""
        outcome.sends(self._keeps(sql))

    def _keeps(self, sql: str | bytes | bytearray) -> Keeps:
        return keeps(sql, not self._seen.touched, self._backslash_escapes())

    def _backslash_escapes(self) -> bool:
        """Whether a backslash in a string escapes, as far as is known."""
        raise NotImplementedError

    def _refuse_after_loss(self, sql: str | bytes | bytearray) -> None:
        """After a lost transaction, refuse every statement that could commit what follows; a rollback ends the loss.

        With autocommit on any statement could. Raises TransactionLost."""
        seen = self._seen
        if seen.lost is not None and self._autocommits() and first_word(sql) != "ROLLBACK":
            raise TransactionLost(seen.lost)
        seen.refuse_after_loss(sql)
