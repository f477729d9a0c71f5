"""Drains that are asked for on the board: by ``python -m wsgidb drain``, for the processes that have connections then.

One file has the latest of them. A process that begins later has nothing to replace, and ignores what it finds there.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from dataclasses import asdict, dataclass, replace
from secrets import token_hex
from time import monotonic, time_ns

from ..pool.renewal import SECONDS
from .board import LOCK, leave_to_owner, locked

log = logging.getLogger("wsgidb")

FILE = "drains"
KEPT = 20
"""How many drains the file has at most. A process that looks once a second misses none."""


@dataclass(frozen=True)
class Asked:
    """A drain that somebody has asked for."""

    id: str
    """What no other one has."""
    name: str | None
    """The name of the pool; None for all pools."""
    over: float
    """Within how many seconds the connections are to be replaced."""
    at: float
    """When it was asked for, in monotonic seconds, which are the same in all processes."""

    @property
    def ago(self) -> float:
        """How many seconds ago that was."""
        return max(0.0, monotonic() - self.at)


def ask(directory: str, name: str | None, over: float) -> None:
    """Ask all processes of a board to drain the pools of this name, or all pools. Blocks for the files only. Raises
    OSError."""
    path = os.path.join(directory, FILE)
    with locked(os.path.join(directory, LOCK)):
        try:
            earlier = _read(path)
        except (ValueError, TypeError):
            earlier = []  # of another version, say; the file is made anew
        asked = [*earlier, Asked(token_hex(8), name, over, monotonic())]
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with open(os.open(f"{path}.new", flags, 0o600), "wb") as file:
            leave_to_owner(file.fileno(), directory)
            file.write(json.dumps([asdict(each) for each in asked[-KEPT:]]).encode())
        # The file before the last one has left its inode, which this one may have got; and the system's own stamp stays
        # the same for up to 10 ms (before Linux 6.13). So the reader might take this file for one that it has read.
        now = time_ns()
        os.utime(f"{path}.new", ns=(now, now))
        os.replace(f"{path}.new", path)


def _read(path: str) -> list[Asked]:
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except FileNotFoundError:
        return []
    with open(file, "rb") as opened:
        told = [Asked(**each) for each in json.loads(opened.read())]
    return [replace(each, over=SECONDS(each.over), at=float(each.at)) for each in told]


class Reader:
    """What one process has seen of the drains on its board."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._path = os.path.join(directory, FILE)
        self._busy = threading.Lock()
        self._state = (0, 0)  # by which the file is known to be another one
        self._seen: set[str] = set()
        self._warned = False
        self.new()

    def new(self) -> list[Asked]:
        """Those that nobody in this process has seen. One call of the operating system if there is none. Returns
        nothing while another thread looks. Never blocks on a lock, and never raises an Exception."""
        if not self._busy.acquire(blocking=False):
            return []
        try:
            found = os.stat(self._path)
            state = (found.st_ino, found.st_mtime_ns)
            if state == self._state:
                return []
            self._state = state
            asked = _read(self._path)
            unseen = [each for each in asked if each.id not in self._seen]
            self._seen = {each.id for each in asked}
            self._warned = False
            return unseen
        except (FileNotFoundError, NotADirectoryError):  # writing the row tells of the latter
            return []
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the board, requests go on
            if not self._warned:
                log.warning("board: %s cannot be read: %s: %s", self._directory, type(error).__name__, error)
            self._warned = True
            return []
        finally:
            self._busy.release()
