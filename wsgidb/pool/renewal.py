"""Connections that are opened, closed or replaced because the application asks for it, and not a request.

    drain ── process.drain = Drain ─ each open slot gets an earlier `expires` ─ validate, release and the store see it
    warm ─── store.claim ── connector.open ── store.put
    trim ─── store.take_idle ── connector.retire ── store.put

A drain takes no lock and touches no connection, so that a signal handler can ask for it in whatever line the
interrupted thread is. It replaces the process's `drain` first, and looks for open slots then. Connecting reads `drain`
first, and adds its slot to those that are open before it compares. So each connection that began to connect before the
drain is seen by one of them.

The slot of a leased connection has an owner, who sets the same attributes. The drain sets `expires` before
`good_until`, and release does the opposite; so one of them sees what the other one has set. A slot that gets another
connection at that very moment may be marked, too: such a connection belongs to the present drain, and is kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import random
from typing import Any

from ..config.option import YEAR
from ..config.values import Parser, number, quoted
from ..errors import ConfigError, DatabaseUnavailable
from ..strategies import Slot

SECONDS = number(least=0, most=YEAR)
COUNT = number(least=0, most=100_000, whole=True)


class Drain:
    """A moment after which the connections that are open are replaced, within so many seconds."""

    def __init__(self, at: float, over: float) -> None:
        self._at = at
        self._over = over
        self._closed = 0  # how many of them were closed

    def mark(self, slot: Slot, share: float) -> None:
        """Have a connection replaced after this share of the time."""
        slot.expires = min(slot.expires, self._at + self._over * share)
        slot.good_until = 0.0

    def ended(self, left: Iterable[Slot]) -> int | None:
        """Count a connection from before that is closed now. Returns how many there were, if none is left. The caller
        holds the process's lock."""
        self._closed += 1
        return None if any(slot.drain is not self for slot in left) else self._closed


def drain(engine: Any, over: float, ago: float = 0.0) -> int:
    """Replace the connections that are open, at moments that are spread over so many seconds. It was asked for `ago`
    seconds ago. Returns how many there are. Never blocks, and takes no lock. Raises ConfigError."""
    over = _checked("over", over, SECONDS)
    process = engine._process
    if not process.mark[0] or engine.settings.shares_engine:
        return 0  # a forked child has none yet; those of an Engine are the Engine's
    process.drain = order = Drain(engine.clock() - ago, over)
    slots = [slot for slot in list(process.open) if slot.drain is not order]
    # The pool looks at the one that was not used for the longest time, so that one is the first to go.
    slots.sort(key=lambda slot: (slot.since is not None, slot.used))
    for place, slot in enumerate(slots):
        order.mark(slot, (place + random()) / len(slots))
    process.note("drain", f"connections to be replaced within {over:g} s: {len(slots)}")
    return len(slots)


def warm(engine: Any, most: int) -> int:
    """Open idle connections until so many are open. Returns how many are. See `Database.warm`."""
    most = _checked("n", most, COUNT)
    process, settings = engine.process, engine.settings
    deadline = engine.clock() + settings.acquire_timeout
    for _ in range(most):
        if engine.clock() >= deadline or (process.store.shared and len(process.open) >= most):
            break
        slot = process.store.claim()
        if slot is None:
            if process.backoff.holds():
                raise process.backoff.refusal()
            break
        try:
            engine.open(slot, process, engine.clock() + settings.acquire_timeout)
        except DatabaseUnavailable:
            process.store.put(slot)
            raise
        except BaseException:
            engine.discard(process, slot, "interrupted")
            raise
        _put_back(engine, process, slot)
    return len(process.open)


def trim(engine: Any, keep: int) -> int:
    """Close idle connections, except for so many. Returns how many were closed. See `Database.trim`."""
    keep = _checked("keep", keep, COUNT)
    process = engine.process
    slots = process.store.take_idle(keep)
    closed = 0
    try:
        while slots:
            engine.retire(process, slots.pop(), "trimmed")
            closed += 1
    finally:  # if it was interrupted
        for slot in slots:
            _put_back(engine, process, slot)
    return closed


def _checked(name: str, value: Any, takes: Parser) -> Any:
    try:
        return takes(value)
    except ValueError:
        raise ConfigError(f"{name}: takes {takes.takes}{quoted(value)}") from None


def _put_back(engine: Any, process: Any, slot: Slot) -> None:
    unwanted = process.store.put(slot)
    if unwanted is not None:
        engine.retire(process, *unwanted)
