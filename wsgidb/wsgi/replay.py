"""wsgi.input for a request that may be repeated: what was read of it can be read again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

MOST = 65_536
"""How many bytes are kept. A request of whose body more was read is not repeated."""


class Replay:
    """The body of a request, read from the server only as the application reads it (PEP 3333, "Input and Error
    Streams")."""

    def __init__(self, source: Any) -> None:
        self._source = source
        self._kept = bytearray()
        self._position = 0  # in what is kept; at its end the source goes on
        self.complete = True
        """Whether all that was read is kept."""

    def rewind(self) -> None:
        """Begin anew, which is possible while it is `complete`."""
        self._position = 0

    def read(self, *size: Any) -> bytes:
        """Read bytes, as the server's input does: all that is left without a size."""
        wanted = None if not size or size[0] is None or size[0] < 0 else size[0]
        if self._position == len(self._kept):
            return self._keep(self._source.read(*size))
        found = self._take(None if wanted is None else self._position + wanted)
        if wanted is None:
            return found + self._keep(self._source.read(*size))
        return found if len(found) == wanted else found + self._keep(self._source.read(wanted - len(found)))

    def readline(self, *size: Any) -> bytes:
        """Read up to the end of a line, as the server's input does."""
        wanted = None if not size or size[0] is None or size[0] < 0 else size[0]
        if self._position == len(self._kept):
            return self._keep(self._source.readline(*size))
        end = self._kept.find(b"\n", self._position) + 1
        limit = None if wanted is None else self._position + wanted
        found = self._take(limit if not end else end if limit is None else min(end, limit))
        if found.endswith(b"\n") or len(found) == wanted:
            return found
        return found + self._keep(self._source.readline(*(() if wanted is None else (wanted - len(found),))))

    def readlines(self, *hint: Any) -> list[bytes]:
        """Read all lines that are left; as PEP 3333 has it, the hint may be ignored."""
        return list(self)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.readline, b"")

    def _take(self, end: int | None) -> bytes:
        """Read again, up to `end` in what is kept."""
        found = bytes(self._kept[self._position : end])
        self._position += len(found)
        return found

    def _keep(self, data: bytes) -> bytes:
        """Keep what the source has just given, if it is not too much."""
        if self.complete and len(self._kept) + len(data) > MOST:
            self.complete = False
            self._kept.clear()
            self._position = 0
        elif self.complete:
            self._kept += data
            self._position += len(data)
        return data
