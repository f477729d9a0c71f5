"""What connections to a MySQL or MariaDB server have in common, whichever driver made them.

Error numbers: https://mariadb.com/kb/en/mariadb-error-codes/ and MySQL's "Server/Client Error Message Reference".
"""

from __future__ import annotations

import re
import time
from contextlib import AbstractContextManager
from typing import Any

from ..activity import Activity
from ..base import Clock, State

IN_TRANSACTION, AUTOCOMMIT = 1, 2  # flags of the status in the server's replies
COM_RESET_CONNECTION = 0x1F

LOST, UNKNOWN, NO_TLS, OUT_OF_SYNC, MALFORMED = 2013, 2000, 2026, 2014, 2027
"""Client errors that wsgidb raises itself, or tells from others."""

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
READ_ONLY = {
    1290: re.compile(r"read[-_]only"),  # an option prevents the statement: --read-only, or --super-read-only
    1836: re.compile(""),  # running in read-only mode
    1047: re.compile("WSREP"),  # a Galera node that is not ready; else an unknown command
}
"""Errors of a server that takes no writes, by what their text has; namesakes have another. 1792 is none of them: that
is a READ ONLY transaction."""
ENDS_TRANSACTION = frozenset((1020, 1213, 1402, 1613, 1614, 3101))
"""Errors with which the server rolls the whole transaction back: a row that was changed since the snapshot (MariaDB's
innodb_snapshot_isolation, on by default since 11.6.2), deadlock, XA rollbacks, group replication."""
MAY_END_TRANSACTION = frozenset((1205, 1206))
"""Lock timeout and full lock table: that depends on a setting (innodb_rollback_on_timeout), so the server is asked."""

COMMIT_UNTOLD = frozenset(("BEGIN", "START", "ANALYZE", "OPTIMIZE", "REPAIR", "CHECK"))
"""First words of statements that commit by the way, and whose replies do not show it: in a transaction again, or a
result set."""


class Observed:
    """What the observed connections of all MySQL drivers do alike; each inherits from its driver's own, too."""

    _seen: Activity
    _clock: Clock = time.monotonic
    _guarded = False
    """Whether a transaction that the server has ended must not be continued: the lease is to commit it as one."""

    def _within(self, deadline: float, clock: Clock) -> AbstractContextManager[None]:
        """One deadline for all that is said and heard inside."""
        raise NotImplementedError

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

    def _abandon(self, busy: bool) -> None:
        """Close without a word to the server, and, where `busy`, without waiting for a thread that reads a reply."""
        raise NotImplementedError

    def _had_transaction(self) -> bool:
        """Whether a transaction may have been open when the last command failed."""
        return self._seen.touched > 1

    def _note_error(self, error: BaseException, code: Any, among_rows: bool = False) -> None:
        """A reply ended in an error, or the rows of a result did. An error packet carries no status, so what is known
        of the transaction may be wrong from now on."""
        seen = self._seen
        seen.failed(error)
        seen.ended(self._clock())
        seen.unknown = True
        if not self._guarded or self._unusable() is not None:
            return
        asked = (among_rows or code in MAY_END_TRANSACTION) and self._had_transaction()
        if code in ENDS_TRANSACTION or (asked and not self._ask_whether_open()):
            seen.lost = f"the server rolled the transaction back with error {code}, and the handler went on"
