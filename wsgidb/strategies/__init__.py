"""The strategies, each of which is a store. A strategy is imported when it is first asked for, as some need a library
that may not be installed."""

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
"""For each strategy its module, its class, and the extra that installs the library it needs, if it needs one."""


def store_class(settings: Settings) -> type[Store]:
    """The class of the store that the settings ask for. Raises ConfigError if its library is not installed, or if a
    class of the user's own is no Store."""
    strategy = settings.strategy
    if isinstance(strategy, type):
        from .checked import checked

        return checked(own("strategy", strategy, Store, "wsgidb.strategies.Store"))
    module, name, extra = STORES[strategy]
    if settings.shares_engine:
        name = "SQLAlchemyEngine"
    found: type[Store] = load(__name__, module, name, extra, f"strategy: {strategy}")
    return found
