"""The connection that a handler sees: a thin proxy over the driver's own, for the time of one lease.

Two attributes are its state. ``_wsgidb_raw`` is the driver's connection while the handler may use it. ``_wsgidb_slot``
is what has to go back to the engine, or a `FirstUse` as long as nothing was acquired. ``_wsgidb_executed`` is set where
the handler has given its connection back early: see `executed`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import FunctionType
from typing import Any

from ..drivers.activity import RETURNED
from ..drivers.base import MISSING
from ..drivers.tracing import is_method_of, untraced
from ..errors import ConnectionReturned
from ..pool.engine import Engine
from ..strategies import Request, Slot


class ConnectionProxy:
    """The driver's connection, on loan. Every attribute is the driver's, but for these:

    ``close()`` gives the connection back early, rolling back what is not committed; ``with`` does what the driver's
    does, but never closes the driver's connection; ``driver_connection`` is that connection, outside of all
    guarantees. After the lease every use raises ConnectionReturned. Only closing it again is harmless, and asking
    whether it is closed.

    Whatever is called here enters the connection's record first (`Activity.enter`), so that no call of this lease can
    reach the connection once the lease has ended, in whatever thread.
    """

    __slots__ = ("__weakref__", "_wsgidb_executed", "_wsgidb_raw", "_wsgidb_slot")
    _wsgidb_executed: Any
    _wsgidb_raw: Any
    _wsgidb_slot: Any

    def __getattr__(self, name: str) -> Any:
        if name == "_wsgidb_raw":
            return _raw_of(self)
        raw = self._wsgidb_raw
        found = call(self, getattr, raw, name)
        return partial(call, self, found) if is_method_of(found, raw) else found

    def __setattr__(self, name: str, value: Any) -> None:
        call(self, _set, self, name, value)

    def __delattr__(self, name: str) -> None:
        call(self, _delete, self, name)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor of the driver's, whose ``connection`` is this lease."""
        raw = self._wsgidb_raw
        slot = self._wsgidb_slot
        seen = slot.activity
        seen.users.append(self)  # as `call` does it, with two calls less
        try:
            if seen.lease is not self:
                raise seen.refusal()
            cursor = own = slot.engine.driver.adopt(slot.maker.cursor(*args, **kwargs), self)
            if slot.maker is not raw:
                own = untraced(cursor)
            slot.cursors[id(own)] = weakref.ref(own)  # an id is used again, so a thousand cursors do not add up
            return cursor
        finally:
            seen.users.remove(self)
            if seen.closing:
                seen.close_if_unused()

    def close(self) -> None:
        """Give the connection back now; what is not committed is rolled back.

        Where the request is one transaction only this proxy ends, and the lease is settled with the request."""
        engine = engine_of(self)
        if engine is None:
            return
        if engine.commits:
            slot = slot_of(self)
            _cancel_first_use(slot)
            with suppress(AttributeError):  # never acquired, or closed before
                _drop_raw(self)  # the slot still has to be settled
                slot.activity.end_lease()
        else:
            _set_executed(self, executed(self))
            settle(self, success=True)

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection. wsgidb guarantees nothing for what is done with it."""
        return self._wsgidb_raw

    def __enter__(self) -> ConnectionProxy:
        _special(self, "__enter__")
        return self

    def __exit__(self, *error: Any) -> Any:
        return _special(self, "__exit__", *error)

    @property  # type: ignore[misc]  # isinstance() sees the driver's class
    def __class__(self) -> Any:
        pending = slot_of(self)
        if type(pending) is FirstUse:  # to look at it is no use of it
            known = pending.engine.driver.connection_class
            return type(self) if known is object else known
        try:
            return self._wsgidb_raw.__class__
        except ConnectionReturned:
            return type(self)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._wsgidb_raw), "driver_connection"})

    def __repr__(self) -> str:
        try:
            return f"<wsgidb connection: {_get_raw(self)!r}>"
        except AttributeError:
            return f"<wsgidb connection: {'not acquired yet' if type(slot_of(self)) is FirstUse else 'returned'}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a leased connection cannot be copied or pickled")


# The states "not acquired yet" and "returned" are attributes that are not set. Reading an attribute that is set takes
# Python's fastest path; one that is not set ends in `ConnectionProxy.__getattr__`, which acquires or refuses. So the
# hot path checks no state, which saves 0.1 µs for each attribute of each statement. Setting, deleting and reading
# without that detour use the slot members directly; deleting is atomic, so that one thread alone ends a lease.
_raw_member, _slot_member = vars(ConnectionProxy)["_wsgidb_raw"], vars(ConnectionProxy)["_wsgidb_slot"]
_set_raw, _drop_raw, _get_raw = _raw_member.__set__, _raw_member.__delete__, _raw_member.__get__
_set_slot, _drop_slot, _get_slot = _slot_member.__set__, _slot_member.__delete__, _slot_member.__get__
_executed_member = vars(ConnectionProxy)["_wsgidb_executed"]
_set_executed, _get_executed = _executed_member.__set__, _executed_member.__get__


_new = object.__new__  # calling a class costs twice as much


class FirstUse:
    """Stands in for the slot until the first use acquires it."""

    acquire: Callable[[Request | None], Slot] | None = None
    """What acquires in place of the engine, where that is timed."""

    def __init__(self, engine: Engine, request: Request | None) -> None:
        self.engine = engine
        self.request = request
        self.over = False
        # Each request has its own: no other request's acquire or release waits for it. Reentrant, as garbage
        # collection during the first use may end the lease.
        self.lock = threading.RLock()


def lease(slot: Slot, cls: type[ConnectionProxy]) -> ConnectionProxy:
    """A lease of an acquired slot."""
    proxy = _new(cls)
    _begin(proxy, slot)
    return proxy


def lazy(engine: Engine, cls: type[ConnectionProxy], request: Request | None) -> ConnectionProxy:
    """A lease that acquires when it is first used, and then may raise DatabaseUnavailable."""
    proxy = _new(cls)
    _set_slot(proxy, FirstUse(engine, request))
    return proxy


def _begin(proxy: ConnectionProxy, slot: Slot) -> None:
    slot.activity.lease = proxy
    _set_slot(proxy, slot)
    _set_raw(proxy, slot.raw)


def call(proxy: ConnectionProxy, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call what uses the connection. Raises ConnectionReturned if the lease is over, DatabaseUnavailable at a first use
    for which there is no connection."""
    proxy._wsgidb_raw  # noqa: B018 - acquires at the first use, and refuses after the lease
    return proxy._wsgidb_slot.activity.call(proxy, function, *args, **kwargs)


