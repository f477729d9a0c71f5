"""The connection a handler sees: a thin proxy over the driver's own, for the time of one lease.

Two attributes are all its state. ``_wsgidb_raw`` is the driver's connection while the handler may use it.
``_wsgidb_slot`` is what has to go back to the engine, or a FirstUse. Where one is not set any more, looking it up
ends in `ConnectionProxy.__getattr__`, which acquires or refuses: so what lives pays nothing for the other states.
"""

from __future__ import annotations

import threading
import weakref
from contextlib import suppress
from types import FunctionType
from typing import Any

from ..drivers.base import MISSING
from ..drivers.cursors import RETURNED
from ..errors import ConnectionReturned
from ..pool.engine import Engine
from ..strategies import Request, Slot


class ConnectionProxy:
    """The driver's connection, on loan. Every attribute is the driver's, but for these:

    ``close()`` gives the connection back early, rolling back what is not committed; ``with`` does what the driver's
    does, but never closes the driver's connection; ``driver_connection`` is that connection, outside of all
    guarantees. After the lease every use raises ConnectionReturned; only closing again is harmless.
    """

    __slots__ = ("__weakref__", "_wsgidb_raw", "_wsgidb_slot")
    _wsgidb_raw: Any
    _wsgidb_slot: Any

    def __getattr__(self, name: str) -> Any:
        if name == "_wsgidb_raw":
            return _raw_of(self)
        return getattr(self._wsgidb_raw, name)

    def __setattr__(self, name: str, value: Any) -> None:
        raw = self._wsgidb_raw
        _remember(self._wsgidb_slot, raw, name)
        setattr(raw, name, value)

    def __delattr__(self, name: str) -> None:
        raw = self._wsgidb_raw
        _remember(self._wsgidb_slot, raw, name)
        delattr(raw, name)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor of the driver's, whose ``connection`` is this lease."""
        raw = self._wsgidb_raw
        return adopted(self, raw.cursor(*args, **kwargs))

    def close(self) -> None:
        """Give the connection back now; what is not committed is rolled back. But where the request is one
        transaction, only this proxy ends, and the lease is settled with the request."""
        engine = engine_of(self)
        if engine is None:
            return
        if engine.commits:
            _forgo(_slot_of(self))
            with suppress(AttributeError):  # never acquired, or closed before
                _drop_raw(self)  # the slot still has to be settled
        else:
            settle(self, success=True)

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection. wsgidb cannot answer for what is done with it."""
        return self._wsgidb_raw

    def __enter__(self) -> ConnectionProxy:
        _special(self, "__enter__")
        return self

    def __exit__(self, *error: Any) -> Any:
        return _special(self, "__exit__", *error)

    @property  # type: ignore[misc]  # isinstance() sees the driver's class
    def __class__(self) -> Any:
        try:
            return type(self._wsgidb_raw)
        except ConnectionReturned:
            return type(self)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._wsgidb_raw), "driver_connection"})

    def __repr__(self) -> str:
        try:
            return f"<wsgidb connection: {_get_raw(self)!r}>"
        except AttributeError:
            return f"<wsgidb connection: {'not acquired yet' if type(_slot_of(self)) is FirstUse else 'returned'}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a leased connection cannot be copied or pickled")


_raw_member, _slot_member = vars(ConnectionProxy)["_wsgidb_raw"], vars(ConnectionProxy)["_wsgidb_slot"]
_set_raw, _drop_raw, _get_raw = _raw_member.__set__, _raw_member.__delete__, _raw_member.__get__
_set_slot, _drop_slot, _get_slot = _slot_member.__set__, _slot_member.__delete__, _slot_member.__get__


_new = object.__new__  # a class that is called costs twice as much


class FirstUse:
    """Stands where the slot will be, until the first use acquires it."""

    def __init__(self, engine: Engine, request: Request | None) -> None:
        self.engine = engine
        self.request = request
        self.over = False
        # One request's own: nobody else's acquire or release waits for it. Reentrant, as garbage collection within the
        # first use may end the lease.
        self.lock = threading.RLock()


def lease(slot: Slot, cls: type[ConnectionProxy]) -> ConnectionProxy:
    """A lease of an acquired slot."""
    proxy = _new(cls)
    _set_slot(proxy, slot)
    _set_raw(proxy, slot.raw)
    return proxy


def lazy(engine: Engine, cls: type[ConnectionProxy], request: Request | None) -> ConnectionProxy:
    """A lease that acquires when it is first used, and then may raise DatabaseUnavailable."""
    proxy = _new(cls)
    _set_slot(proxy, FirstUse(engine, request))
    return proxy


def _raw_of(proxy: ConnectionProxy) -> Any:
    """The driver's connection of a lease that has none now: acquired, or refused."""
    pending = _slot_of(proxy)
    if type(pending) is FirstUse:
        with pending.lock:
            if _slot_of(proxy) is pending and not pending.over:  # else another thread of this request was quicker
                slot = pending.engine.acquire()
                if pending.over:  # the lease has ended in its midst
                    pending.engine.release(slot)
                else:
                    slot.request = pending.request
                    _set_slot(proxy, slot)
                    _set_raw(proxy, slot.raw)
    try:
        return _get_raw(proxy)
    except AttributeError:
        raise ConnectionReturned(RETURNED) from None


