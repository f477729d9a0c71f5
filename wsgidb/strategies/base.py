"""Slots, and the contract of a store: where slots rest between requests.

A store does no I/O, so that no lock is ever held across any. It decides and tells; the engine acts.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

from ..config.settings import Settings
from ..errors import ConfigError, DatabaseUnavailable

CLOSED = "the Database is closed"

Request = tuple[str, str, str]
"""A request's method, SCRIPT_NAME and PATH_INFO. Not its environ: a leaked lease would keep alive what is in it."""


def named(request: Request | None) -> str:
    """Whose a lease is, for log lines."""
    if request is None:
        return "outside of a request"
    return printable("{} {}{}".format(*request))


def printable(text: str) -> str:
    """The text without anything that could end a line of a log: a client can put whatever it likes into a path."""
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


class Slot:
    """The place of one physical connection, and what is known of it. Times are on the engine's clock, in seconds.

    Whoever took the slot from its store owns it until it is put back; `fault` alone may be set by others.
    """

    __slots__ = (
        "activity",  # the driver's record of what the connection does
        "born",  # when connecting began
        "busy",  # seconds leased, without the present lease
        "check",  # the free check of the connection
        "cursors",  # weak references to the cursors of the present lease, by id
        "engine",  # the engine that put the connection there
        "expires",  # when the connection is too old
        "fault",  # why the connection must not be kept, if so
        "good_until",  # until then the free check alone is enough
        "handle",  # the store's own
        "maker",  # what makes the handlers' cursors: the connection, or a tracing tool's view of it
        "process",  # the state of the process that opened the connection
        "raw",  # the driver's connection, or None
        "request",  # whose the present lease is, if it is a request's
        "since",  # when the present lease began, or None
        "undo",  # attributes that the present lease has changed, with their former values
        "used",  # when the last lease ended
        "uses",  # leases so far, without the present one
    )

    def __init__(self) -> None:
        self.handle: Any = None
        self.raw: Any = None
        self.good_until = 0.0

    def fill(self, raw: Any, engine: Any, process: Any, *, born: float, now: float, expires: float) -> None:
        """Put a new connection into this place; nothing of a former one is true any more. Interrupted in its midst, it
        leaves the place empty."""
        self.engine, self.process = engine, process
        self.check = engine.driver.watch(raw)
        self.activity = engine.driver.activity(raw)
        self.maker = engine.driver.traced(raw)
        self.activity.classify = engine.classify
        self.born, self.used, self.expires = born, now, expires
        self.good_until = self.busy = 0.0
        self.uses = 0
        self.request: Request | None = None
        self.since: float | None = None
        self.fault: str | None = None
        self.undo: dict[str, Any] | None = None
        self.cursors: dict[int, Any] = {}
        self.raw = raw


class Store(ABC):
    """Keeps the slots of one process. All methods may be called from any thread; only `wait` blocks."""

    takes_args: ClassVar[bool] = False
    """Whether it knows strategy_args; else giving them is a ConfigError."""
    shared: ClassVar[bool] = False
    """Whether a connection that one thread puts back may serve a thread that waits."""
    closed = False

    def __init__(
        self,
        settings: Settings,
        held_until: Callable[[], float],
        lost: Callable[[Slot], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`held_until` tells for how long connecting is pointless while a live connection may come back. Raises
        ConfigError. `lost` is to be called with a slot that the store let go of by itself: its thread ended, say."""
        if settings.strategy_args and not self.takes_args:
            raise ConfigError(f"strategy_args: strategy {settings.strategy_name} takes none")
        self._settings = settings
        self._held_until = held_until
        self._lost = lost
        self._clock = clock
        self._setup()

    def _setup(self) -> None:
        """Make the store's own state."""

    @abstractmethod
    def take(self) -> Slot | None:
        """A slot, with a connection or empty; None where one must `wait`. Never waits itself.

        Raises DatabaseUnavailable when closed."""

    def wait(self, deadline: float) -> Slot:
        """A slot as soon as there is one; who came first is served first. Blocks until the deadline.

        Raises PoolTimeout at the deadline, PoolOverloaded at once where too many wait already, DatabaseUnavailable
        when closed, while waiting too."""
        raise NotImplementedError("this store's take() always has a slot")

    @abstractmethod
    def put(self, slot: Slot) -> tuple[Slot, str] | None:
        """Take a slot back. An empty one frees its place for another.

        Returns a slot whose connection the caller must close, with the reason, and then put again, empty."""

    @abstractmethod
    def close(self) -> list[Slot]:
        """Hand out no more slots and fail those who wait. Returns the slots at rest, to be closed by the caller."""

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return 0

    def _refuse_closed(self) -> None:
        if self.closed:
            raise DatabaseUnavailable(CLOSED)
