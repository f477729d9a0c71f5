"""What statements do to a session that no reply shows."""

from __future__ import annotations

import re

PLAIN = re.compile(
    rb"\s*(?:SELECT|INSERT|UPDATE|DELETE|REPLACE|SHOW|WITH|START|COMMIT|ROLLBACK|SAVEPOINT)\b", re.IGNORECASE
)
"""How statements begin that leave nothing behind for the next transaction, as long as they stand alone."""
_USUAL = b"SEL INS UPD DEL REP SHO WIT STA COM ROL SAV"
USUAL = frozenset((*_USUAL.split(), *_USUAL.lower().split()))
"""How such statements usually begin: their first three bytes, which no other statement that matters has. To look for
them costs a fraction of `PLAIN`."""
HIDDEN = re.compile(rb"TRANSACTION|TX_|\bCALL\b|\bEXECUTE\b", re.IGNORECASE)
"""What is in every other statement that sets, or runs another one that may set, the next transaction's characteristics:
SET TRANSACTION, the system variables transaction_isolation and transaction_read_only, or tx_isolation and tx_read_only.
"""


def may_set_next_transaction(sql: str | bytes | bytearray) -> bool:
    """Whether a statement may set the isolation level or access mode of the next transaction only.

    No status flag shows that, and ROLLBACK and COMMIT undo it. A stored function may do it, too, unseen."""
    if isinstance(sql, str):
        sql = sql.encode(errors="replace")
    return PLAIN.match(sql) is None and HIDDEN.search(sql) is not None


_VALUE = r"(?:'[^'\\]*'|\"[^\"\\]*\"|@{0,2}\w+|[-+]?[\d.]+)"
_ASSIGNMENT = rf"(?:NAMES\s+{_VALUE}(?:\s+COLLATE\s+{_VALUE})?|(?:(?:SESSION|LOCAL)\s+)?[@\w.`]+\s*:?=\s*{_VALUE})"
_ASSIGNMENTS = re.compile(rf"\s*SET\s+{_ASSIGNMENT}(?:\s*,\s*{_ASSIGNMENT})*\s*;?\s*", re.IGNORECASE)


def only_sets(sql: str) -> bool:
    """Whether a statement does nothing but set variables of the session to given values, so that no COMMIT is needed
    after it. One that calls a function, reads a table or sets the next transaction may open one, or has to be undone.
    """
    return _ASSIGNMENTS.fullmatch(sql) is not None and not may_set_next_transaction(sql)
