"""Leases that a forked child inherits: they are refused there.

A connection that is leased at the time of a fork belongs to the parent. If the child used it, its statements would run
in the parent's session, and both would read each other's replies. So in the child no call may begin on it.
"""

from __future__ import annotations

import os
import weakref
from typing import Any

_engines: weakref.WeakSet[Any] = weakref.WeakSet()


def refuse_in_children(engine: Any) -> None:
    """Have the leases of this engine refused in forked children.

    By a fork hook, so that it costs nothing while there is no fork. Only Python code can fork while a lease is in use,
    and Python runs these hooks; a server that forks without them does so between requests."""
    _engines.add(engine)


def _end_leases() -> None:
    for engine in list(_engines):
        engine.end_inherited_leases()


os.register_at_fork(after_in_child=_end_leases)
