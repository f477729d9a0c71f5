"""sqlite3's cursor, observed."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from ...errors import ConnectionReturned
from ..activity import RETURNED


class Cursor(sqlite3.Cursor):
    """The driver's cursor, observed; it names its lease, and can be refused after it."""

    _lease: Any = None
    _raw: Any

    def __init__(self, connection: Any) -> None:
        self._raw = connection  # first: a handler's own class may run a statement when it is made
        super().__init__(connection)

    @property
    def connection(self) -> Any:  # the lease, not the raw one
        return self._lease

    def execute(self, *args: Any) -> Any:
        return self._raw.observe(super().execute, args)

    def executemany(self, *args: Any) -> Any:
        return self._raw.observe(super().executemany, args)

    def executescript(self, *args: Any) -> Any:
        raw = self._raw
        raw.before_script(args)
        raw.in_script = True
        try:
            return raw.observe(super().executescript, args)
        finally:
            raw.in_script = False

    # A cursor must not be closed while another thread fetches from it: since Python 3.12 that ends the process.

    def fetchone(self) -> Any:
        return self._raw.run(super().fetchone, (), statement=False)

    def fetchmany(self, *size: Any, **by_name: Any) -> Any:
        return self._raw.run(partial(super().fetchmany, *size, **by_name), (), statement=False)

    def fetchall(self) -> Any:
        return self._raw.run(super().fetchall, (), statement=False)

    def __next__(self) -> Any:  # as run() does it, but for two calls less for each row
        raw = self._raw
        running = raw.running
        running.append(None)
        before = False
        try:
            if raw.orphaned:
                raise ConnectionReturned(RETURNED)
            before = raw.in_transaction
            return _next(self)
        except sqlite3.Error as error:
            raw.failed(before, error)
            raise
        finally:
            running.pop()
            if raw.condemned:
                raw.close_at_rest()


raw_connection: Callable[[Cursor], Any] = vars(sqlite3.Cursor)["connection"].__get__
_next: Callable[[Cursor], Any] = sqlite3.Cursor.__next__


@cache
def ours(factory: Any) -> Any:
    """A handler's own cursor class, made able to do what `Cursor` does."""
    if not isinstance(factory, type) or issubclass(factory, Cursor):
        return factory
    return Cursor if factory is sqlite3.Cursor else type(factory.__name__, (factory, Cursor), {})
