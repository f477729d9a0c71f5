"""What the connection hands out and can be reached through, as a lease has it: every use of it enters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


class Results:
    """What `cmd_query_iter` returns: each step reads a reply, on behalf of the lease."""

    __slots__ = ("_lease", "_results", "_seen")

    def __init__(self, results: Iterator[Any], seen: Any, lease: Any) -> None:
        self._results, self._seen, self._lease = results, seen, lease

    def __iter__(self) -> Results:
        return self

    def __next__(self) -> Any:
        return self._seen.call(self._lease, next, self._results)


class Receiver:
    """What a cursor gets as the connection's `_socket`: it reads the first packet of a further result, and no more."""

    __slots__ = ("_conn", "_lease", "_seen")

    def __init__(self, conn: Any, seen: Any, lease: Any) -> None:
        self._conn, self._seen, self._lease = conn, seen, lease

    def recv(self, read_timeout: Any = None) -> Any:
        """The packet. Blocks until it has come, or up to `read_timeout` seconds."""
        return self._seen.call(self._lease, self._conn._receive, read_timeout)
