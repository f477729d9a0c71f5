"""The connection that a handler sees: a thin proxy over the driver's own, for the time of one lease."""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from types import FunctionType
from typing import Any
from weakref import ref

from ..drivers.states import MISSING
from ..drivers.tracing import is_method_of, untraced
from ..errors import ConnectionReturned
from ..pool.engine import Engine
from ..strategies import Slot
from .state import (
    Leased,
    drop_raw,
    drop_slot,
    end_first_use,
    engine_of,
    executed,
    first_use_of,
    get_raw,
    get_slot,
    on_use,
    set_executed,
    slot_of,
)

log = logging.getLogger("wsgidb")


class ConnectionProxy(Leased):
    """The driver's connection, on loan. Every attribute is the driver's, but for these:

    ``close()`` gives the connection back early, rolling back what is not committed; ``with`` does what the driver's
    does, but never closes the driver's connection; ``driver_connection`` is that connection, outside of all
    guarantees. After the lease every use raises ConnectionReturned. Only closing it again is harmless, and asking
    whether it is closed.

    Whatever is called here enters the connection's record first (`Activity.enter`), so that no call of this lease can
    reach the connection once the lease has ended, in whatever thread.
    """

    __slots__ = ()

    def __getattr__(self, name: str) -> Any:
        if name == "_wsgidb_raw" or name == "_wsgidb_slot":
            return on_use(self, name)
        if name[:2] == "__" and first_use_of(self) is not None:  # Python's own, as in copy.deepcopy(), and tools'
            raise AttributeError(name)
        raw = self._wsgidb_raw
        found = call(self, getattr, raw, name)
        return partial(call, self, found) if is_method_of(found, raw) else found

    def __setattr__(self, name: str, value: Any) -> None:
        call(self, _set, self, name, value)

    def __delattr__(self, name: str) -> None:
        call(self, _delete, self, name)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """A cursor of the driver's, whose ``connection`` is this lease."""
        slot = self._wsgidb_slot
        seen = slot.activity
        maker = slot.maker
        seen.users.append(self)  # as `call` does it, with two calls less
        try:
            if seen.lease is not self:
                raise seen.refusal()
            made = maker.cursor(*args, **kwargs) if args or kwargs else maker.cursor()  # which is cheaper
            cursor = own = slot.engine.driver.adopt(made, self)
            if maker is not slot.raw:
                own = untraced(cursor)
            slot.cursors[id(own)] = ref(own)  # an id is used again, so a thousand cursors do not add up
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
            first = first_use_of(self)
            if first is not None:
                first.cancel()
            with suppress(AttributeError):  # never acquired, or closed before
                drop_raw(self)  # the slot still has to be settled
                get_slot(self).activity.end_lease()
        else:
            set_executed(self, executed(self))
            settle(self, success=True)

    @property
    def driver_connection(self) -> Any:
        """The driver's own connection. wsgidb guarantees nothing for what is done with it."""
        return self._wsgidb_raw

    def __enter__(self) -> ConnectionProxy:
        _special(self, "__enter__")
        return self

    def __exit__(self, *error: Any) -> Any:
        try:
            return _special(self, "__exit__", *error)
        except ConnectionReturned:
            if error[0] is None:  # else the end of the lease has rolled back, as this was about to
                raise

    @property  # type: ignore[misc]  # isinstance() sees the driver's class
    def __class__(self) -> Any:
        first = None if slot_of(self) else first_use_of(self)
        if first is not None:  # to look at it is no use of it
            known = first.engine.driver.connection_class
            return type(self) if known is object else known
        try:
            return self._wsgidb_raw.__class__
        except ConnectionReturned:
            return type(self)

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._wsgidb_raw), "driver_connection"})

    def __repr__(self) -> str:
        try:
            return f"<wsgidb connection: {get_raw(self)!r}>"
        except AttributeError:
            return f"<wsgidb connection: {'not acquired yet' if first_use_of(self) else 'returned'}>"

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("a leased connection cannot be copied or pickled")


def call(proxy: ConnectionProxy, function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call what uses the connection. Raises ConnectionReturned if the lease is over, DatabaseUnavailable at a first use
    for which there is no connection."""
    proxy._wsgidb_raw  # noqa: B018 - acquires at the first use, and refuses after the lease
    return proxy._wsgidb_slot.activity.call(proxy, function, *args, **kwargs)


def settle(proxy: ConnectionProxy, success: bool) -> None:
    """End the lease: with transaction=request commit it if it is a `success`; roll back what is not committed.

    Of several threads exactly one does it, and it may be repeated. Raises what a failed commit raises. The connection
    is back in every case."""
    try:
        slot = get_slot(proxy)
    except AttributeError:
        slot = end_first_use(proxy)
        if slot is None:
            return
    try:
        drop_slot(proxy)  # atomic: only one thread gets past it
    except AttributeError:
        return
    try:
        drop_raw(proxy)
    except AttributeError:
        pass  # closed before
    engine: Engine = slot.engine
    if not (success and engine.commits):
        return engine.release(slot, not success)
    try:
        engine.commit(slot)
    except BaseException:
        engine.release(slot, rollback_expected=True)
        raise
    try:
        engine.release(slot, rollback_expected=True)
    except Exception:  # it must not make a success an error
        log.exception("%s: the work is committed, but releasing the connection failed", engine.settings.address)


def interrupt(proxy: ConnectionProxy, error: BaseException | None) -> None:
    """End the lease without success, because of `error` if there is one.

    An error that is no Exception may have interrupted a statement: then the connection is discarded. Closing a
    generator (GeneratorExit) interrupts nothing."""
    if error is not None and not isinstance(error, (Exception, GeneratorExit)):
        slot = slot_of(proxy)
        if slot is not None:
            slot.fault = "interrupted"
    settle(proxy, success=False)


def adopted(proxy: ConnectionProxy, cursor: Any) -> Any:
    """A cursor of the driver's as one of the lease's, which ends with the lease. To be called within `call`, so that a
    lease that ends meanwhile is known to have been in use."""
    slot = proxy._wsgidb_slot
    cursor = slot.engine.driver.adopt(cursor, proxy)
    slot.cursors[id(cursor)] = ref(cursor)
    return cursor


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