def _raw_of(proxy: ConnectionProxy) -> Any:
    """The driver's connection of a lease that has none now: acquired, or refused."""
    pending = slot_of(proxy)
    if type(pending) is FirstUse:
        with pending.lock:
            if slot_of(proxy) is pending and not pending.over:  # else another thread of this request was quicker
                slot = (pending.acquire or pending.engine.acquire)(pending.request)
                if pending.over:  # the lease has ended while it acquired
                    pending.engine.release(slot)
                else:
                    _begin(proxy, slot)
    try:
        return _get_raw(proxy)
    except AttributeError:
        raise ConnectionReturned(RETURNED) from None


def slot_of(proxy: ConnectionProxy) -> Any:
    """The slot of a lease, or its `FirstUse` as long as nothing was acquired; None when the lease is over."""
    try:
        return _get_slot(proxy)
    except AttributeError:
        return None


def executed(proxy: ConnectionProxy) -> float | None:
    """How many seconds the connection of a lease has executed statements until now, earlier leases included, or until
    its handler gave it back early. None where nothing was acquired, or the lease was settled."""
    slot = slot_of(proxy)
    if slot is not None:
        return None if type(slot) is FirstUse else slot.activity.seconds
    try:
        return _get_executed(proxy)  # type: ignore[no-any-return]
    except AttributeError:
        return None


def engine_of(proxy: ConnectionProxy) -> Engine | None:
    """The engine of a lease; None when the lease is over."""
    slot = slot_of(proxy)
    return None if slot is None else slot.engine


def settle(proxy: ConnectionProxy, success: bool) -> None:
    """End the lease: with transaction=request commit it if it is a `success`; roll back what is not committed.

    Of several threads exactly one does it, and it may be repeated. Raises what a failed commit raises. The connection
    is back in every case."""
    try:
        slot = _get_slot(proxy)
        if type(slot) is FirstUse:
            _cancel_first_use(slot)
            slot = _get_slot(proxy)
        _drop_slot(proxy)  # atomic: only one thread gets past it
    except AttributeError:
        return
    try:
        _drop_raw(proxy)
    except AttributeError:  # never acquired, or closed before
        if type(slot) is FirstUse:
            return
    engine: Engine = slot.engine
    if not (success and engine.commits):
        return engine.release(slot, not success)
    try:
        engine.commit(slot)
    except BaseException:
        engine.release(slot, rollback_expected=True)
        raise
    engine.release_committed(slot)


def interrupt(proxy: ConnectionProxy, error: BaseException | None) -> None:
    """End the lease without success, because of `error` if there is one.

    An error that is no Exception may have interrupted a statement: then the connection is discarded. Closing a
    generator (GeneratorExit) interrupts nothing."""
    if error is not None and not isinstance(error, (Exception, GeneratorExit)):
        slot = slot_of(proxy)
        if slot is not None and type(slot) is not FirstUse:
            slot.fault = "interrupted"
    settle(proxy, success=False)


def adopted(proxy: ConnectionProxy, cursor: Any) -> Any:
    """A cursor of the driver's as one of the lease's, which ends with the lease. To be called within `call`, so that a
    lease that ends meanwhile is known to have been in use."""
    slot = proxy._wsgidb_slot
    cursor = slot.engine.driver.adopt(cursor, proxy)
    slot.cursors[id(cursor)] = weakref.ref(cursor)
    return cursor


def _cancel_first_use(pending: Any) -> None:
    """Let no first use begin any more; one that is under way ends before this returns."""
    if type(pending) is FirstUse:
        with pending.lock:
            pending.over = True


def _set(proxy: ConnectionProxy, name: str, value: Any) -> None:
    raw = proxy._wsgidb_raw
    before = getattr(raw, name, MISSING)
    setattr(raw, name, value)  # where the driver refuses, nothing has to be put back
    remember(proxy._wsgidb_slot, name, before)


def _delete(proxy: ConnectionProxy, name: str) -> None:
    raw = proxy._wsgidb_raw
    before = getattr(raw, name, MISSING)
    delattr(raw, name)
    remember(proxy._wsgidb_slot, name, before)


def remember(slot: Slot, name: str, before: Any) -> None:
    """Note what an attribute was before the lease first changed it."""
    if slot.undo is None:
        slot.undo = {}
    slot.undo.setdefault(name, before)


def _special(proxy: ConnectionProxy, name: str, *args: Any) -> Any:
    """The driver's own ``with``. If its method is written in Python, its ``self.close()`` is the lease's."""
    raw = untraced(proxy._wsgidb_raw)
    method = getattr(type(raw), name)
    if isinstance(method, FunctionType):
        return method(proxy, *args)
    return call(proxy, getattr(raw, name), *args)
