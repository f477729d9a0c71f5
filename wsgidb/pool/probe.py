"""Two health checks of the pool: one that waits for a connection as a request does, and one that never does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import DatabaseUnavailable, plain


def check(engine: Any) -> float:
    """What `Database.check` does."""
    slot = engine.acquire()
    try:
        began: float = engine.clock()
        engine.driver.ping(slot.raw, began + engine.settings.ping_timeout)
        return engine.clock() - began  # type: ignore[no-any-return]
    except Exception as error:
        slot.fault = "ping failed"
        kind = type(error).__name__
        raise DatabaseUnavailable(f"ping failed: {kind}: {plain(error)}", entry="ping-failed") from error
    except BaseException:
        slot.fault = "interrupted"
        raise
    finally:
        engine.release(slot)


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
