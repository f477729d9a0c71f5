"""What psycopg is about to do, told from the generator that does it.

psycopg writes each of its operations as a generator, which ``Connection.wait()`` drives. A generator that has not begun
tells its name and its arguments, the cursor among them. So the statements of a cursor are observed in the one place
that no cursor can bypass, whoever made it and of whatever class it is.
"""

from __future__ import annotations

import re
from typing import Any

from psycopg.sql import Composable

DECLARE = "_declare_gen"
QUERIES = {
    "_execute_gen": "query",
    "_executemany_gen_pipeline": "query",
    "_executemany_gen_no_pipeline": "query",
    "_stream_send_gen": "query",
    "_start_copy_gen": "statement",
    DECLARE: "query",
}
"""The generators with which a cursor runs a statement, and the argument that is its text. `DECLARE` is a named
cursor's."""
ROLLBACK = "_rollback_gen"
ENDINGS = frozenset(("_commit_gen", ROLLBACK))
"""The generators of the connection's commit() and rollback()."""
NOTIFIES = "notifies"
"""The generator that waits for notifications."""
COPIED = "copy_end"
"""The generator that ends a COPY … FROM; its result tells the number of rows."""
CHANGES_ROWS = (b"INSERT", b"UPDATE", b"DELETE", b"MERGE")
"""How the command tag of a statement that changes rows begins."""
ENDS_TRANSACTION = re.compile(r"(?:\s|;|--[^\n]*\n|/\*.*?\*/)*(?:COMMIT|END|PREPARE)\b", re.IGNORECASE | re.DOTALL)


def would_commit(query: Any, context: Any) -> bool:
    """Whether the statement is to keep what its transaction did. It may be whatever psycopg takes as one."""
    if isinstance(query, bytes):
        text = query.decode("utf-8", "replace")
    elif isinstance(query, Composable):
        text = query.as_string(context)
    else:  # a str, or a template string, whose first part is text
        text = query if isinstance(query, str) else query.strings[0]
    return ENDS_TRANSACTION.match(text) is not None


def rows_changed(cursor: Any) -> int:
    """How many rows the statement that the cursor has just run has changed."""
    results: Any = cursor._results
    if not results:  # of an executemany() that keeps none
        return max(int(cursor._rowcount), 0)
    changed = 0
    for each in results:
        status = each.command_status
        if status is not None and status.startswith(CHANGES_ROWS):
            changed += each.command_tuples or 0
    return changed
