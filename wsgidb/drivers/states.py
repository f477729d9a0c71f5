"""What the engine and the drivers say to each other: the words of the driver contract."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Final

Clock = Callable[[], float]
Position = dict[str, int]
"""How far a server has come, as the number of the last transaction of each source that replicas apply in order."""
Check = Callable[[int], object]
"""The free check of one connection: called with 0, it is true when the idle socket is readable."""


class State(Enum):
    """What `inspect` finds, unless it finds a reason (a str) to discard the connection."""

    CLEAN = "clean"
    DIRTY = "dirty"


CLEAN: Final = State.CLEAN
"""What `Driver.inspect` returns for a session that has nothing to roll back or clear."""
DIRTY: Final = State.DIRTY
"""What `Driver.inspect` returns for a session that has to be cleaned."""

NOT_WRITABLE: Final = "server read-only or not ready"
"""The reason for which a connection is discarded after an error of `Driver.is_read_only`."""

MISSING: Final = object()
"""Stands for the former value of an attribute that did not exist."""


def silent(_timeout: int) -> object:
    """The free check of a connection that has no socket, or none that is known."""
    return None
