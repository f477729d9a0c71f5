"""A pool whose processes share the connections of their host (option host_connections).

A connection is opened only with a token. Where none is free, requests wait in the queue of their pool as they do at
pool_size, and the first one looks again every few milliseconds: a process cannot wake another one. Meanwhile a note
says how many connections the waiting pool has, and others make room when a connection comes back to them:

- A pool that has at least two more than the waiting one closes it. So pools that all wait get equal shares.
- A pool with only one closes it for one that has none at all, if no requests of its own wait, or if it has had that
  one for a while. So pools take turns where there are fewer connections than processes.
- Where no token is free and nobody waits, a pool that has another idle connection closes it. So the next process finds
  a token at once, although this one may have no more requests in which it could look.

With a connection for each thread, a thread that waits closes another one's idle connection, and threads take turns.

A token that was given up for another pool is not taken by one that has more, or has as many and waits for less long.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from contextlib import suppress
from time import monotonic, sleep
from typing import Any

from ..config.settings import Settings
from ..drivers.sockets import wait_readable
from ..errors import DatabaseUnavailable, PoolTimeout
from ..strategies import Slot
from .connector import Connector
from .engine import Engine
from .process import Process
from .tokens import Tokens, Wanted, tokens

LOOK = 0.02
"""Seconds between two looks for a free token, at most; each is shortened at random by up to half."""
FAREWELL = 0.2
"""Seconds for which the server may take to close a connection, until its token is given back all the same."""
AFTERWARDS = 0.005
"""Seconds for which the server may count a connection that it has closed: it does so with its next step."""
TURN = 0.2
"""Seconds for which a pool with waiting requests keeps its only connection although another pool has none."""
ANOTHER = "another process waits"
THREAD = "another thread waits"
SPARE = "no other process could connect"


class HostTimeout(PoolTimeout):
    """No token is free."""


def _pause() -> float:
    return random.uniform(LOOK / 2, LOOK)


class SharingProcess(Process):
    """The state of one process, which may be short of tokens."""

    def __init__(self, settings: Settings, lost: Callable[[Process, Slot], None], clock: Callable[[], float]) -> None:
        assert settings.board is not None, "host_connections needs it"
        assert settings.host_connections is not None, "else the plain engine is used"
        self._tokens: Tokens = tokens(settings.board, settings.pool_name)
        self._most = settings.host_connections
        self._look_at = 0.0
        self._short_since: float | None = None
        super().__init__(settings, lost, clock)
        self._keep = self.store.put
        self.store.put = self._put  # type: ignore[method-assign]

    def held_until(self) -> float:
        until = super().held_until()
        if until or self.shortage is None:
            return until
        now = self._clock()
        if now < self._look_at:
            return self._look_at
        self._look_at = now + _pause()  # one caller looks; if it finds a token, the others are woken
        return 0.0

    def take(self, slot: Slot) -> bool:
        """Take a token for this slot, or note that one is wanted."""
        wanted = self._tokens.wanted()
        own = Wanted(len(self.open), self._short_since or monotonic())
        mine = wanted is None or own[:2] <= wanted[:2]
        if mine and self._tokens.take(slot, self._most):
            if wanted is not None and own[:2] == wanted[:2]:
                self._tokens.served()
            if self.shortage is not None:
                self.shortage = self._short_since = None
                self.store.wake()
            return True
        self._short_since = own.since
        if mine:
            self._tokens.want(own)
        self.shortage = self.full().text
        return False

    def full(self) -> HostTimeout:
        """The error of a request for which there is no token."""
        return HostTimeout(f"all {self._most} connections of this host are in use (host_connections)")

    def give(self, slot: Slot) -> None:
        """Give back the token of this slot, if it has one."""
        with suppress(OSError):  # the file cannot be used, which connecting tells
            self._tokens.give(slot)

    def _put(self, slot: Slot) -> tuple[Slot, str] | None:
        reason = None
        if slot.raw is not None:
            with suppress(OSError):
                reason = self._makes_room(slot)
        return self._keep(slot) if reason is None else (slot, reason)

    def _makes_room(self, slot: Slot) -> str | None:
        """Why a connection that comes back is to be closed, for the sake of another process."""
        has = len(self.open)
        wanted = self._tokens.wanted()
        if self.shortage is not None and not self.store.shared and self._clock() - slot.born >= TURN:
            return THREAD
        if wanted is not None and not wanted.granted:
            alone = not wanted.has and (not self.store.waiting or self._clock() - slot.born >= TURN)
            if alone or has > wanted.has + 1:
                self._tokens.want(wanted._replace(granted=True))
                return ANOTHER
            return None
        idle = sum(slot.since is None for slot in list(self.open))  # this one included
        if idle > 1 and not self.store.waiting and not self._tokens.any_free(self._most):
            return SPARE
        return None


class SharingConnector(Connector):
    """Opens no connection without a token, and gives it back when the connection is closed."""

    def open(self, slot: Slot, process: Any, deadline: float) -> None:
        try:
            while not process.take(slot):
                left = deadline - self._clock()
                if process.store.shared or left <= 0:
                    raise process.full()
                self._close_idle(process)
                sleep(min(left, _pause()))
            super().open(slot, process, deadline)
        except OSError as error:
            where = self._settings.board
            raise DatabaseUnavailable(
                f"host_connections cannot be counted in {where}: {error}", entry="host-connections"
            ) from error
        finally:
            if slot.raw is None:
                process.give(slot)

    def _close_idle(self, process: Any) -> None:
        """With a connection for each thread: close one of a thread that does not use it now."""
        idle = sum(slot.since is None for slot in list(process.open))
        for slot in process.store.take_idle(max(0, idle - 1)):
            self._engine.retire(process, slot, THREAD)

    def _close(self, slot: Slot, close: Callable[[Any], None]) -> None:
        process: Any = slot.process
        copy = -1
        if close == self._driver.close:  # else the connection is broken
            with suppress(Exception):  # closed by the application
                line = self._driver.descriptor(slot.raw)
                copy = -1 if line is None else os.dup(line)
        try:
            super()._close(slot, close)
            if copy >= 0:
                wait_readable(copy, FAREWELL)  # for the server's end of the connection
                sleep(AFTERWARDS)
        finally:
            if copy >= 0:
                os.close(copy)
            process.give(slot)


def sharing(engine: type[Engine]) -> type[Engine]:
    """A subclass of the engine whose connections are counted together with those of other processes."""

    class Sharing(engine):  # type: ignore[misc, valid-type]
        _connector_class = SharingConnector
        _process_class = SharingProcess

        def probe(self) -> bool:
            try:
                free: bool = super().probe()
                return free
            except HostTimeout:
                return False  # connections are in use elsewhere, which is no bad sign

    Sharing.__name__ = Sharing.__qualname__ = engine.__name__
    return Sharing
