"""What a statement does to a transaction, judging by its words: mysqlclient does not tell the server's status."""

from __future__ import annotations

from enum import Enum
from typing import Final

from ..mysql.observed import COMMIT_UNTOLD, SEMICOLON


class Effect(Enum):
    """What a statement does to a transaction."""

    NONE = "nothing"
    WRITES = "writes in it"
    COMMITS = "commits it implicitly"
    BEGINS = "begins one"
    ENDS = "ends it"
    HIDES = "may roll it back, and hides the error"
    SETS = "changes settings, also those of the next transaction"
    UNKNOWN = "may do anything"


NONE, WRITES, COMMITS = Effect.NONE, Effect.WRITES, Effect.COMMITS
BEGINS, ENDS, HIDES = Effect.BEGINS, Effect.ENDS, Effect.HIDES
SETS, UNKNOWN = Effect.SETS, Effect.UNKNOWN

EFFECTS: Final = {
    **dict.fromkeys((b"SELECT", b"SHOW", b"EXPLAIN", b"DESCRIBE", b"DESC", b"WITH", b"VALUES"), NONE),
    **dict.fromkeys((b"USE", b"KILL", b"SAVEPOINT", b"RELEASE"), NONE),
    **dict.fromkeys((b"INSERT", b"UPDATE", b"DELETE", b"REPLACE", b"LOAD"), WRITES),
    **dict.fromkeys((b"CREATE", b"ALTER", b"DROP", b"TRUNCATE", b"RENAME", b"GRANT", b"REVOKE"), COMMITS),
    **dict.fromkeys((word.encode() for word in COMMIT_UNTOLD), COMMITS),
    **dict.fromkeys((b"BEGIN", b"START"), BEGINS),
    **dict.fromkeys((b"COMMIT", b"ROLLBACK"), ENDS),
    b"DO": HIDES,
    b"SET": SETS,
}
"""The effects of statements, by their first words. The effect of any other is unknown."""
USUAL: Final = {
    start: EFFECTS[word]
    for word in (b"SELECT", b"INSERT", b"UPDATE", b"DELETE")
    for start in (word + b" ", word.lower() + b" ", word.capitalize() + b" ")
}
"""The effects of the commonest statements, by the first seven bytes of how they are commonly written."""
COMPLETION_TYPE: Final = b"COMPLETION_TYPE"
ROLE: Final = b"ROLE"
LASTING: Final = frozenset((COMPLETION_TYPE, ROLE))
"""Settings that need care: with completion_type each end of a transaction may begin another one; on MariaDB a role
outlives COM_CHANGE_USER if the user has no default role."""
LONGEST_START: Final = 200
"""Bytes in which the first word is looked for: what is behind that much white space is not known."""


def effect_of(query: str | bytes | bytearray) -> Effect:
    """The effect of a statement by its first words. It is UNKNOWN where there is a doubt: for a procedure, behind a
    comment, and where a semicolon may separate several statements."""
    sql = query if type(query) is bytes else _as_bytes(query)
    start = sql[:LONGEST_START].split(None, 1)
    found = EFFECTS.get(start[0].strip(b";").upper(), UNKNOWN) if start else UNKNOWN
    if SEMICOLON in sql and SEMICOLON in _bare(sql):
        return UNKNOWN
    if found is NONE or found is WRITES:
        return found
    if found is SETS and _words(sql)[1:2] == [b"STATEMENT"]:  # SET STATEMENT … FOR another statement
        return UNKNOWN
    if found is COMMITS and _words(sql)[1:2] == [b"TEMPORARY"]:
        return NONE
    if found is ENDS and (rest := _words(sql)[1:]) not in ([], [b"WORK"]):
        return NONE if b"TO" in rest else UNKNOWN
    return found


def may_set(query: str | bytes | bytearray, effect: Effect) -> frozenset[bytes]:
    """Which of `LASTING` a statement with this effect may have set."""
    sql = _bare(_as_bytes(query))
    if effect is UNKNOWN:
        known = b";" not in sql and EFFECTS.get(b"".join(_words(sql)[:1])) is ENDS
        return frozenset() if known else LASTING
    if effect is SETS:
        text = sql.upper()
        return frozenset(name for name in LASTING if name in text)
    return frozenset()


def _as_bytes(query: str | bytes | bytearray) -> bytes:
    return query.encode() if isinstance(query, str) else bytes(query)


def _bare(sql: bytes) -> bytes:
    return sql.strip(b"; \t\r\n")


def _words(sql: bytes) -> list[bytes]:
    """The first three words, in capitals."""
    return [word[:20].upper() for word in _bare(sql).split(None, 3)[:3]]
