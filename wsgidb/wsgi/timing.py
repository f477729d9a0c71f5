"""The header Server-Timing (option server_timing): how long a request waited for its connection, and for statements.

https://www.w3.org/TR/server-timing/
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ..lease.proxy import ConnectionProxy
from ..lease.state import executed, first_use_of, slot_of
from ..strategies import Request, Slot
from .exchange import HeldExchange, StartResponse, Write


class ServerTiming:
    """In place of the server's start_response: adds the header, with what is known by then. A request that has not used
    its connection yet with acquire=first-use gets none."""

    def __init__(self, server: StartResponse, clock: Callable[[], float]) -> None:
        self._server = server
        self._clock = clock
        self._conn: ConnectionProxy | None = None
        self._asked: float | None = None  # when the request asked for its connection
        self._waited: float | None = None  # how long it waited, if it has got one
        self._before = 0.0  # how long that connection had executed statements until then
        self._executed: float | None = None  # and until the request was about to be settled
        self._settling: float | None = None  # when that was, if it is committed

    def lease(self, lease: Callable[[Request], ConnectionProxy], request: Request) -> ConnectionProxy:
        """Call what makes the request's lease. Blocks and raises as that does."""
        self._asked = self._clock()
        conn = self._conn = lease(request)
        first = first_use_of(conn)
        if first is not None:
            self._asked = None
            first.acquire = partial(self._acquire, first.acquire or first.engine.acquire)
        else:
            self._begin(slot_of(conn))
        return conn

    def _acquire(self, acquire: Callable[[Request | None], Slot], request: Request | None) -> Slot:
        """Acquire at the first use."""
        self._asked = self._clock()
        slot = acquire(request)
        self._begin(slot)
        return slot

    def _begin(self, slot: Slot | None) -> None:
        assert slot is not None, "the lease has just been made"
        assert self._asked is not None, "a slot is asked for"
        self._waited = self._clock() - self._asked
        self._before = slot.activity.seconds

    def settle(self, commits: bool) -> None:
        """Note that the request is about to be settled: from then on its connection may be another request's."""
        assert self._conn is not None, "there is a lease"
        self._executed = executed(self._conn)
        self._settling = self._clock() if commits else None

    def __call__(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Write:
        value = self._value()
        if value:
            headers = [*headers, ("Server-Timing", value)]
        if exc_info is None:
            return self._server(status, headers)
        try:
            return self._server(status, headers, exc_info)
        finally:
            exc_info = None  # PEP 3333: the traceback must not keep this frame alive

    def _value(self) -> str:
        if self._asked is None:
            return ""
        now = self._clock()
        if self._waited is None:
            return f"db-wait;dur={_milliseconds(now - self._asked)}"
        wait = f"db-wait;dur={_milliseconds(self._waited)}"
        assert self._conn is not None, "there is a lease"
        until = self._executed if self._executed is not None else executed(self._conn)
        if until is None:
            return wait
        committing = now - self._settling if self._settling is not None else 0.0
        return f"db;dur={_milliseconds(until - self._before + committing)}, {wait}"


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3f}"


class TimedExchange(HeldExchange):
    """A response that is held back, and whose head has the header Server-Timing."""

    __slots__ = ()
    server: ServerTiming

    def complete(self) -> None:
        """Settle the lease as without the header. The time that the commit takes counts as executing."""
        self.server.settle(self.commits)
        super().complete()
