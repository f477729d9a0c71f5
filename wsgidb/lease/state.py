"""The state of a lease: not acquired yet, in use, or over.

Three attributes are its state, and each is set only while it applies. ``_wsgidb_slot`` is what has to go back to the
engine. ``_wsgidb_raw`` is the driver's connection while the handler may use it. ``_wsgidb_first`` is a `FirstUse` as
long as nothing was acquired. ``_wsgidb_executed`` is set where the handler has given its connection back early: see
`executed`. ``_wsgidb_written`` is set where somebody wants to know what the lease has written.

Reading an attribute that is set is cheap; one that is not set ends in `ConnectionProxy.__getattr__`, which acquires or
refuses. So the hot path checks no state. Setting, deleting and reading without that detour use the slot members
directly; deleting is atomic, so that one thread alone ends a lease. Without the GIL it is not: CPython then looks
whether the attribute is set before it takes the object's lock, so a lock of ours is around both.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from ..drivers.activity import RETURNED
from ..errors import ConnectionReturned
from ..pool.engine import Engine
from ..strategies import Request, Slot


class Leased:
    """What the proxies of all drivers' connections have in common."""

    __slots__ = ("__weakref__", "_wsgidb_executed", "_wsgidb_first", "_wsgidb_raw", "_wsgidb_slot", "_wsgidb_written")
    _wsgidb_executed: Any
    _wsgidb_first: Any
    _wsgidb_raw: Any
    _wsgidb_slot: Any
    _wsgidb_written: Any


_raw_member, _slot_member = vars(Leased)["_wsgidb_raw"], vars(Leased)["_wsgidb_slot"]
_first_member, _executed_member = vars(Leased)["_wsgidb_first"], vars(Leased)["_wsgidb_executed"]
set_raw, drop_raw, get_raw = _raw_member.__set__, _raw_member.__delete__, _raw_member.__get__
set_slot, drop_slot, get_slot = _slot_member.__set__, _slot_member.__delete__, _slot_member.__get__
_set_first, _drop_first, _get_first = _first_member.__set__, _first_member.__delete__, _first_member.__get__
set_executed, _get_executed = _executed_member.__set__, _executed_member.__get__
_written_member = vars(Leased)["_wsgidb_written"]
set_written, _get_written = _written_member.__set__, _written_member.__get__

P = TypeVar("P", bound=Leased)


def one_at_a_time(delete: Callable[[Any], None]) -> Callable[[Any], None]:
    """A function that deletes an attribute, and of which one call ends before another one begins."""
    lock = threading.RLock()  # reentrant, as what is deleted may have a finalizer that ends another lease

    def deleting(proxy: Any) -> None:
        with lock:
            delete(proxy)

    return deleting


if not getattr(sys, "_is_gil_enabled", lambda: True)():
    drop_slot, drop_raw = one_at_a_time(drop_slot), one_at_a_time(drop_raw)

new = object.__new__  # calling a class costs twice as much


class FirstUse:
    """Stands in for the slot until the first use acquires it."""

    acquire: Callable[[Request | None], Slot] | None = None
    """What acquires in place of the engine, where that is timed."""
    hook: Callable[[Slot], None] | None = None
    """What is done with a slot before the lease gets it (option on_lease)."""

    def __init__(self, engine: Engine, request: Request | None) -> None:
        self.engine = engine
        self.request = request
        self.over = False
        """Whether no first use can begin any more."""
        # Each request has its own: no other request's acquire or release waits for it. Reentrant, as garbage
        # collection during the first use may end the lease.
        self.lock = threading.RLock()

    def cancel(self) -> None:
        """Let no first use begin any more; one that is under way ends before this returns."""
        with self.lock:
            self.over = True


def begin(proxy: P, slot: Slot) -> P:
    """Let the lease have an acquired slot."""
    slot.activity.lease = proxy
    set_slot(proxy, slot)
    set_raw(proxy, slot.raw)
    return proxy


