"""Slots, and the contract of a store, which keeps slots between requests.

A store does no I/O, so that no lock is ever held during I/O. It decides, and returns what has to be done; the engine
does it.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from math import inf
from typing import Any, ClassVar

from ..config.settings import Settings
from ..errors import ConfigError, DatabaseUnavailable

CLOSED = "the Database is closed"

LOOK_EVERY = 1.0
"""Seconds between two looks at all idle connections, where the one that was not used for the longest time is not known
at once."""

ON_LEASE = "on_lease()"
"""The key in `Slot.undo` of what ends on_lease. No attribute has this name."""

Request = tuple[str, str, str]
"""A request's method, SCRIPT_NAME and PATH_INFO. The environ itself is not kept, as a leaked lease would keep
everything in it alive."""


def named(request: Request | None) -> str:
    """How log lines call the holder of a lease."""
    if request is None:
        return "outside of a request"
    return printable("{} {}{}".format(*request))


def printable(text: str) -> str:
    """The text with control characters escaped. A client can put anything into a path, such as a line's end that would
    forge a line of the log."""
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


class Slot:
    """A place for one connection to the database, and what is known about that connection.

    Times are seconds on the engine's clock. Whoever took the slot from its store owns it until putting it back. Others
    may only set `fault`, and `expires` and `good_until` to earlier times.
    """

    __slots__ = (
        "activity",  # the driver's record of what the connection does
        "born",  # when connecting began
        "busy",  # how many seconds the connection was leased, without the present lease
        "check",  # the free check of the connection
        "cursors",  # weak references to the cursors of the present lease, by id
        "drain",  # the latest drain of the pool when connecting began, or None
        "durations",  # how long the leases of this connection lasted, as counts by bucket, or None
        "engine",  # the engine that put the connection there
        "expires",  # when the connection is to be replaced, as it is too old by then or the pool is drained
        "fault",  # why the connection must not be kept, or None
        "good_until",  # when the free check alone stops being enough
        "handle",  # whatever the store wants to remember
        "maker",  # the object that makes the cursors: the connection, or a tracing tool's wrapper around it
        "old_at",  # when the connection is too old
        "process",  # the state of the process that opened the connection
        "raw",  # the driver's connection, or None
        "request",  # the request that has the present lease, or None
        "seen",  # how many statements were run when the last lease ended
        "server",  # which server the connection leads to, where that has been asked for
        "since",  # when the present lease began, or None
        "thread",  # the thread that acquired the present lease
        "undo",  # the attributes that the present lease has changed, with their former values; and the end of on_lease
        "used",  # when the last lease ended
        "uses",  # how many leases there were, without the present one
    )

    def __init__(self) -> None:
        self.handle: Any = None
        self.raw: Any = None
        self.good_until = 0.0

    def fill(self, raw: Any, engine: Any, process: Any, *, drain: Any, born: float, now: float, expires: float) -> None:
        """Reset for a new connection. `raw` is set last, so that an interrupted call leaves the slot empty."""
        self.engine, self.process, self.drain = engine, process, drain
        self.check = engine.driver.watch(raw)
        self.activity = engine.driver.activity(raw)
        self.maker = engine.driver.traced(raw)
        self.activity.classify = engine.classify
        self.born, self.used, self.expires, self.old_at = born, now, expires, expires
        self.good_until = self.busy = 0.0
        self.uses = self.seen = 0
        self.durations: list[int] | None = engine.new_durations()
        self.request: Request | None = None
        self.since: float | None = None
        self.thread = 0
        self.fault: str | None = None
        self.server: str | None = None
        self.undo: dict[str, Any] | None = None
        self.cursors: dict[int, Any] = {}
        self.raw = raw

    def outlived(self, now: float) -> str | None:
        """Why the connection is to be replaced at the time `now`, or None. The slot has a connection."""
        if now < self.expires:
            return None
        if now >= self.old_at:
            return "age"
        return "drained" if self.process.drains(self) else None


class Store(ABC):
    """Keeps the slots of one process. All methods may be called from any thread. Only `wait` may block."""

    takes_args: ClassVar[bool] = False
    """Whether the store takes strategy_args. If not, giving them is a ConfigError."""
    shared: ClassVar[bool] = False
    """Whether a connection that one thread puts back may be given to another thread."""
    closed = False

    def __init__(
        self,
        settings: Settings,
        held_until: Callable[[], float],
        lost: Callable[[Slot], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`held_until` returns the time until which no connection can be opened, if one that is open may come back
        meanwhile; else 0. `lost` must be called with each slot that the store drops by itself, for example because
        its thread ended. Raises ConfigError."""
        if settings.strategy_args and not self.takes_args:
            raise ConfigError(
                f"strategy_args: strategy {settings.strategy_name} takes none", entry="config-contradiction"
            )
        self._settings = settings
        self._held_until = held_until
        self._lost = lost
        self._clock = clock
        self._max_idle = inf if settings.max_idle is None else settings.max_idle
        self._look_at = 0.0  # when all idle connections are to be looked at
        self._setup()

    def _setup(self) -> None:
        """Create the state of the store."""

    @abstractmethod
    def take(self) -> Slot | None:
        """Take a slot, with a connection or empty. Returns None if the caller has to `wait`. Never blocks.

        Raises DatabaseUnavailable if the store is closed."""

    def wait(self, deadline: float) -> Slot:
        """Wait for a slot and take it. Callers are served in the order in which they came. Blocks up to the deadline.

        Raises PoolTimeout at the deadline, PoolOverloaded if too many are waiting, and DatabaseUnavailable if the
        store is closed, or is closed meanwhile. The text of a PoolOverloaded begins with the reason."""
        raise NotImplementedError("this store's take() always has a slot")

    @abstractmethod
    def put(self, slot: Slot) -> tuple[Slot, str] | None:
        """Put a slot back. An empty one makes its place free for another connection. Never blocks.

        May return a slot together with a reason: then the caller must close that slot's connection, and put the slot
        again, empty."""

    @abstractmethod
    def close(self) -> list[Slot]:
        """Hand out no more slots, and fail waiting callers. Returns the idle slots, whose connections the caller must
        close. Never blocks."""

    def claim(self) -> Slot | None:
        """An empty slot for a connection that is opened before anybody needs it. Returns None if there is no place for
        one, or if the store keeps no idle connections. Never blocks. Raises DatabaseUnavailable if the store is
        closed."""
        return None

    def take_idle(self, keep: int) -> list[Slot]:
        """Take the idle slots with a connection, except for `keep` of them: those that were used last stay. The caller
        closes their connections and puts them back. Never blocks."""
        return []

    def wake(self) -> None:
        """Let waiting callers look at once whether a connection can be opened: after an outage it can. Never blocks."""

    @property
    def waiting(self) -> int:
        """How many callers are waiting now."""
        return 0

    def _unwanted(self, slot: Slot, now: float) -> str | None:
        """Why an idle connection is not to be kept any longer at the time `now`, or None."""
        return slot.outlived(now) or ("unused" if now >= slot.used + self._max_idle else None)

    def _refuse_closed(self) -> None:
        if self.closed:
            raise DatabaseUnavailable(CLOSED, entry="database-closed")
