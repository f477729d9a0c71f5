"""A health check of the pool that never waits for a connection that others use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import DatabaseUnavailable


def probe(engine: Any, validate: Callable[..., None], connect: Callable[..., None]) -> bool:
    """What `Engine.probe` does."""
    process, settings = engine.process, engine.settings
    slot = process.store.take()
    if slot is None:
        outage = process.outage()
        if outage is not None:
            raise outage
        return False
    deadline = engine.clock() + max(settings.ping_timeout, settings.connect_timeout)
    try:
        if slot.raw is not None:
            ping = settings.ping_after is None or process.backoff.cause is not None
            validate(slot, deadline, ping)
        if slot.raw is None:
            connect(slot, process, deadline)
    except DatabaseUnavailable:
        process.store.put(slot)
        if process.backoff.cause is not None and process.outage() is None:
            return False  # the server grants fewer connections than the pool may have, and these are in use
        raise
    except BaseException:
        engine.discard(process, slot, "interrupted")
        raise
    unwanted = process.store.put(slot)
    if unwanted is not None:
        engine.retire(process, *unwanted)
    return True
