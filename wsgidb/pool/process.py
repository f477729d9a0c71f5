"""All state of one Database that belongs to one process."""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from math import inf
from typing import Any, NamedTuple

from ..config.settings import Settings
from ..drivers.activity import INHERITED, Activity
from ..errors import DatabaseUnavailable
from ..forks import LEFT, NOBODY, keep_for_ever, new_mark
from ..strategies import Request, Slot, Store, store_class
from .backoff import Backoff
from .durations import DurationCounter
from .exhausted import LogLimit

EVENTS = 50
"""How many of the latest events are kept."""


def doubtful(_timeout: int) -> object:
    """In place of the free check of a connection whose server is to be asked whether it is still fit."""
    return True


class Notice(NamedTuple):
    """Something that an operator may want to know of."""

    at: float
    """When it was, on the engine's clock."""
    kind: str
    """discard, outage, recovery, timeout, refusal or drain."""
    text: str
    """What the log says about it."""


class Waiting:
    """A caller that is waiting for a connection."""

    def __init__(self, request: Request | None, thread: int, since: float) -> None:
        self.request, self.thread, self.since = request, thread, since


@dataclass
class Totals:
    """What was counted so far. `leases` and the fields below it count closed connections only: for open ones their
    slots do."""

    connects: int = 0
    connect_failures: int = 0
    timeouts: int = 0
    refusals: int = 0
    checks_failed: int = 0
    pings: int = 0
    pings_failed: int = 0
    lost: int = 0
    rolled_back: int = 0
    retries: int = 0
    discards: Counter[str] = field(default_factory=Counter)
    retirements: Counter[str] = field(default_factory=Counter)
    leases: int = 0
    seconds_open: float = 0.0
    seconds_leased: float = 0.0
    statements: int = 0
    errors: int = 0
    seconds_executing: float = 0.0


class Process:
    """The state of one process. A forked child makes its own, and leaves its parent's alone for ever: if the child
    closed one of those connections, be it by garbage collection, it could end the parent's session on the server."""

    def __init__(
        self,
        settings: Settings,
        lost: Callable[[Process, Slot], None],
        clock: Callable[[], float],
    ) -> None:
        self.pid = os.getpid()
        self.mark = new_mark()  # its item 0 is true in this process, and false in a forked child
        # `lock` guards `open`, `totals`, `backoff`, the log limits, and setting `unanswered` and `doubted`. Nothing
        # that may block happens under it. It is reentrant, as garbage collection may put back a slot while it is held.
        self.lock = threading.RLock()
        self.open: set[Slot] = set()  # the slots that have a connection
        self.totals = Totals()
        # Under `lock`, too: how long it took to get a connection where that was not immediate, how much of this was
        # spent in the queue, how long it took to open connections, and how long leases of closed ones lasted.
        self.waits, self.queued = DurationCounter(), DurationCounter()
        self.creates, self.uses = DurationCounter(), DurationCounter()
        self.events: deque[Notice] = deque(maxlen=EVENTS)  # each step on it is atomic
        self.waiting: dict[Waiting, None] = {}  # likewise; the callers that are waiting, in the order of their arrival
        self.asking_for_second: dict[object, None] = {}  # likewise; callers that hold a connection already
        self._clock = clock
        self.backoff = Backoff(clock)
        self.drain: Any = None  # the latest drain; it is replaced in one step, under no lock
        self.unanswered = -inf  # when the latest ping began that was not answered for all of ping_timeout
        self.doubted = -inf  # when a statement's error last said that its server may have become unfit
        self.exhaustion_log, self.connect_log = LogLimit(), LogLimit()
        self.held: dict[Slot, Any] = {}  # with leak_after: who has each lease; each step on it is atomic
        self.page: Any = None  # with the option board: what writes this process's row
        self.asked: Any = None  # likewise: what reads the drains that were asked for
        self.shortage: str | None = None  # why no other connection may be opened yet, so that requests wait for that
        self.store: Store = store_class(settings)(settings, self.held_until, partial(lost, self), clock)

    def note(self, kind: str, text: str) -> None:
        """Note an event. Never blocks."""
        self.events.append(Notice(self._clock(), kind, text))

    def doubt(self, activity: Activity) -> bool:
        """Let the server of each connection that is open now be asked whether it is still fit, when the connection is
        acquired next. Returns False if this connection, whose error is the reason, was to be asked already: then the
        error says nothing new. Never blocks."""
        with self.lock:
            if any(slot.check is doubtful and slot.activity is activity for slot in self.open):
                return False
            self.doubted = self._clock()
            for slot in self.open:
                slot.check = doubtful
        return True

    def held_until(self) -> float:
        """The time until which no connection can be opened, if one that is open may come back meanwhile; else 0."""
        return self.backoff.held_until() if self.open else 0.0

    def outage(self) -> DatabaseUnavailable | None:
        """The error for what needs a connection while connecting fails. None while it works, and while the server only
        refuses further connections: one that is open was given back since connecting began to fail."""
        with self.lock:
            if self.backoff.cause is None or any(slot.used > self.backoff.began for slot in self.open):
                return None
            return self.backoff.refusal()

    def drains(self, slot: Slot) -> bool:
        """Whether the pool was drained since this connection was opened, and another one can be opened now. As long as
        the server refuses new connections, those that it granted are worth keeping."""
        return slot.drain is not self.drain and not self.backoff.holds()

    # -- forks

    def leave_to_parent(self) -> None:
        """In a forked child: let no call begin on these connections, and never close them.

        The pid and the mark are given up, too: a process that descends from this child may one day get the same pid."""
        if self.pid == NOBODY:
            return
        self.pid, self.mark = NOBODY, LEFT
        slots = list(self.open)
        for slot in slots:
            slot.activity.lease = INHERITED
        if slots:  # some drivers' cursors talk to the server when they are collected, and slots refer to them weakly
            keep_for_ever([slots, [cursor() for slot in slots for cursor in list(slot.cursors.values())]])

    def successor(self, make: Callable[[], Process]) -> Process:
        """In a forked child: its own state, the same for all of its threads."""
        own = vars(self)
        if "_successor" not in own:
            own.setdefault("_successor", make())  # atomic: the first of several threads decides
        found: Process = own["_successor"]
        return found
