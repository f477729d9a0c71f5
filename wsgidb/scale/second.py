"""A request that holds a connection of the primary, as no replica had what it needed, and uses another one beside it.

Each such request holds one connection and waits for another. If all connections of the pool were held by requests that
do so, none would ever come back: the one that would make it so is refused at once.
"""

from __future__ import annotations

from ..errors import PoolOverloaded
from ..lease.proxy import ConnectionProxy
from ..lease.state import slot_of
from ..pool.engine import Engine
from ..strategies import Request, Slot

WAIT = 0.5
"""Seconds for which it waits for the other connection at most. As all others may wait for longer, it is served before
them where a queue is served by deadline: so it soon gives two connections back."""


def acquire_beside(engine: Engine, first: ConnectionProxy | None, request: Request | None) -> Slot:
    """A slot of the primary, whose `engine` this is, for a request that may have one already: that of the lease
    `first`. Blocks as `Engine.acquire` does, and up to `WAIT` if the request has one. Raises DatabaseUnavailable."""
    process = engine.process
    held = None if first is None else slot_of(first)
    if held is None or held.process is not process or not process.store.shared:  # else nobody waits for another's
        return engine.acquire(request)
    mine = object()
    process.asking_for_second[mine] = None  # before it is counted: of several at once, the last one sees them all
    try:
        size = engine.settings.pool_size
        if len(process.asking_for_second) >= size:
            error = PoolOverloaded(
                "no replica has what this request needs, so it reads from the primary, and needs a second connection "
                f"to use db.primary; requests that do so hold all connections: {size}"
            )
            raise engine.refusal(error, request, engine.clock())
        return engine.acquire(request, engine.clock() + WAIT)
    finally:
        del process.asking_for_second[mine]
