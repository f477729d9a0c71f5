"""What is told of an exhausted pool: in the error that a request gets, and in the log."""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from ..errors import PoolTimeout, plain
from ..strategies import Slot, named

QUIET = 10.0
"""Seconds in which an event of one kind is logged only once."""

NAMED = 5
"""How many leases an error names."""


class LogLimit:
    """Decides which of many equal events is logged. Its caller holds a lock."""

    def __init__(self) -> None:
        self._quiet_until = -inf
        self._left_out = 0

    def due(self, now: float) -> str | None:
        """None if this event is not to be logged. Otherwise what the line should end with: how many events were left
        out since the line before."""
        if now < self._quiet_until:
            self._left_out += 1
            return None
        left_out, self._left_out = self._left_out, 0
        self._quiet_until = now + QUIET
        return f" ({left_out} more since the last such line)" if left_out else ""


def describe(
    error: Exception,
    slots: Iterable[Slot],
    shortage: str | None,
    cause: str | None,
    *,
    waited: float,
    now: float,
    thread: int,
) -> str:
    """Why a request of this thread gets no connection, who has them, and which option to look at.

    `error` is the store's, and `slots` are those with a connection. If no other connection can be opened, `shortage`
    or `cause`, the latest failure to connect, tells why."""
    leases = sorted(((slot.since, slot) for slot in slots if slot.since is not None), key=lambda lease: lease[0])
    if isinstance(error, PoolTimeout):
        parts = [f"no connection became free within {waited:.1f} s (acquire_timeout): {plain(error)}"]
    else:
        parts = [plain(error)]
    if leases:
        names = [f"{named(slot.request)} for {now - since:.1f} s" for since, slot in leases[:NAMED]]
        more = f", and {len(leases) - NAMED} more" if len(leases) > NAMED else ""
        parts.append(f"held by {', '.join(names)}{more}")
    if shortage is not None:
        parts.append(shortage)
    elif cause is not None:
        parts.append(f"no other can be opened; last failure to connect: {cause}")
    elif not leases:
        parts.append("none of them is open yet; see connect_timeout and connect_args")
    elif any(slot.thread == thread for _, slot in leases):
        parts.append("this thread holds one of them itself; use that one, or raise pool_size")
    else:
        parts.append("raise pool_size, or set leak_after to see what they do")
    return "; ".join(parts)

