"""Procedures that roll back a transaction and tell nobody.

A procedure can handle its errors by itself (DECLARE … HANDLER), and DO hides those of a function. If one of them was a
deadlock, the server has rolled the whole transaction back. The statement succeeds all the same, and its reply shows
nothing of that, as the procedure may have begun another transaction since. So a savepoint is set before it, and looked
for before the next command.
"""

from __future__ import annotations

import re
from typing import Any

from ..activity import first_word
from ..states import Clock
from .observed import Observed

CALLS = re.compile(rb"\b(CALL|EXECUTE|NOT\s+ATOMIC)\b|(^|;|\*/)\s*DO\b[^;]*\(", re.IGNORECASE)
"""What is in a statement that runs a procedure, or another statement that may run one. DO calls functions, and answers
with a success even if they fail."""

SAVEPOINT = "wsgidb_before_call"
NO_SUCH_SAVEPOINT = 1305
COUNTS = "SHOW SESSION STATUS WHERE Variable_name IN ('Com_rollback', 'Handler_rollback')"
"""The ROLLBACK statements of the session, also of its procedures, and what was rolled back, whoever wanted that."""


class Procedures(Observed):
    """The part of an observed connection that looks after procedures, while leases are committed as a whole."""

    _rollbacks: tuple[int, int] | None
    """How many rollbacks the session had asked for and seen before the CALL that is to be looked after, if any."""

    def _begin_record(self, clock: Clock) -> None:
        super()._begin_record(clock)
        self._rollbacks = None

    def _ask(self, sql: str) -> Any:
        """The rows of a statement of wsgidb's own, which counts for nothing. Raises the driver's error."""
        raise NotImplementedError

    def _before_procedure(self) -> None:
        """Set a savepoint, where a transaction is open that a procedure could end. Costs two round trips."""
        rollbacks = self._count_rollbacks()
        self._ask(f"SAVEPOINT {SAVEPOINT}")
        self._rollbacks = rollbacks

    def _after_procedure(self, sql: str | bytes | bytearray) -> None:
        """Look for the savepoint before the command after the CALL, unless that is a rollback. Costs a round trip.

        Without it the transaction has ended. If nothing was rolled back meanwhile, the procedure has committed it; and
        if it said ROLLBACK, it meant that."""
        rollbacks, self._rollbacks = self._rollbacks, None
        if rollbacks is None or first_word(sql) == "ROLLBACK":
            return
        try:
            self._ask(f"RELEASE SAVEPOINT {SAVEPOINT}")
        except Exception as error:
            if error.args[:1] != (NO_SUCH_SAVEPOINT,):
                raise
            asked, seen = self._count_rollbacks()
            if self._seen.lost is None and seen > rollbacks[1] and asked == rollbacks[0]:
                self._seen.lost = "a procedure's error rolled the transaction back, and the handler went on"

    def _count_rollbacks(self) -> tuple[int, int]:
        counts = sorted((str(name), int(count)) for name, count in self._ask(COUNTS))
        return counts[0][1], counts[1][1]
