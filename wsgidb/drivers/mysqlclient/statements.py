"""What a statement does to a transaction, judging by its words: mysqlclient does not tell the server's status."""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

from ..mysql.observed import COMMIT_UNTOLD


class Effect(Enum):
    """What a statement does to a transaction."""

    NONE = "nothing"
    WRITES = "writes in it"
    COMMITS = "commits it implicitly"
    BEGINS = "begins one"
    ENDS = "ends it"
    SETS = "changes settings, also those of the next transaction"
    UNKNOWN = "may do anything"


NONE, WRITES, COMMITS = Effect.NONE, Effect.WRITES, Effect.COMMITS
BEGINS, ENDS, SETS, UNKNOWN = Effect.BEGINS, Effect.ENDS, Effect.SETS, Effect.UNKNOWN

EFFECTS: Final = {
    **dict.fromkeys((b"SELECT", b"SHOW", b"EXPLAIN", b"DESCRIBE", b"DESC", b"WITH", b"VALUES"), NONE),
    **dict.fromkeys((b"USE", b"DO", b"KILL", b"SAVEPOINT", b"RELEASE"), NONE),
    **dict.fromkeys((b"INSERT", b"UPDATE", b"DELETE", b"REPLACE", b"LOAD"), WRITES),
    **dict.fromkeys((b"CREATE", b"ALTER", b"DROP", b"TRUNCATE", b"RENAME", b"GRANT", b"REVOKE"), COMMITS),
    **dict.fromkeys((word.encode() for word in COMMIT_UNTOLD), COMMITS),
    **dict.fromkeys((b"BEGIN", b"START"), BEGINS),
    **dict.fromkeys((b"COMMIT", b"ROLLBACK"), ENDS),
    b"SET": SETS,
}
"""The effects of statements, by their first words. The effect of any other is unknown."""
COMPLETION_TYPE: Final = b"COMPLETION_TYPE"
ROLE: Final = b"ROLE"
LASTING: Final = frozenset((COMPLETION_TYPE, ROLE))
"""Settings that need care: with completion_type each end of a transaction may begin another one; on MariaDB a role
outlives COM_CHANGE_USER if the user has no default role."""
FIRST: Final = re.compile(rb"[A-Za-z]+(?!\S)")


def effect_of(query: str | bytes | bytearray) -> Effect:
    """The effect of a statement by its first words. It is UNKNOWN where there is a doubt: for a procedure, behind a
    comment, and where a semicolon may separate several statements."""
    sql = _bare(query)
    first = FIRST.match(sql)
    if first is None or b";" in sql:
        return UNKNOWN
    found = EFFECTS.get(first[0].upper(), UNKNOWN)
    if found is SETS and _words(sql)[1:2] == [b"STATEMENT"]:  # SET STATEMENT … FOR another statement
        return UNKNOWN
    if found is COMMITS and _words(sql)[1:2] == [b"TEMPORARY"]:
        return NONE
    if found is ENDS and (rest := _words(sql)[1:]) not in ([], [b"WORK"]):
        return NONE if b"TO" in rest else UNKNOWN
    return found


def may_set(query: str | bytes | bytearray, effect: Effect) -> frozenset[bytes]:
    """Which of `LASTING` a statement with this effect may have set."""
    sql = _bare(query)
    if effect is UNKNOWN:
        known = b";" not in sql and EFFECTS.get(b"".join(_words(sql)[:1])) is ENDS
        return frozenset() if known else LASTING
    if effect is SETS:
        text = sql.upper()
        return frozenset(name for name in LASTING if name in text)
    return frozenset()


def _bare(query: str | bytes | bytearray) -> bytes | bytearray:
    return (query.encode() if isinstance(query, str) else query).strip(b"; \t\r\n")


def _words(sql: bytes | bytearray) -> list[bytes]:
    """The first three words, in capitals."""
    return [bytes(word[:20]).upper() for word in sql.split(None, 3)[:3]]
