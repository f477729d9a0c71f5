"""The proxy classes of a driver's connections: what a connection can do, its proxy can."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from types import FunctionType
from typing import Any

from ..drivers import Driver
from ..errors import ConnectionReturned
from .proxy import ConnectionProxy, adopted, call, remember

OWN = frozenset(vars(ConnectionProxy))
"""What a proxy does in a way of its own."""

NAME = "ConnectionProxy (pass its .driver_connection)"
"""The name of the proxies' classes. It stands, up to its 50th character, in the error of C code that takes the driver's
own connection only: ``backup() argument 'target' must be sqlite3.Connection, not ...``."""


KEPT = 16
"""How many classes are kept: more than any driver has, but a creator may make one for each connection."""


class ProxyClasses(dict[Any, type[ConnectionProxy]]):
    """The proxies of a driver's connections, by the class of these; each is made when it is first asked for."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __missing__(self, raw_class: Any) -> type[ConnectionProxy]:
        if len(self) >= KEPT:
            self.clear()  # those that are needed are made again
        made = self[raw_class] = _proxy_class(raw_class, self._driver)
        return made


def _proxy_class(raw_class: Any, driver: Driver) -> type[ConnectionProxy]:
    """The proxy for connections of one class. It has a method for each of theirs, which enters the connection's record;
    it is callable only where they are; and it has the attributes that cursors look up at every statement as properties,
    which takes a quarter of the time of `ConnectionProxy.__getattr__`."""
    body: dict[str, Any] = {"__slots__": ()}
    for name in dir(raw_class):
        method = getattr(raw_class, name)
        if callable(method) and not isinstance(method, type) and not name.startswith("__") and name not in OWN:
            body[name] = _entering(name, method, driver.ended_anyway.get(name, _never))
    body.update((name, _reading(name, getattr(raw_class, name))) for name in driver.local_methods)
    for name, (left, answer) in driver.nothing_to_read.items():
        body[name] = _unless_left(body[name], left, answer)
    body.update((name, _through_cursor(name)) for name in driver.cursor_methods)
    for name in driver.lease_members:
        body.update((name, vars(cls)[name]) for cls in reversed(raw_class.__mro__) if name in vars(cls))
    body.update((name, _observed(name)) for name in driver.unobserved_methods)
    body.update((name, property(attrgetter(f"_wsgidb_raw.{name}"))) for name in driver.cursor_attributes)
    body.update((name, _handing_out(name, callable(getattr(raw_class, name, None)))) for name in driver.handing_out)
    body.update((name, _changed_in_place(name)) for name in driver.changed_in_place)
    body.update(
        (name, _also_after_the_lease(name, value))
        for name, value in driver.when_returned.items()
        if type(driver).connection_class is not object or _has(raw_class, name, callable(value))
    )
    if driver.cursor_state:
        body["__setattr__"] = _setting(driver.cursor_state)
    if any("__call__" in vars(cls) for cls in raw_class.__mro__):
        body["__call__"] = _entering("__call__", raw_class.__call__)
    return type(NAME, (ConnectionProxy,), body)


def _has(raw_class: Any, name: str, as_method: bool) -> bool:
    """Whether a class of a `creator`'s has this attribute: what it has not, its lease has not either. The other drivers
    know what they have; a class in C may not tell."""
    return hasattr(raw_class, name) and callable(getattr(raw_class, name)) is as_method


def _never(*args: Any, **kwargs: Any) -> bool:
    return False


def _entering(name: str, own: Any, ended_anyway: Callable[..., bool] = _never) -> Any:
    """A method of the driver's connection for a lease, refused after it unless the lease has `ended_anyway` what is to
    be ended. This is `Activity.call` with one call less: cursors come here at every statement."""

    def entering(self: ConnectionProxy, *args: Any, **kwargs: Any) -> Any:
        try:
            slot = self._wsgidb_slot
            seen = slot.activity
            raw = slot.raw
            users = seen.users
            users.append(self)
            try:
                if seen.lease is not self:
                    raise seen.refusal()
                method = getattr(raw, name)
                result = method(*args, **kwargs) if kwargs else method(*args)  # which is cheaper
                return self if result is raw else result
            finally:
                users.remove(self)
                if seen.closing:
                    seen.close_if_unused()
        except ConnectionReturned:
            if not ended_anyway(*args, **kwargs):
                raise
            return None

    entering.__name__, entering.__doc__ = name, getattr(own, "__doc__", None)
    return entering