def lazy(engine: Engine, cls: type[P], request: Request | None) -> P:
    """A lease that acquires when it is first used, and then may raise DatabaseUnavailable."""
    proxy = new(cls)
    _set_first(proxy, FirstUse(engine, request))
    return proxy


def on_use(proxy: Leased, name: str) -> Any:
    """The attribute ``_wsgidb_raw`` or ``_wsgidb_slot``, which is not set: the lease acquires now, or is refused.

    Blocks up to acquire_timeout. Raises DatabaseUnavailable, or ConnectionReturned if the lease is over."""
    first = first_use_of(proxy)
    if first is not None:
        _acquire(proxy, first)
    try:
        return vars(Leased)[name].__get__(proxy)
    except AttributeError:
        raise ConnectionReturned(RETURNED) from None


def _acquire(proxy: Leased, first: FirstUse) -> None:
    with first.lock:
        if first.over:  # the lease has ended, or another thread of this request was quicker
            return
        slot = (first.acquire or first.engine.acquire)(first.request)
        if first.hook is not None:
            _call_hook(first, slot, first.hook)
        if first.over:  # the lease has ended while it acquired
            slot.engine.release(slot)
            return
        begin(proxy, slot)
        first.over = True
        _drop_first(proxy)


def _call_hook(first: FirstUse, slot: Slot, hook: Callable[[Slot], None]) -> None:
    """Call on_lease. Meanwhile the lease itself is refused, as it would acquire another connection."""
    acquire, first.acquire = first.acquire, _refuse
    try:
        hook(slot)
    except BaseException as error:
        if not isinstance(error, Exception):
            slot.fault = "interrupted"
        slot.engine.release(slot, rollback_expected=True)
        raise
    finally:
        first.acquire = acquire


def _refuse(_request: Request | None) -> Slot:
    raise ConnectionReturned(
        "on_lease gets the connection as its argument; the request's own begins after it", entry="on-lease"
    )


def first_use_of(proxy: Leased) -> FirstUse | None:
    """What stands in for the slot of a lease that has acquired nothing."""
    try:
        first: FirstUse = _get_first(proxy)
    except AttributeError:
        return None
    return first


def slot_of(proxy: Leased) -> Slot | None:
    """The slot of a lease, if it has acquired one and is not over."""
    try:
        slot: Slot = get_slot(proxy)
    except AttributeError:
        return None
    return slot


def end_first_use(proxy: Leased) -> Slot | None:
    """End a lease that has acquired nothing. Returns the slot if it has, as a first use was under way."""
    first = first_use_of(proxy)
    if first is not None:
        first.cancel()
        try:
            _drop_first(proxy)
            set_executed(proxy, None)
            return None
        except AttributeError:
            pass  # it has acquired, or another thread has ended it
    return slot_of(proxy)


def engine_of(proxy: Leased) -> Engine | None:
    """The engine of a lease; None when the lease is over."""
    held = slot_of(proxy) or first_use_of(proxy) or slot_of(proxy)  # it may acquire between the first two
    return None if held is None else held.engine


def has_acquired(proxy: Leased) -> bool:
    """Whether a lease has had a connection, as far as is known, also when it is over."""
    if first_use_of(proxy) is not None:
        return False
    try:
        return _get_executed(proxy) is not None
    except AttributeError:
        return True


def executed(proxy: Leased) -> float | None:
    """How many seconds the connection of a lease has executed statements until now, earlier leases included, or until
    its handler gave it back early. None where nothing was acquired, or the lease was settled."""
    slot = slot_of(proxy)
    if slot is not None:
        return slot.activity.seconds  # type: ignore[no-any-return]
    try:
        return _get_executed(proxy)  # type: ignore[no-any-return]
    except AttributeError:
        return None


def written_of(proxy: Leased) -> Any:
    """What is to be told the position of the lease's writes; None if nobody wants to know it."""
    try:
        return _get_written(proxy)
    except AttributeError:
        return None
