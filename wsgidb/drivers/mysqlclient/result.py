"""mysqlclient's result sets as a lease hands them out: each carries the connection, so each ends with its lease.

Their description is taken from memory. All else locks the connection in the library, so that the statement of another
thread would fail: it is refused once the lease has ended.
"""

from __future__ import annotations

import weakref
from typing import Any

from MySQLdb import _mysql

from ...errors import ConnectionReturned
from ..activity import RETURNED, Activity

_raw: Any = _mysql


class Result:
    """A result set whose rows have been read from the server, with the methods and attributes of the library's."""

    __slots__ = ("_lease", "_result", "_seen")

    def __init__(self, result: Any, seen: Activity) -> None:
        self._result = result
        self._seen = seen
        self._lease = seen.lease  # not ended before the call that made this has, see `Activity.enter`

    def fetch_row(self, *args: Any, **kwargs: Any) -> Any:
        """Up to so many of the next rows."""
        seen, lease = self._seen, self._lease  # as `Activity.call` does it, with one call less
        seen.users.append(lease)
        try:
            if seen.lease is not lease:
                raise seen.refusal()
            return self._result.fetch_row(*args, **kwargs)
        finally:
            seen.users.remove(lease)
            if seen.closing:
                seen.close_if_unused()

    def _call(self, name: str, *args: Any) -> Any:
        return self._seen.call(self._lease, lambda: getattr(self._result, name)(*args))

    def data_seek(self, row: int) -> None:
        """Go to a row, counted from 0."""
        self._call("data_seek", row)

    def discard(self) -> None:
        """Read the rest of the rows and forget them."""
        self._call("discard")

    def num_fields(self) -> int:
        """How many columns there are."""
        return int(self._call("num_fields"))

    def num_rows(self) -> int:
        """How many rows there are, or have been read so far where they come one by one."""
        return int(self._call("num_rows"))

    def describe(self) -> Any:
        """The columns, as a cursor's ``description`` has them."""
        return self._result.describe()

    def field_flags(self) -> Any:
        """The flags of each column."""
        return self._result.field_flags()

    @property
    def converter(self) -> Any:
        """The converter of each column."""
        return self._result.converter

    @property
    def has_next(self) -> bool:
        """Whether another result set follows."""
        return bool(self._result.has_next)


class Rows(_raw.result):  # type: ignore[misc]
    """The library's result set of rows that are read from the server one by one."""

    __slots__ = ("__weakref__", "holder")
    holder: weakref.ref[UnbufferedResult]
    """The one who was given it."""


class _Ended:
    """What takes the place of a result set, and of its method, when its lease ends."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionReturned(RETURNED)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionReturned(RETURNED)


_ENDED: Any = _Ended()


class UnbufferedResult(Result):
    """A result set whose rows are read from the server one by one.

    Fetching is the library's own method, which costs nothing more. Without entering the connection's record it is safe
    as long as rows are left, since the connection is then discarded with its lease; and the library's lock shows where
    a thread is reading. `end` puts a stop to it before the connection goes to another lease.
    """

    __slots__ = ("__weakref__", "fetch_row")

    def __init__(self, result: Rows, seen: Activity) -> None:
        super().__init__(result, seen)
        self.fetch_row = result.fetch_row  # type: ignore[method-assign]  # a slot in its place
        result.holder = weakref.ref(self)

    def end(self) -> None:
        """Free the library's result set; from then on every use is refused."""
        self.fetch_row = self._result = _ENDED  # type: ignore[method-assign]


def rows_of(conn: Any, converter: Any) -> Rows | None:
    """What the library's ``use_result`` returns, of a class that takes weak references."""
    rows = Rows(conn, 1, converter)
    return rows if rows.converter else None  # a statement without columns has no result set


def own_rows_of(conn: Any) -> Any:
    """The rows that answer a question of wsgidb's own, as text: the converters may be the application's."""
    return _raw.result(conn, 0, {}).fetch_row(0)