def _reading(name: str, method: Any) -> Any:
    """One of `Driver.local_methods`. It is refused where the lease has ended, as there is no connection to ask then."""

    def reading(self: ConnectionProxy) -> Any:
        return method(self._wsgidb_raw)

    def reading_by_name(self: ConnectionProxy, *args: Any, **kwargs: Any) -> Any:
        return method(self._wsgidb_raw, *args, **kwargs)

    made = reading_by_name if isinstance(method, FunctionType) else reading  # those in C take no arguments
    made.__name__ = name
    return made


def _unless_left(entering: Any, left: str, answer: Any) -> Any:
    """One of `Driver.nothing_to_read`."""
    anything_left = attrgetter(f"_wsgidb_raw.{left}")

    def read_what_is_left(self: ConnectionProxy, *args: Any, **kwargs: Any) -> Any:
        return entering(self, *args, **kwargs) if anything_left(self) else answer

    read_what_is_left.__name__, read_what_is_left.__doc__ = entering.__name__, entering.__doc__
    return read_what_is_left


def _handing_out(name: str, is_method: bool) -> Any:
    """One of `Driver.handing_out`."""

    def look(self: ConnectionProxy) -> Any:
        return self._wsgidb_slot.engine.driver.bind(getattr(self._wsgidb_raw, name), self)

    def handing_out(self: ConnectionProxy, *args: Any, **kwargs: Any) -> Any:
        return self._wsgidb_slot.engine.driver.bind(getattr(self._wsgidb_raw, name)(*args, **kwargs), self)

    if not is_method:
        return property(lambda self: call(self, look, self))
    return lambda self, *args, **kwargs: call(self, handing_out, self, *args, **kwargs)


def _changed_in_place(name: str) -> Any:
    """One of `Driver.changed_in_place`: a copy of what the handler gets is put back at the end of the lease."""

    def look(self: ConnectionProxy) -> Any:
        value = getattr(self._wsgidb_raw, name)
        slot = self._wsgidb_slot
        if slot.undo is None or name not in slot.undo:
            remember(slot, name, _copy_of(value))
        return value

    return property(lambda self: call(self, look, self))


def _copy_of(value: Any) -> Any:
    """A copy of a dictionary or list, and of lists in it. What else is in it stays the same object."""
    if isinstance(value, dict):
        return {key: list(item) if isinstance(item, list) else item for key, item in value.items()}
    return list(value) if isinstance(value, list) else value


def _setting(state: frozenset[str]) -> Any:
    """Setting an attribute of the driver's connection, where its cursors set `Driver.cursor_state` for every statement.
    """

    def set_attribute(self: ConnectionProxy, name: str, value: Any) -> None:
        if name not in state:
            return ConnectionProxy.__setattr__(self, name, value)
        slot = self._wsgidb_slot
        seen = slot.activity
        raw = slot.raw
        seen.users.append(self)  # as `call` does it, with two calls less
        try:
            if seen.lease is not self:
                raise seen.refusal()
            setattr(raw, name, value)
        finally:
            seen.users.remove(self)
            if seen.closing:
                seen.close_if_unused()

    return set_attribute


def _through_cursor(name: str) -> Any:
    """A method of the driver's connection that is short for making a cursor and calling it."""

    def method(self: ConnectionProxy, *args: Any, **kwargs: Any) -> Any:
        cursor = self.cursor()
        getattr(cursor, name)(*args, **kwargs)
        return cursor

    method.__name__ = name
    return method


def _observed(name: str) -> Any:
    """One of `Driver.unobserved_methods`, where the driver's connection has it."""

    def observe(proxy: ConnectionProxy, method: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        raw = proxy._wsgidb_raw
        driver = proxy._wsgidb_slot.engine.driver
        result = driver.activity(raw).observe(driver.clock, method, *args, **kwargs)
        if result is raw:
            return proxy
        return adopted(proxy, result) if hasattr(result, "fetchone") else result

    def observed(self: ConnectionProxy) -> Any:
        method = getattr(self._wsgidb_raw, name)  # AttributeError where it has none
        return lambda *args, **kwargs: call(self, observe, self, method, args, kwargs)

    return property(observed)


def _also_after_the_lease(name: str, value: Any) -> Any:
    """An attribute or method by which applications ask whether a connection is closed: after the lease it is."""

    def look(raw: Any) -> Any:
        found = getattr(raw, name)
        return found() if callable(value) else found

    def ask(self: ConnectionProxy) -> Any:
        try:
            return call(self, look, self._wsgidb_raw)
        except ConnectionReturned:
            return value() if callable(value) else value

    return ask if callable(value) else property(ask)
