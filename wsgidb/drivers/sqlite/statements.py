"""Tells from the words of a statement whether a transaction has to be begun for it."""

from __future__ import annotations

import re

BY_THEMSELVES = {
    *("", "SELECT", "VALUES", "PRAGMA", "EXPLAIN", "BEGIN", "COMMIT", "END", "ROLLBACK", "RELEASE"),
    *("VACUUM", "ATTACH", "DETACH"),
}
"""First words of statements for which no transaction is begun: they write no rows, or cannot run in one."""
STANDING = BY_THEMSELVES | {"SAVEPOINT", "CREATE", "DROP", "ALTER", "REINDEX", "ANALYZE"}
"""The same where the handler commits: sqlite3 begins no transaction for these, so wsgidb begins none, either."""
UNDOING = {"ROLLBACK"}
"""The first word of a statement that ends a transaction and leaves nothing of it."""
READING = UNDOING | {"", "SELECT", "VALUES", "EXPLAIN"}
"""First words of statements that leave nothing permanent, whether or not a transaction is open."""

_COMMENT = r"--[^\n]*|/\*.*?(?:\*/|\Z)"  # https://www.sqlite.org/lang_comment.html
_FIRST = re.compile(rf"(?:[\s;\ufeff]|{_COMMENT})*([A-Za-z]*)", re.DOTALL)
_TOKEN = re.compile(
    rf"""{_COMMENT}|'(?:[^']|'')*'|"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|[()]|\w+""", re.DOTALL
)
_VERBS = {"SELECT", "VALUES", "INSERT", "REPLACE", "UPDATE", "DELETE"}


def writes(sql: str, alone: set[str]) -> bool:
    """Whether a statement has to run in a transaction; it need not if it begins with one of the words in `alone`."""
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
