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
    COMMITS = "commits implicitly"
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
COMPLETION_TYPE: Final = b"COMPLETION_TYPE"
ROLE: Final = b"ROLE"
LASTING: Final = frozenset((COMPLETION_TYPE, ROLE))
"""What a session keeps, and wsgidb must know of: with completion_type each end of a transaction may be the beginning of
another one; MariaDB keeps a role where the user has no default role, even after COM_CHANGE_USER."""
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


def may_set(query: str | bytes | bytearray) -> frozenset[bytes]:
    """Which of `LASTING` a statement of UNKNOWN effect may have set."""
    sql = _bare(query)
    words = _words(sql)
    if words and words[0] == b"SET" and b";" not in sql:
        text = sql.upper()
        return frozenset(name for name in LASTING if name in text)
    return frozenset() if words and words[0] in EFFECTS and b";" not in sql else LASTING


def _bare(query: str | bytes | bytearray) -> bytes | bytearray:
    return (query.encode() if isinstance(query, str) else query).strip(b"; \t\r\n")


def _words(sql: bytes | bytearray) -> list[bytes]:
    """The first three, in capitals."""
    return [bytes(word[:20]).upper() for word in sql.split(None, 3)[:3]]
