"""DBUtils' PersistentDB and PooledDB as stores: https://webwareforpython.github.io/DBUtils/main.html"""

from __future__ import annotations

import threading
import weakref
from typing import Any

from dbutils.persistent_db import PersistentDB
from dbutils.pooled_db import PooledDB

from .base import LOOK_EVERY, Slot
from .library import LibraryPool, LibraryPooled, LibrarySlot, checked
from .per_thread import PerThread

REFUSED = {
    "creator": "the connections come from wsgidb's driver",
    "maxusage": "it reconnects in the middle of a transaction; use max_lifetime",
    "setsession": "use init_sql",
    "failures": "failing over repeats a statement, and loses what came before it",
    "isfatal": "failing over repeats a statement, and loses what came before it",
    "ping": "connections are validated by wsgidb; use ping_after",
    "closeable": "wsgidb closes connections itself",
    "reset": "use reset",
    "mincached": "connections are opened when they are needed",
    "maxcached": "use pool_size",
    "maxshared": "a connection is never leased twice at once",
    "maxconnections": "use pool_size",
    "blocking": "use acquire_timeout and max_waiting",
}


TAKEN = object()
"""The handle of an idle slot that another thread has taken, to close its connection."""


class Never(Exception):
    """The only exception on which DBUtils may fail over. Nobody raises it, so that DBUtils never fails over."""


class DBUtilsPersistent(PerThread):
    """The strategy dbutils-persistent: DBUtils' PersistentDB keeps a slot for each thread."""

    takes_args = True

    def _setup(self) -> None:
        given = checked(self._settings.strategy_args, {"threadlocal"}, REFUSED)
        # `_lock` guards `_slots`, `closed`, and each slot's handle, which is None while the slot is idle.
        self._lock = threading.RLock()  # reentrant, as a finalizer may put a slot back while it is held
        self._slots: weakref.WeakSet[LibrarySlot] = weakref.WeakSet()
        self._library = PersistentDB(
            self._slot, failures=(Never,), ping=0, closeable=True, **{"threadlocal": threading.local, **given}
        )

    def _slot(self) -> LibrarySlot:
        slot = LibrarySlot(closed=self._thread_ended)
        self._slots.add(slot)
        self._warn_once()
        return slot

    def _thread_ended(self, slot: Slot) -> None:
        if slot.raw is not None and slot.handle is None:
            self._lost(slot)

    def take(self) -> Slot:
        with self._lock:
            self._refuse_closed()
            steady = self._library.connection()
            slot: Any = steady.dbapi_connection
            if slot.handle is not None:  # leased already in this thread
                steady = self._library.steady_connection()
                slot = steady.dbapi_connection
                slot.extra = True
            slot.handle = steady  # keeps the slot, even if its thread ends meanwhile
            taken: Slot = slot
            return taken

    def put(self, slot: Any) -> tuple[Slot, str] | None:
        with self._lock:
            steady, slot.handle = slot.handle, None
            keep = not self.closed and not getattr(slot, "extra", False)
        del steady  # if the thread has ended, this ends the slot, too, which must not happen under the lock
        if slot.raw is None:
            return None
        if keep:
            return self._outdated(slot.used) if slot.used >= self._look_at else None
        return slot, "closed" if self.closed else "second lease"

    def _outdated(self, now: float) -> tuple[Slot, str] | None:
        """An idle slot of any thread that is not to be kept any longer."""
        with self._lock:
            for slot in self._all_idle():
                reason = self._unwanted(slot, now)
                if reason is not None:
                    slot.handle = TAKEN
                    return slot, reason
        self._look_at = now + LOOK_EVERY
        return None

    def take_idle(self, keep: int) -> list[Slot]:
        with self._lock:
            slots = sorted(self._all_idle(), key=lambda slot: slot.used)
            del slots[max(0, len(slots) - keep) :]
            for slot in slots:
                slot.handle = TAKEN
            return slots

    def close(self) -> list[Slot]:
        with self._lock:
            self.closed = True
            return self._all_idle()

    def _all_idle(self) -> list[Slot]:
        """The idle slots with a connection. The caller holds the lock."""
        return [slot for slot in self._slots if slot.handle is None and slot.raw is not None]


class _Pool(LibraryPool):
    def __init__(self, size: int) -> None:
        super().__init__()
        self._library = PooledDB(LibrarySlot, maxconnections=size, failures=(Never,), ping=0, reset=False)

    def check_out(self) -> Slot:
        pooled = self._library.dedicated_connection()
        slot: Slot = pooled.dbapi_connection
        slot.handle = pooled
        return slot

    def check_in(self, slot: Slot) -> None:
        pooled, slot.handle = slot.handle, None
        pooled.close()


class DBUtilsPooled(LibraryPooled):
    """The strategy dbutils-pooled: the cache of DBUtils' PooledDB keeps the slots."""

    def _setup(self) -> None:
        super()._setup()
        checked(self._settings.strategy_args, set(), REFUSED)
        self._idle = _Pool(self._size)
