"""psycopg's cursors, observed: they count statements and the rows these changed, and name their lease."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from psycopg import pq

from ..activity import Activity

IDLE, INERROR = pq.TransactionStatus.IDLE, pq.TransactionStatus.INERROR
CHANGES_ROWS = (b"INSERT", b"UPDATE", b"DELETE", b"MERGE")
"""How the command tag of a statement that changes rows begins."""

_Base: Any = object


class Cursor(_Base):  # type: ignore[misc]
    """What `observed` adds to psycopg's cursors."""

    __slots__ = ()
    _lease: Any
    _conn: Any
    _pgconn: Any

    @property
    def connection(self) -> Any:
        """The lease; the driver's own connection for a cursor that was not got through one."""
        try:
            return self._lease
        except AttributeError:
            return self._conn

    def execute(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        seen = self._begin(query)
        super().execute(query, *args, **kwargs)
        result: Any = self.pgresult
        if result is not None and (result.command_status or b"").startswith(CHANGES_ROWS):
            self._wrote(seen)
        return self

    def executemany(self, query: Any, *args: Any, **kwargs: Any) -> None:
        seen = self._begin(query)
        super().executemany(query, *args, **kwargs)
        self._wrote(seen)

    def stream(self, query: Any, *args: Any, **kwargs: Any) -> Any:
        self._begin(query)
        return super().stream(query, *args, **kwargs)

    @contextmanager
    def copy(self, statement: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
        seen = self._begin(statement)
        with super().copy(statement, *args, **kwargs) as copy:
            inwards = self.pgresult.status == pq.ExecStatus.COPY_IN
            yield copy
        if inwards:
            self._wrote(seen)

    def _begin(self, query: Any) -> Activity:
        conn = self._conn
        if self._pgconn.transaction_status == INERROR:
            conn.refuse_to_lose(query)
        seen: Activity = conn._seen
        seen.statements += 1
        return seen

    def _wrote(self, seen: Activity) -> None:
        """Rows that are not committed yet."""
        if self.rowcount > 0 and self._pgconn.transaction_status != IDLE:
            seen.written += self.rowcount


@cache
def observed(factory: Any) -> Any:
    """A cursor class of psycopg's or the handler's, made able to do what `Cursor` does."""
    if not isinstance(factory, type) or issubclass(factory, Cursor):
        return factory
    body = {"__slots__": ("_lease",), "__module__": factory.__module__}
    metaclass: Any = type(factory)
    return metaclass(factory.__name__, (Cursor, factory), body)
