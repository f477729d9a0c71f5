"""What a statement does to a transaction, by its words alone: mysqlclient keeps the server's status to itself."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from ..mysql.observed import COMMIT_UNTOLD


class Effect(Enum):
    """On a transaction, where autocommit is on."""

    NONE = "none"
    WRITES = "writes"
    COMMITS = "commits by the way"
    BEGINS = "begins one"
    ENDS = "ends one"
    UNKNOWN = "may do anything"


NONE, WRITES, COMMITS = Effect.NONE, Effect.WRITES, Effect.COMMITS
BEGINS, ENDS, UNKNOWN = Effect.BEGINS, Effect.ENDS, Effect.UNKNOWN

EFFECTS: Final = {
    **dict.fromkeys((b"SELECT", b"SHOW", b"EXPLAIN", b"DESCRIBE", b"DESC", b"WITH", b"VALUES"), NONE),
    **dict.fromkeys((b"USE", b"DO", b"KILL", b"SAVEPOINT", b"RELEASE"), NONE),
    **dict.fromkeys((b"INSERT", b"UPDATE", b"DELETE", b"REPLACE", b"LOAD"), WRITES),
    **dict.fromkeys((b"CREATE", b"ALTER", b"DROP", b"TRUNCATE", b"RENAME", b"GRANT", b"REVOKE"), COMMITS),
    **dict.fromkeys((word.encode() for word in COMMIT_UNTOLD), COMMITS),
    **dict.fromkeys((b"BEGIN", b"START"), BEGINS),
    **dict.fromkeys((b"COMMIT", b"ROLLBACK"), ENDS),
}
"""By first words; of any other nothing is known."""
FIRST: Final = re.compile(rb"[A-Za-z]+(?!\S)")


def effect_of(query: str | bytes | bytearray) -> Effect:
    """In doubt UNKNOWN: behind a comment, of a procedure, and where a semicolon may part several statements."""
    sql = _bare(query)
    first = FIRST.match(sql)
    if first is None or b";" in sql:
        return UNKNOWN
    found = EFFECTS.get(first[0].upper(), UNKNOWN)
    if found is COMMITS and _words(sql)[1:2] == [b"TEMPORARY"]:
        return NONE
    if found is ENDS and (rest := _words(sql)[1:]) not in ([], [b"WORK"]):
        return NONE if b"TO" in rest else UNKNOWN
    return found


def may_chain(query: str | bytes | bytearray) -> bool:
    """Whether a statement of UNKNOWN effect may have changed completion_type: then each end of a transaction is the
    beginning of another one."""
    sql = _bare(query)
    words = _words(sql)
    if not words or b";" in sql:
        return True
    return b"COMPLETION_TYPE" in sql.upper() if words[0] == b"SET" else words[0] not in EFFECTS


def _bare(query: str | bytes | bytearray) -> bytes | bytearray:
    return (query.encode() if isinstance(query, str) else query).strip(b"; \t\r\n")


def _words(sql: bytes | bytearray) -> list[bytes]:
    """The first three, in capitals."""
    return [bytes(word[:20]).upper() for word in sql.split(None, 3)[:3]]
