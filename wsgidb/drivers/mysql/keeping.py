"""What a statement makes permanent on a MySQL or MariaDB server, with autocommit off, judging by its words.

https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
"""

from __future__ import annotations

import re

from ..outcome import ANYTHING, EARLIER, ENDS, NOTHING, Keeps

_COMMENTS = rb"(?:\s|/\*(?![!M]).*?\*/|--\s[^\n]*\n|\#[^\n]*\n)*"
_FIRST = re.compile(_COMMENTS + rb"(\w+)", re.DOTALL)
"""The first word, behind comments that are none of those which the server executes."""
UNDOABLE = frozenset(
    (
        *(b"SELECT", b"INSERT", b"UPDATE", b"DELETE", b"REPLACE", b"WITH", b"VALUES", b"SHOW", b"EXPLAIN"),
        *(b"DESCRIBE", b"DESC", b"USE", b"SAVEPOINT", b"RELEASE", b"DO"),
    )
)
"""First words of statements that a rollback undoes. A function or trigger that they call cannot commit."""
_COMMITS = re.compile(rb"(?:COMMIT|BEGIN|START\s+TRANSACTION)\b(?!\s+NOT\b)", re.IGNORECASE)
"""How statements begin that commit what was done before; BEGIN NOT ATOMIC is a procedure without a name."""
SETS_MORE = re.compile(rb"AUTOCOMMIT|PASSWORD|ROLE|STATEMENT|GLOBAL|PERSIST", re.IGNORECASE)
"""What is in a SET that commits, or that does more than to change the session."""
_QUOTED = re.compile(rb"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|`[^`]*`""", re.DOTALL)
_QUOTED_PLAIN = re.compile(rb"""'[^']*'|"[^"]*"|`[^`]*`""")
"""Strings and quoted names, where backslashes escape and where they do not."""
_MARKS = re.compile(rb";|--|#|/\*")
"""What separates statements, or begins a comment, which could hide that."""


def keeps(query: str | bytes | bytearray, untouched: bool, escapes: bool) -> Keeps:
    """What a statement makes permanent. `untouched` tells that nothing was done in the present transaction, and
    `escapes` whether backslashes escape, as they do without the sql_mode NO_BACKSLASH_ESCAPES.

    In doubt it is anything: for a procedure, or where several statements may have been sent as one."""
    sql = query.encode(errors="replace") if isinstance(query, str) else bytes(query)
    found = _FIRST.match(sql)
    if found is None or (b";" in sql and _several(sql, escapes)):
        return ANYTHING
    word = found[1].upper()
    if word in UNDOABLE:
        return NOTHING
    if word == b"ROLLBACK":
        return ENDS
    if _COMMITS.match(sql, found.start(1)) is not None:
        return ENDS if untouched else EARLIER
    return NOTHING if word == b"SET" and SETS_MORE.search(sql) is None else ANYTHING


def _several(sql: bytes, escapes: bool) -> bool:
    """Whether there may be more than one statement."""
    bare = (_QUOTED if escapes else _QUOTED_PLAIN).sub(b"", sql.rstrip(b"; \t\r\n"))
    return _MARKS.search(bare) is not None
