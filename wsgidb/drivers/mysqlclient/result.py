"""mysqlclient's result sets as a lease hands them out: each carries the connection, so each ends with its lease.

Most of their methods lock the connection in the library, so that the statement of another thread would fail meanwhile.
They are refused once the lease has ended. Freeing one locks it, too, and nothing can refuse that: so a connection is
kept only if all of them have been freed.
"""

from __future__ import annotations

import weakref
from typing import Any

from MySQLdb import _mysql

from ...errors import ConnectionReturned
from ..activity import RETURNED, Activity

_raw: Any = _mysql
fetch_row = _raw.result.fetch_row  # cheaper than super()


class Result(_raw.result):  # type: ignore[misc]
    """A result set whose rows have been read from the server."""

    __slots__ = ("__weakref__", "_lease", "_seen")
    _lease: Any
    _seen: Activity

    def fetch_row(self, maxrows: int = 1, how: int = 0) -> Any:
        seen, lease = self._seen, self._lease  # as `Activity.call` does it, with one call less
        seen.users.append(lease)
        try:
            if seen.lease is not lease:
                raise seen.refusal()
            return fetch_row(self, maxrows, how)
        finally:
            seen.users.remove(lease)
            if seen.closing:
                seen.close_if_unused()

    def data_seek(self, row: int) -> None:
        self._seen.call(self._lease, super().data_seek, row)

    def discard(self) -> None:
        self._seen.call(self._lease, super().discard)

    def num_fields(self) -> Any:
        return self._seen.call(self._lease, super().num_fields)

    def num_rows(self) -> Any:
        return self._seen.call(self._lease, super().num_rows)


class Rows(_raw.result):  # type: ignore[misc]
    """The library's result set of rows that are read from the server one by one."""

    __slots__ = ("__weakref__", "holder")
    holder: weakref.ref[UnbufferedResult]
    """The object that was handed out for it."""


class _Ended:
    """What takes the place of a result set, and of its methods, when its lease ends."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionReturned(RETURNED)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionReturned(RETURNED)


_ENDED: Any = _Ended()


class UnbufferedResult:
    """A result set whose rows are read from the server one by one, with the methods and attributes of the library's.

    `fetch_row` and `discard` are the library's own methods, which cost nothing more. Without entering the connection's
    record they are safe as long as rows are left, since the connection is then discarded with its lease; and the
    library's lock shows where a thread is reading. `end` puts a stop to them before the connection goes to another
    lease.
    """

    __slots__ = ("__weakref__", "_lease", "_rows", "_seen", "discard", "fetch_row")

    def __init__(self, rows: Rows, seen: Activity) -> None:
        self._rows = rows
        self._seen = seen
        self._lease = seen.lease
        self.fetch_row: Any = rows.fetch_row
        self.discard: Any = rows.discard
        rows.holder = weakref.ref(self)

    def end(self) -> None:
        """Free the library's result set; from then on every use is refused."""
        self.fetch_row = self.discard = self._rows = _ENDED

    def _call(self, name: str, *args: Any) -> Any:
        return self._seen.call(self._lease, lambda: getattr(self._rows, name)(*args))

    def data_seek(self, row: int) -> None:
        """Go to a row, counted from 0."""
        self._call("data_seek", row)

    def num_fields(self) -> Any:
        """How many columns there are."""
        return self._call("num_fields")

    def num_rows(self) -> Any:
        """How many rows have been read so far."""
        return self._call("num_rows")

    def describe(self) -> Any:
        """The columns, as a cursor's ``description`` has them."""
        return self._rows.describe()

    def field_flags(self) -> Any:
        """The flags of each column."""
        return self._rows.field_flags()

    @property
    def converter(self) -> Any:
        """The converter of each column."""
        return self._rows.converter

    @property
    def has_next(self) -> Any:
        """Whether another result set follows."""
        return self._rows.has_next


def rows_of(conn: Any, converter: Any) -> Rows | None:
    """What the library's ``use_result`` returns, of a class that takes weak references."""
    rows = Rows(conn, 1, converter)
    return rows if rows.converter else None


def own_rows_of(conn: Any) -> Any:
    """The rows that answer a question of wsgidb's own, as text: the converters may be the application's."""
    return _raw.result(conn, 0, {}).fetch_row(0)
