"""Objects beside cursors that sqlite3's connection hands out, bound to the lease that they were got by."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from ...errors import ConnectionReturned


class Blob:
    """sqlite3's blob, whose every call enters the record of the connection and is refused after the lease."""

    __slots__ = ("__weakref__", "_blob", "_use")

    def __init__(self, blob: Any, use: Callable[..., Any]) -> None:
        self._blob = blob
        self._use = use

    def read(self, length: int = -1, /) -> bytes:
        """Read bytes from the present position on."""
        data: bytes = self._use(self._blob.read, length)
        return data

    def write(self, data: Any, /) -> None:
        """Write bytes at the present position."""
        self._use(self._blob.write, data)

    def seek(self, offset: int, origin: int = 0, /) -> None:
        """Set the position."""
        self._use(self._blob.seek, offset, origin)

    def tell(self) -> int:
        """The position."""
        position: int = self._use(self._blob.tell)
        return position

    def close(self) -> None:
        """Close the blob. After the lease that is done already, and harmless."""
        with suppress(ConnectionReturned):
            self._use(self._blob.close)

    def __len__(self) -> int:
        length: int = self._use(self._blob.__len__)
        return length

    def __getitem__(self, key: Any) -> Any:
        return self._use(self._blob.__getitem__, key)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._use(self._blob.__setitem__, key, value)

    def __enter__(self) -> Blob:
        self._use(self._blob.__enter__)
        return self

    def __exit__(self, *error: Any) -> None:
        self.close()

    @property  # type: ignore[misc]  # isinstance() sees the driver's class
    def __class__(self) -> Any:
        return type(self._blob)


def lines(dump: Iterator[str], use: Callable[..., Any]) -> Iterator[str]:
    """The lines of a dump, each of which is read on behalf of the lease."""
    end = object()
    while (line := use(next, dump, end)) is not end:
        yield line


def close(source: Any) -> None:
    """End what was handed out, also where the connection was closed before."""
    with suppress(sqlite3.Error):
        source.close()
