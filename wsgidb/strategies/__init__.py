"""The strategies: a store each. Those on a library's pool are imported only when they are asked for."""

from __future__ import annotations

from ..config.optional import load, own
from ..config.settings import Settings
from .base import Request, Slot, Store, named, printable

__all__ = ["STORES", "Request", "Slot", "Store", "named", "printable", "store_class"]

STORES = {
    "per-request": ("per_request", "PerRequest", None),
    "thread-local": ("thread_local", "ThreadLocal", None),
    "pooled": ("pooled", "Pooled", None),
    "dbutils-persistent": ("dbutils", "DBUtilsPersistent", "dbutils"),
    "dbutils-pooled": ("dbutils", "DBUtilsPooled", "dbutils"),
    "sqlalchemy": ("sqlalchemy", "SQLAlchemyPooled", "sqlalchemy"),
}
"""By strategy: the room, its class, and the extra that installs the package it needs."""


def store_class(settings: Settings) -> type[Store]:
    """The settings' strategy. Raises ConfigError where it is not installed, or no Store."""
    strategy = settings.strategy
    if isinstance(strategy, type):
        from .checked import checked

        return checked(own("strategy", strategy, Store, "wsgidb.strategies.Store"))
    room, name, extra = STORES[strategy]
    if settings.shares_engine:
        name = "SQLAlchemyEngine"
    found: type[Store] = load(__name__, room, name, extra, f"strategy: {strategy}")
    return found
