"""SQLAlchemy's QueuePool as a store: https://docs.sqlalchemy.org/en/20/core/pooling.html"""

from __future__ import annotations

from os import getpid
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.pool import QueuePool, SingletonThreadPool, StaticPool

from ..errors import ConfigError
from .base import Slot
from .library import LibraryPool, LibraryPooled, LibrarySlot, checked
from .pooled import Pooled

ALLOWED = {"use_lifo", "echo", "logging_name", "events"}
REFUSED = {
    "creator": "the connections come from wsgidb's driver",
    "pool_size": "use wsgidb's own pool_size",
    "max_overflow": "use pool_size",
    "timeout": "use acquire_timeout and max_waiting",
    "recycle": "use max_lifetime",
    "pre_ping": "connections are validated by wsgidb; use ping_after",
    "reset_on_return": "use reset",
    "dialect": "connections are wsgidb's, not a dialect's",
}

_pids: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
"""By pool of an Engine: the process that it is for."""
_parents: list[Any] = []
"""Of a forked child: its parents' pools, kept for ever, as the end of a connection might say goodbye to the server."""


class _Pool(LibraryPool):
    def __init__(self, size: int, given: dict[str, Any]) -> None:
        super().__init__()
        create: Any = LibrarySlot
        self._library = QueuePool(
            lambda: create(), pool_size=size, max_overflow=0, timeout=0, reset_on_return=None, **given
        )

    def check_out(self) -> Slot:
        fairy = self._library.connect()
        slot: Any = fairy.dbapi_connection
        slot.handle = fairy
        checked_out: Slot = slot
        return checked_out

    def check_in(self, slot: Slot) -> None:
        fairy, slot.handle = slot.handle, None
        fairy.close()


class SQLAlchemyPooled(LibraryPooled):
    """QueuePool: its queue keeps the slots."""

    def _setup(self) -> None:
        super()._setup()
        self._idle = _Pool(self._size, checked(self._settings.strategy_args, ALLOWED, REFUSED))


class SQLAlchemyEngine(Pooled):
    """For an application's own Engine, whose pool keeps the connections: nothing rests here, but who waits is served
    in order, and no more are asked of the Engine than it may give."""

    def _setup(self) -> None:
        super()._setup()
        engine: Any = self._settings.creator
        if isinstance(engine.pool, (SingletonThreadPool, StaticPool)):
            kind = type(engine.pool).__name__
            raise ConfigError(f"creator: the Engine's {kind} lends one connection to several users at once")
        if _pids.setdefault(engine.pool, getpid()) != getpid():  # a forked child's first request
            _parents.append(engine.pool)
            engine.dispose(close=False)  # its other users in the child are saved, too
            _pids[engine.pool] = getpid()
        self._size = _capacity(engine.pool)

    def put(self, slot: Slot) -> tuple[Slot, str] | None:
        if slot.raw is not None:
            return slot, "given back to the Engine"
        return super().put(slot)


def _capacity(pool: Any) -> int:
    """How many connections an Engine's pool may give at once; unlimited ones are bounded by nothing here either."""
    most = getattr(pool, "_max_overflow", None)
    if not isinstance(pool, QueuePool) or most is None or most < 0:
        return 2**31
    return int(pool.size() + most)
