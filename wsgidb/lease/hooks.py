"""The option on_lease: what the application does at the beginning of each request's lease, and at its end.

The hook gets the connection under an identity of its own, which is the connection's present lease only while the hook
runs. So a thread that the hook, or the request, has left behind is refused while the other half runs, as it is after
the lease. The second half is part of cleaning the session: whatever ends a lease either runs it, or discards the
connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator
from types import GeneratorType
from typing import Any

from ..errors import WsgiDBError
from ..strategies import Slot
from ..strategies.base import ON_LEASE
from .classes import ProxyClasses
from .proxy import ConnectionProxy, interrupt
from .state import begin, new

log = logging.getLogger("wsgidb")


class LeaseHook:
    """Calls the on_lease of one middleware."""

    def __init__(self, function: Callable[[Any, dict[str, Any]], Any], proxies: ProxyClasses) -> None:
        self._function = function
        self._proxies = proxies
        self._classes: dict[type[ConnectionProxy], type[ConnectionProxy]] = {}

    def begin(self, conn: ConnectionProxy, slot: Slot, environ: dict[str, Any]) -> None:
        """Run the first half for a lease that has just begun. Each statement may block up to ping_timeout.

        Raises what the hook raises; then the lease is over."""
        try:
            self.run(slot, environ)
        except BaseException as error:
            interrupt(conn, error)
            raise
        slot.activity.lease = conn

    def run(self, slot: Slot, environ: dict[str, Any]) -> None:
        """Run the first half, and note the second one in the slot. Raises what the hook raises."""
        engine = slot.engine
        own = begin(new(self._class_for(slot.raw)), slot)
        try:
            with engine.driver.limited(slot.raw, engine.clock() + engine.settings.ping_timeout):
                made = self._function(own, environ)
                ending = None if made is None else _begun(made)
        finally:
            left = slot.activity.end_lease()
        if ending is not None:
            slot.undo = {**(slot.undo or {}), ON_LEASE: Ending(own, ending)}
        if left:
            slot.fault = "in the middle of a statement"
            raise WsgiDBError(
                "on_lease has returned while a thread of its own was using the connection", entry="on-lease"
            )

    def _class_for(self, raw: Any) -> type[ConnectionProxy]:
        cls = self._proxies[type(raw)]
        found = self._classes.get(cls)
        if found is None:
            found = self._classes[cls] = type(cls.__name__, (cls,), {"__slots__": (), "close": _keep})
        return found


def _keep(_conn: Any) -> None:
    """close() does nothing in a hook: the connection is the request's."""


def _begun(made: Any) -> Generator[Any, None, None] | None:
    """Run a generator up to its yield. None if it ends before that."""
    if not isinstance(made, GeneratorType):
        raise WsgiDBError(
            f"on_lease takes a function, or a generator function; it has returned {type(made).__name__}",
            entry="on-lease",
        )
    try:
        next(made)
    except StopIteration:
        return None
    return made


class Ending:
    """The second half of on_lease for one lease."""

    def __init__(self, own: ConnectionProxy, generator: Generator[Any, None, None]) -> None:
        self._own = own
        self._generator = generator

    def run(self, slot: Slot, deadline: float) -> None:
        """Run it on a session that is clean, and commit. May block until the deadline. Any exception means that the
        connection must be discarded."""
        seen = slot.activity
        seen.lease = self._own
        try:
            slot.engine.driver.run_hook(slot.raw, self._step, deadline)
        finally:
            left = seen.end_lease()
        if left:
            raise WsgiDBError(
                "on_lease has returned while a thread of its own was using the connection", entry="on-lease"
            )

    def _step(self) -> None:
        try:
            next(self._generator)
        except StopIteration:
            return
        raise WsgiDBError("on_lease has yielded more than once", entry="on-lease")

    def close(self) -> None:
        """Let the generator end without its second half, if that was not run: the connection is discarded. What it
        raises is logged."""
        try:
            self._generator.close()
        except Exception:
            log.exception("on_lease has failed at the end of a lease whose connection is discarded")
