"""All state of one Database that belongs to one process."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any

from ..config.settings import Settings
from ..strategies import Slot, Store, store_class
from .backoff import Backoff


@dataclass
class Totals:
    """What was counted so far. `leases` and the fields below it count closed connections only: for open ones their
    slots do."""

    connects: int = 0
    connect_failures: int = 0
    waits: int = 0
    seconds_waited: float = 0.0
    timeouts: int = 0
    refusals: int = 0
    checks_failed: int = 0
    pings: int = 0
    pings_failed: int = 0
    discards: Counter[str] = field(default_factory=Counter)
    retirements: Counter[str] = field(default_factory=Counter)
    leases: int = 0
    seconds_open: float = 0.0
    seconds_leased: float = 0.0
    statements: int = 0
    seconds_executing: float = 0.0


class Process:
    """Made anew by a forked child, which keeps its parent's alive and untouched for ever: to close a connection,
    even by garbage collection, could end the parent's session on the server."""

    def __init__(
        self,
        settings: Settings,
        lost: Callable[[Process, Slot], None],
        clock: Callable[[], float],
    ) -> None:
        self.pid = os.getpid()
        # `lock` guards `open`, `totals`, `backoff` and who sets `unanswered`. Nothing that may block happens under it.
        # Reentrant, as garbage collection may take a connection back in the middle of it.
        self.lock = threading.RLock()
        self.open: set[Slot] = set()  # the slots with a connection
        self.totals = Totals()
        self.backoff = Backoff(clock)
        self.unanswered = -inf  # when the latest ping began that nobody answered for all of ping_timeout
        self.held: dict[Slot, Any] = {}  # with leak_after: leases and who has them; each step on it is atomic
        self.store: Store = store_class(settings)(settings, self.held_until, partial(lost, self), clock)

    def held_until(self) -> float:
        """Until when no connection can be opened, while one that is open may come back; else 0."""
        return self.backoff.held_until() if self.open else 0.0
