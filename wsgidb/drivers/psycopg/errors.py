"""What an error of PostgreSQL, of libpq or of psycopg means.

SQLSTATEs: https://www.postgresql.org/docs/current/errcodes-appendix.html
"""

from __future__ import annotations

import psycopg

from ...errors import TransactionLost
from ..errors import Errors

DISCONNECTS = frozenset(
    (
        "57P01",  # admin_shutdown: also pg_terminate_backend
        "57P02",  # crash_shutdown
        "57P03",  # cannot_connect_now
        "57P05",  # idle_session_timeout
        "25P03",  # idle_in_transaction_session_timeout
        "25P04",  # transaction_timeout
    )
)
REFUSALS = frozenset(("22", "23", "40", "P0"))
"""Classes of the errors with which the server refuses a COMMIT and rolls back: data and constraints that are checked
only then, serialization failures and deadlocks, and errors that a trigger raises."""
CONFLICTS = frozenset(("40001", "40P01"))
"""serialization_failure and deadlock_detected. CockroachDB has the first one for all conflicts."""
COMPLETION_UNKNOWN = "40003"
"""statement_completion_unknown: the error of a COMMIT of which the server cannot tell whether it was done."""
UNHARMED = (psycopg.errors.PipelineAborted, getattr(psycopg.errors, "_WaitTimeout", psycopg.errors.PipelineAborted))
"""Errors without an SQLSTATE that leave the connection as it was. The second one, which is private, ends
notifies(timeout=…)."""


class PsycopgErrors(Errors):
    """The part of the driver that tells errors apart by their SQLSTATE."""

    def is_disconnect(self, error: BaseException) -> bool:
        if not isinstance(error, psycopg.Error):
            return False
        if error.sqlstate is None:  # libpq's or psycopg's own, like "the connection is closed"
            return isinstance(error, psycopg.OperationalError) and not isinstance(error, UNHARMED)
        return error.sqlstate.startswith("08") or error.sqlstate in DISCONNECTS

    def commit_was_refused(self, error: BaseException) -> bool:
        """Also true if `commit` has refused it: `inspect` then tells whether the connection can be kept."""
        if isinstance(error, TransactionLost):
            return True
        state = error.sqlstate if isinstance(error, psycopg.Error) else None
        return state is not None and state[:2] in REFUSALS and state != COMPLETION_UNKNOWN

    def is_conflict(self, error: BaseException) -> bool:
        return isinstance(error, psycopg.Error) and error.sqlstate in CONFLICTS

    def is_read_only(self, error: BaseException) -> bool:
        return isinstance(error, psycopg.errors.ReadOnlySqlTransaction)
