"""Tokens, of which each connection of a host needs one (option host_connections): locks on the bytes of a file.

The kernel gives up the locks of a process that ends, however it ends. They are fcntl's locks, which belong to a process
and not to a descriptor: so a forked child has none of its parent's, and cannot keep them beyond the parent's end by a
descriptor that it has inherited, on servers that run no fork hooks, too. Their trap is that a process that closes any
descriptor of the file gives up all of its locks on it: so each process opens the file once, and never closes it.

The file also has a note of a process that waits for a token. It goes stale by itself, so that nobody has to remove it.
"""

from __future__ import annotations

import fcntl
import os
import re
import struct
import threading
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple
from zlib import crc32

from ..forks import tell_of_forks

NOTE = struct.Struct("=dIdI")
FRESH = 0.1
"""For how many seconds a note counts. Whoever waits writes it again more often."""
FIRST = NOTE.size
"""The byte of the first token."""


class Wanted(NamedTuple):
    """A note of a process that waits for a token. Of two, the one comes first that has fewer, then the older one."""

    has: int
    """How many connections its pool has open."""
    since: float
    """Since when it waits, in monotonic seconds."""
    granted: bool = False
    """Whether another process has given one up for it."""


class Tokens:
    """The tokens of one pool name in this process. No method waits for another process."""

    def __init__(self, path: str) -> None:
        self._path = path
        # `_lock` guards `_file` and `_held`: for the kernel, two threads of a process have the same locks. It is
        # reentrant, as garbage collection may close a connection meanwhile. Only calls that do not block are made.
        self._lock = threading.RLock()
        self._file = -1
        self._held: dict[int, Any] = {}

    def take(self, owner: Any, most: int) -> bool:
        """Take a token for this owner, if one of the first `most` is free.

        Raises OSError if the file cannot be used."""
        with self._lock:
            token = self._free(most)
            if token is None:
                return False
            self._held[token] = owner
            return True

    def give(self, owner: Any) -> None:
        """Give back what this owner has. It may have none."""
        with self._lock:
            for token in [token for token, its in self._held.items() if its is owner]:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, FIRST + token)
                del self._held[token]

    def any_free(self, most: int) -> bool:
        """Whether a token is free now."""
        with self._lock:
            token = self._free(most)
            if token is not None:
                fcntl.lockf(self._file, fcntl.LOCK_UN, 1, FIRST + token)
            return token is not None

    def _free(self, most: int) -> int | None:
        """The first free token, which is then locked. The caller holds the lock."""
        file = self._opened()
        for token in range(most):
            if token not in self._held:
                with suppress(BlockingIOError, PermissionError):  # another process has it
                    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, FIRST + token)
                    return token
        return None

    def _opened(self) -> int:
        if self._file < 0:
            os.makedirs(os.path.dirname(self._path), mode=0o700, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        return self._file

    # -- who waits

    def wanted(self) -> Wanted | None:
        """The present note."""
        data = os.pread(self._opened(), NOTE.size, 0)
        if len(data) < NOTE.size:
            return None
        at, has, since, granted = NOTE.unpack(data)
        return Wanted(has, since, bool(granted)) if 0 <= monotonic() - at < FRESH else None

    def want(self, wanted: Wanted) -> None:
        """Write a note, in place of the present one."""
        os.pwrite(self._opened(), NOTE.pack(monotonic(), *wanted), 0)

    def served(self) -> None:
        """Take the note away."""
        os.pwrite(self._opened(), NOTE.pack(0.0, 0, 0.0, 0), 0)


class _Made(dict[tuple[int, str], Tokens]):
    """By process and path, as all pools of one name in a process count together."""

    def forked(self) -> None:
        """In a forked child, whose pid may once have been an ancestor's."""
        self.clear()

    __hash__ = object.__hash__  # type: ignore[assignment]


_made = _Made()
tell_of_forks(_made)


def tokens(directory: str, name: str) -> Tokens:
    """The tokens of the pools of this name, in this very process."""
    plain = re.sub(r"[^\w.-]", "_", name)
    path = os.path.join(os.path.abspath(directory), f"{plain}-{crc32(name.encode()):08x}.tokens")
    return _made.setdefault((os.getpid(), path), Tokens(path))
