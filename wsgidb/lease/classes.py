"""The proxy classes of a driver's connections: what a connection can do, its proxy can."""

from __future__ import annotations

from functools import partial
from operator import attrgetter
from typing import Any

from ..drivers import Driver
from .proxy import ConnectionProxy, adopted


class ProxyClasses(dict[Any, type[ConnectionProxy]]):
    """The proxies of a driver's connections, by the class of these; each is made when it is first asked for."""

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def __missing__(self, raw_class: Any) -> type[ConnectionProxy]:
        made = self[raw_class] = _proxy_class(raw_class, self._driver)
        return made


def _proxy_class(raw_class: Any, driver: Driver) -> type[ConnectionProxy]:
    """The proxy for connections of one class: it is callable only where they are, the driver's methods that make a
    cursor by themselves go by `ConnectionProxy.cursor`, those that must be observed here go by `_observed`, and
    attributes that its cursors look up at every statement are found without `__getattr__`, in a quarter of the time."""

    def through_cursor(name: str) -> Any:
        def method(self: ConnectionProxy, *args: Any, **kwargs: Any) -> Any:
            cursor = self.cursor()
            getattr(cursor, name)(*args, **kwargs)
            return cursor

        method.__name__ = name
        return method

    def observed(name: str) -> Any:
        def method(self: ConnectionProxy) -> Any:
            getattr(self._wsgidb_raw, name)  # AttributeError where it has none
            return partial(_observed, self, name)

        return property(method)

    body: dict[str, Any] = {"__slots__": (), **{name: through_cursor(name) for name in driver.cursor_methods}}
    body.update((name, observed(name)) for name in driver.unobserved_methods)
    body.update((name, property(attrgetter(f"_wsgidb_raw.{name}"))) for name in driver.cursor_attributes)
    if any("__call__" in vars(cls) for cls in raw_class.__mro__):
        body["__call__"] = lambda self, *args, **kwargs: self._wsgidb_raw(*args, **kwargs)
    return type("ConnectionProxy", (ConnectionProxy,), body)


def _observed(proxy: ConnectionProxy, name: str, *args: Any, **kwargs: Any) -> Any:
    """Call one of `Driver.unobserved_methods`."""
    raw = proxy._wsgidb_raw
    driver = proxy._wsgidb_slot.engine.driver
    result = driver.activity(raw).observe(driver.clock, getattr(raw, name), *args, **kwargs)
    if result is raw:
        return proxy
    return adopted(proxy, result) if hasattr(result, "fetchone") else result
