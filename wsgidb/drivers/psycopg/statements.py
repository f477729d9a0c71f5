"""What psycopg is about to do, told from the generator that does it.

psycopg writes each of its operations as a generator, which ``Connection.wait()`` drives. A generator that has not begun
tells its name and its arguments, the cursor among them. So the statements of a cursor are observed in the one place
that no cursor can bypass, whoever made it and of whatever class it is.
"""

from __future__ import annotations

import re
import sys
from types import FrameType
from typing import Any

from psycopg import Copy
from psycopg.errors import QueryCanceled
from psycopg.sql import Composable

from ..activity import RETURNED
from ..outcome import ANYTHING, EARLIER, ENDS, NOTHING, Keeps

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
LEAVES_COPY = "_end_copy_out_gen"
"""The generator that leaves a COPY … TO before its end. psycopg 3.1 also runs it where there is nothing to do."""
WRITES_COPY = "copy_to"
"""The generator that writes rows of a COPY … FROM."""
FINISH = Copy.finish.__code__
CHANGES_ROWS = (b"INSERT", b"UPDATE", b"DELETE", b"MERGE")
"""How the command tag of a statement that changes rows begins."""
ENDS_TRANSACTION = re.compile(r"(?:\s|;|--[^\n]*\n|/\*.*?\*/)*(?:COMMIT|END|PREPARE)\b", re.IGNORECASE | re.DOTALL)

SEVERAL = re.compile(r";\s*\S")
ENDING_WORD = re.compile(r"\b(?:COMMIT|END|PREPARE|ROLLBACK|ABORT)\b", re.IGNORECASE)
ROLLS_BACK = re.compile(r"\s*(?:ROLLBACK|ABORT)\b", re.IGNORECASE)


def would_commit(query: Any, context: Any) -> bool:
    """Whether the statement is to keep what its transaction did. It may be whatever psycopg takes as one."""
    return ENDS_TRANSACTION.match(_text(query, context)) is not None


def _text(query: Any, context: Any) -> str:
    if isinstance(query, bytes):
        return query.decode("utf-8", "replace")
    if isinstance(query, Composable):
        return query.as_string(context)
    return query if isinstance(query, str) else " ".join(query.strings)  # of a template string, without its values


def keeps(query: Any, context: Any) -> Keeps:
    """What a statement in a transaction makes permanent: nothing, unless it ends that. In doubt, as where several
    statements are sent as one, it is anything."""
    text = _text(query, context)
    if ENDS_TRANSACTION.match(text) is not None:
        return EARLIER
    if SEVERAL.search(text) is not None and ENDING_WORD.search(text) is not None:
        return ANYTHING
    return ENDS if ROLLS_BACK.match(text) is not None else NOTHING


def leaves_copy(work: Any, *args: Any, **kwargs: Any) -> bool:
    """Whether the generator, which has not begun, ends a COPY without success. Of a COPY … FROM it raises the error
    that psycopg expects then."""
    name = getattr(work, "__name__", "")
    if name == COPIED and work.gi_frame.f_locals["error"] is not None:
        raise QueryCanceled(RETURNED)
    return name == LEAVES_COPY or (name == WRITES_COPY and _finishes_without_success())


def _finishes_without_success() -> bool:
    """Whether psycopg writes the last rows of a COPY … FROM although that has failed, as it does before version 3.3."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not FINISH:
        frame = frame.f_back
    return frame is not None and frame.f_locals["exc"] is not None


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
