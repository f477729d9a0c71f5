"""What a forked child inherits: the connections of its parent, idle and leased ones, which it must not touch.

If the child used such a connection, its statements would run in the parent's session, and both would read each other's
replies. If it closed one, the parent's session would end. Both show in the mark, at the next acquire or release. But a
child may also do neither, and just end: then the interpreter's exit destroys whatever it finds, and a driver written in
C says goodbye to the server, or deletes the journal of a transaction that the parent has open in SQLite.
"""

from __future__ import annotations

import os
from os import getpid
from typing import Any, Final
from weakref import WeakSet

NOBODY = 0
"""The pid of no process."""

LEFT: Final = b"\0"
"""In place of the mark of a process that was left to a parent."""

MADV_WIPEONFORK = 18
"""The advice of Linux 4.14 and later, which Python's mmap does not name."""


def new_mark() -> Any:
    """Make a mark for this process: its first item is true here, and false in each forked child.

    It is a page of memory that the kernel clears in every child, whoever forks it and whether or not Python is told. So
    looking at it takes no system call: with getpid(), it took two for each request. Elsewhere the pid tells."""
    return _page() or _Pid()


def _page() -> Any:
    """A page that is cleared in every child; None where the system has none."""
    try:
        import mmap

        page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        page.madvise(MADV_WIPEONFORK)
    except (ImportError, AttributeError, OSError, ValueError):
        return None
    page[0] = 1
    return page


class _Pid:
    """A mark that compares pids."""

    def __init__(self) -> None:
        self._pid = getpid()

    def __getitem__(self, _: int) -> bool:
        return self._pid == getpid()


_told: WeakSet[Any] = WeakSet()
_kept: list[Any] = []


def keep_for_ever(kept: Any) -> None:
    """Never destroy an object, nor what it refers to, not even when the interpreter exits.

    Exit clears all modules, so that a list alone is not enough. A reference that nobody gives up is; where Python was
    built without ctypes there is none."""
    _kept.append(kept)
    try:
        from ctypes import py_object, pythonapi
    except ImportError:
        return
    pythonapi.Py_IncRef(py_object(kept))


def tell_of_forks(owner: Any) -> None:
    """Call the `forked()` of an owner of connections in each forked child, before anything else runs there.

    This is an addition to the mark, as not every server runs Python's fork hooks. Those that do not, fork between
    requests. It costs nothing while there is no fork."""
    _told.add(owner)


def _in_child() -> None:
    for owner in list(_told):
        owner.forked()


os.register_at_fork(after_in_child=_in_child)
