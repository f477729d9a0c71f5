"""mysqlclient's connection and the replies to its statements: result sets, and what of a reply was not read."""

from __future__ import annotations

import weakref
from threading import get_ident
from typing import Any

from MySQLdb import MySQLError

from ..mysql.observed import DISCONNECTS, MALFORMED, OUT_OF_SYNC, Observed
from .record import Record
from .result import Result, Rows, UnbufferedResult, rows_of
from .wire import Wire

GONE = DISCONNECTS - {OUT_OF_SYNC}
CLIENT_ERRORS = range(2000, 3000)
"""Errors that the library raises itself, in the middle of a reply or before one. Any other is the end of a reply."""

SOME_ROWS = 100
"""How many rows are read between two looks at the clock."""


class Replies(Wire, Observed):
    """The part of our connection that deals with result sets and errors."""

    _seen: Record

    def store_result(self) -> Any:
        """Cursors read every reply by it, unless they are unbuffered."""
        seen = self._seen
        result = Result(self, 0, self.converter)
        if not result.converter:  # the statement has no columns, and the library has no result set behind this
            seen.incomplete = bool(self.more_results())
            return None
        seen.incomplete = bool(result.has_next)
        result._seen = seen
        result._lease = seen.lease  # not ended before the call that made this has, see `Activity.enter`
        seen.stored[id(result)] = weakref.ref(result)
        return result

    def use_result(self) -> Any:
        """Unbuffered cursors read every reply by it."""
        rows = rows_of(self, self.converter)
        if rows is None:
            return None
        result = UnbufferedResult(rows, self._seen)
        self._seen.unbuffered[id(rows)] = weakref.ref(rows)
        self._seen.reader = get_ident()
        return result

    def discard_result(self) -> None:
        """Read a result set to its end, without its rows."""
        try:
            super().discard_result()
        except MySQLError as error:
            self._failed(error)
            raise

    def next_result(self) -> int:
        """Of several statements in one the first alone is in `query`; the library forgets an error of the others with
        the next result that it is asked for.

        Cursors ask before each statement and when they are closed. Where nothing can follow the library is not asked,
        as it would let go of the interpreter lock."""
        seen = self._seen
        if not seen.incomplete:
            return -1
        self._look_for_error()
        seen.noted = False
        seen.further = True
        try:
            found: int = super().next_result()
        finally:
            self._look_for_error()
        if found == -1:
            seen.incomplete = False
        return found

    def _unread(self) -> bool:
        """Where nothing is left to read the library says -1; only where something is, it would have to read."""
        if not self._seen.incomplete:
            return False
        try:
            if self.more_results() or super().next_result() != -1:
                return True
        except MySQLError:
            return True
        self._seen.incomplete = False
        return False

    def _finish_reply(self, deadline: float) -> bool:
        """Read what is left of the last reply, so that another command can be sent. Returns whether there was time; if
        not, the connection has been ended.

        May block: the library can be stopped between rows only, so it waits for a row that does not come as long as
        read_timeout allows. Raises the error of a statement whose reply the handler has not read."""
        self._look_for_error()
        if not self._seen.incomplete:
            return True
        if all(self._read_on(reference(), deadline) for reference in self._seen.unbuffered.values()):
            while self._read_on(rows_of(self, {}), deadline):
                if self.next_result() == -1:
                    return True
        return False

    def _read_on(self, rows: Rows | None, deadline: float) -> bool:
        """Read these rows to their end, if there are any. Returns whether there was time."""
        while self._clock() < deadline:
            try:
                if rows is None or not rows.fetch_row(SOME_ROWS):
                    return True
            except MySQLError:
                self._look_for_error()
                raise
            except Exception:  # noqa: BLE001 - of a converter of the application's; the row has been read
                continue
        self._seen.gone = True
        self._shut_down()  # before the rows are freed, for which the library would read them all
        return False

    def _end_results(self) -> bool:
        """End the result sets that a lease has read row by row. Returns whether the library has freed them all: not
        where a method of one is kept, or being called. Its call, like freeing it, locks the connection for a moment,
        in which the statement of another lease would fail. Another thread may be about to do that with one that seems
        to be freed."""
        unbuffered = self._seen.unbuffered
        references = list(unbuffered.values())
        unbuffered.clear()
        for reference in references:
            if (rows := reference()) is not None and (holder := rows.holder()) is not None:
                holder.end()
        rows = holder = None  # the last one is freed, too
        return self._seen.reader == get_ident() and all(reference() is None for reference in references)

    # -- errors

    def _failed(self, error: MySQLError) -> None:
        code = error.args[0] if error.args else None
        if not isinstance(code, int):
            return  # another thread is in the middle of a statement
        seen = self._seen
        seen.noted = True
        if code in GONE:
            seen.gone = True
        if code == MALFORMED:
            self._drop_descriptor()  # the library would go on, and take what is left of the reply for the next one
        if code not in CLIENT_ERRORS:
            seen.incomplete = False
        self._note_error(error, code)

    def _look_for_error(self) -> None:
        """An error among a result's rows goes past the methods above: the library has it until its next call."""
        seen = self._seen
        if self.open and not seen.busy and not seen.noted and (code := self.errno()):
            self._failed(MySQLError(code, self.error()))
