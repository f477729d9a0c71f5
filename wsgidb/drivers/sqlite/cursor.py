"""sqlite3's cursor, observed: each call enters the record of the connection on behalf of the cursor's lease."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import partial
from typing import Any

from ..cursors import kept_class, quiet_class


class Cursor(sqlite3.Cursor):
    """The driver's cursor, observed. It belongs to one lease, and is refused after it.

    A cursor must not be closed while another thread fetches from it: since Python 3.12 that ends the process. So the
    calls that read rows enter, too, and the end of the lease sees them."""

    def __init__(self, connection: Any) -> None:
        self._raw = connection  # first: a handler's own class may run a statement when it is made
        self._seen = seen = connection.seen
        self._lease = seen.lease
        _init(self, connection)

    @property
    def connection(self) -> Any:
        """The lease that the cursor belongs to."""
        return self._lease

    def execute(self, *args: Any) -> Any:
        """Execute a statement, as the driver's cursor does."""
        return self._raw.observe(self._lease, super().execute, args)

    def executemany(self, *args: Any) -> Any:
        """Execute a statement many times, as the driver's cursor does."""
        return self._raw.observe(self._lease, super().executemany, args)

    def executescript(self, *args: Any) -> Any:
        """Commit, and execute a script, as the driver's cursor does."""
        return self._seen.call(self._lease, self._raw.script, super().executescript, args)

    def fetchone(self) -> Any:
        """Fetch the next row, as the driver's cursor does."""
        return self._raw.use(self._lease, super().fetchone)

    def fetchmany(self, *size: Any, **by_name: Any) -> Any:
        """Fetch some rows, as the driver's cursor does."""
        return self._raw.use(self._lease, partial(super().fetchmany, *size, **by_name))

    def fetchall(self) -> Any:
        """Fetch all remaining rows, as the driver's cursor does."""
        return self._raw.use(self._lease, super().fetchall)

    def __next__(self) -> Any:  # as Connection.use() does it, but for two calls less for each row
        raw = self._raw
        seen = self._seen
        lease = self._lease
        users = seen.users
        users.append(lease)
        before = False
        try:
            if seen.lease is not lease:
                raise seen.refusal()
            before = raw.in_transaction
            return _next(self)
        except sqlite3.Error as error:
            raw.failed(before, error)
            raise
        finally:
            users.remove(lease)
            if seen.closing:
                seen.close_if_unused()

    def close(self) -> None:
        """Close the cursor, as the driver's does. After the lease that is done already, and harmless."""
        seen = self._seen
        lease = self._lease
        seen.users.append(lease)
        try:
            if seen.lease is lease:
                _close(self)
        finally:
            seen.users.remove(lease)
            if seen.closing:
                seen.close_if_unused()


_init: Callable[[Cursor, Any], None] = sqlite3.Cursor.__init__
_close: Callable[[Cursor], None] = sqlite3.Cursor.close
_next: Callable[[Cursor], Any] = sqlite3.Cursor.__next__


def observed(factory: Any) -> Any:
    """A cursor class of the driver's or the handler's, made able to do what `Cursor` does."""
    if not isinstance(factory, type) or issubclass(factory, Cursor):
        return factory
    return Cursor if factory is sqlite3.Cursor else kept_class(factory, "_wsgidb_observed_class", _make)


def _make(factory: type) -> type:
    return quiet_class(factory, (factory, Cursor), {})
