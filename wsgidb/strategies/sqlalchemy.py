"""The strategy sqlalchemy, on top of SQLAlchemy's QueuePool or of an application's own Engine.

https://docs.sqlalchemy.org/en/20/core/pooling.html
"""

from __future__ import annotations

from os import getpid
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy.pool import QueuePool, SingletonThreadPool, StaticPool

from ..errors import ConfigError
from ..forks import NOBODY, keep_for_ever, tell_of_forks
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
    "dialect": "the connections come from wsgidb's driver",
}


class _EnginePools:
    """The pools of the Engines that are shared with their applications, and the process that uses each of them."""

    def __init__(self) -> None:
        self._pids: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        tell_of_forks(self)

    def forked(self) -> None:
        """In a forked child: forget the pid of the parent. A process that descends from this one may get the same."""
        for pool in list(self._pids):
            self._pids[pool] = NOBODY

    def enter(self, engine: Any) -> None:
        """Use an Engine's pool in this process. A forked child gets a new pool, which protects the Engine's other users
        in the child, too."""
        pid = getpid()
        if self._pids.setdefault(engine.pool, pid) == pid:
            return
        keep_for_ever(engine.pool)
        engine.dispose(close=False)
        self._pids[engine.pool] = pid


_engine_pools = _EnginePools()


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
    """SQLAlchemy's QueuePool keeps the slots."""

    def _setup(self) -> None:
        super()._setup()
        self._idle = _Pool(self._size, checked(self._settings.strategy_args, ALLOWED, REFUSED))


class SQLAlchemyEngine(Pooled):
    """Takes connections from an application's own Engine, whose pool keeps them between requests. This store only
    serves callers in order, and asks the Engine for no more connections than it can give."""

    def _setup(self) -> None:
        super()._setup()
        engine: Any = self._settings.creator
        if isinstance(engine.pool, (SingletonThreadPool, StaticPool)):
            kind = type(engine.pool).__name__
            raise ConfigError(
                f"creator: the Engine's {kind} gives one connection to several users at once",
                entry="config-own-classes",
            )
        _engine_pools.enter(engine)
        self._size = _capacity(engine.pool)

    def claim(self) -> Slot | None:
        return None  # the Engine's pool keeps the connections

    def put(self, slot: Slot) -> tuple[Slot, str] | None:
        if slot.raw is not None:
            return slot, "given back to the Engine"
        return super().put(slot)


def _capacity(pool: Any) -> int:
    """How many connections an Engine's pool can give at once. A pool without a limit is not limited here either."""
    most = getattr(pool, "_max_overflow", None)
    if not isinstance(pool, QueuePool) or most is None or most < 0:
        return 2**31
    return int(pool.size() + most)
