"""What a forked child inherits: the connections of its parent, idle and leased ones, which it must not touch.

If the child used such a connection, its statements would run in the parent's session, and both would read each other's
replies. If it closed one, the parent's session would end. Both show in the pid, at the next acquire or release. But a
child may also do neither, and just end: then the interpreter's exit destroys whatever it finds, and a driver written in
C says goodbye to the server, or deletes the journal of a transaction that the parent has open in SQLite.
"""

from __future__ import annotations

import os
from typing import Any
from weakref import WeakSet

NOBODY = 0
"""The pid of no process."""

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

    This is an addition to comparing pids, as not every server runs Python's fork hooks. Those that do not, fork between
    requests. It costs nothing while there is no fork."""
    _told.add(owner)


def _in_child() -> None:
    for owner in list(_told):
        owner.forked()


os.register_at_fork(after_in_child=_in_child)
