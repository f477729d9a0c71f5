"""What SQLite's statements are, by their words: which of them are to be in a transaction."""

from __future__ import annotations

import re

BY_THEMSELVES = {
    *("", "SELECT", "VALUES", "PRAGMA", "EXPLAIN", "BEGIN", "COMMIT", "END", "ROLLBACK", "RELEASE"),
    *("VACUUM", "ATTACH", "DETACH"),
}
"""First words of statements that no transaction is begun for: they write no rows, or cannot be in one."""
STANDING = BY_THEMSELVES | {"SAVEPOINT", "CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE"}
"""The same where the handler commits: sqlite3 lets these stand by themselves, and so must we."""

_COMMENT = r"--[^\n]*|/\*.*?(?:\*/|\Z)"  # https://www.sqlite.org/lang_comment.html
_FIRST = re.compile(rf"(?:[\s;\ufeff]|{_COMMENT})*([A-Za-z]*)", re.DOTALL)
_TOKEN = re.compile(
    rf"""{_COMMENT}|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[()]|\w+""", re.DOTALL
)
_VERBS = {"SELECT", "VALUES", "INSERT", "REPLACE", "UPDATE", "DELETE"}


def writes(sql: str, alone: set[str]) -> bool:
    """Whether a statement is to be in a transaction; those `alone` need none."""
    found = _FIRST.match(sql)
    word = "" if found is None else found[1].upper()
    return (_verb(sql) if word == "WITH" else word) not in alone


def _verb(sql: str) -> str:
    """What a statement does that begins with WITH: its first verb outside of all brackets."""
    depth = 0
    for token in _TOKEN.findall(sql):
        depth += (token == "(") - (token == ")")
        if depth == 0 and token.upper() in _VERBS:
            return str(token).upper()
    return ""