def _slot_of(proxy: ConnectionProxy) -> Any:
    try:
        return _get_slot(proxy)
    except AttributeError:
        return None


def engine_of(proxy: ConnectionProxy) -> Engine | None:
    """Whose lease it is; None when it is over."""
    slot = _slot_of(proxy)
    return None if slot is None else slot.engine


def settle(proxy: ConnectionProxy, success: bool) -> None:
    """End the lease: where it is to be one transaction, commit it at its `success`; roll back what is not committed.

    Of several threads exactly one does it, and it may be repeated. Raises what a failed commit raises; the
    connection is back in every case."""
    try:
        slot = _get_slot(proxy)
        if type(slot) is FirstUse:
            _forgo(slot)
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
    finally:
        engine.release(slot, rollback_expected=True)


def interrupt(proxy: ConnectionProxy, error: BaseException | None) -> None:
    """End the lease without success, because of `error` if there is one. An error that is no Exception may have come
    in the middle of a statement: then the connection is discarded. A generator that is closed is not."""
    if error is not None and not isinstance(error, (Exception, GeneratorExit)):
        slot = _slot_of(proxy)
        if slot is not None and type(slot) is not FirstUse:
            slot.doomed = "interrupted"
    settle(proxy, success=False)


def adopted(proxy: ConnectionProxy, cursor: Any) -> Any:
    """A cursor of the driver's as one of the lease's, whose end is its end."""
    slot = proxy._wsgidb_slot
    cursor = slot.engine.driver.adopt(cursor, proxy)
    slot.cursors[id(cursor)] = weakref.ref(cursor)  # an id is used again, so a thousand cursors do not add up
    return cursor


def _forgo(pending: Any) -> None:
    """Let a first use come no more; one that is under way comes first."""
    if type(pending) is FirstUse:
        with pending.lock:
            pending.over = True


def _remember(slot: Slot, raw: Any, name: str) -> None:
    """Note what an attribute was before the lease first changed it."""
    if slot.undo is None:
        slot.undo = {}
    slot.undo.setdefault(name, getattr(raw, name, MISSING))


def _special(proxy: ConnectionProxy, name: str, *args: Any) -> Any:
    """The driver's own ``with``: with a method written in Python, its ``self.close()`` is the lease's."""
    raw = proxy._wsgidb_raw
    method = getattr(type(raw), name)
    return method(proxy, *args) if isinstance(method, FunctionType) else getattr(raw, name)(*args)
