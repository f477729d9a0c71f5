"""Reports of leases that are held for too long (option leak_after), by an engine that notes who holds each of them.

There is no thread for this. The engine looks whenever a lease begins or ends, so also when a request finds the pool
exhausted by leaks. Without the option the plain engine is used, and nothing is noted.

A report shows the calls that tell most. If a thread is inside of the request, that is where it is now. Otherwise it is
where the connection was used, which is noted once for each thread, or where it was acquired if nobody has used it.
"""

from __future__ import annotations

import gc
import logging
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from threading import get_ident
from traceback import StackSummary, walk_stack
from types import FrameType
from typing import Any

from ..drivers.activity import Activity
from ..strategies import Request, Slot, named
from .engine import Engine

log = logging.getLogger("wsgidb")

Calls = list[tuple[str, int, str, None]]
Told = tuple[str, Calls]
"""What a thread does or has done, in words, and its calls."""


def _calls(frame: FrameType) -> Calls:
    """The file, line and name of each call, the most recent one first. The frames themselves are not kept, as they
    would keep all of their variables alive."""
    return [(at.f_code.co_filename, line, at.f_code.co_name, None) for at, line in walk_stack(frame)]


HERE = _calls.__code__.co_filename
OWN = os.path.join(os.path.dirname(os.path.dirname(HERE)), "")
"""How the names of wsgidb's own files begin."""


class Held:
    """When a lease was acquired, and by which calls; once its connection is used, by which calls that is done."""

    def __init__(self, since: float, frame: FrameType) -> None:
        self.since = since
        self.note("has acquired it here, and nobody has used it", frame)
        self._unreported = [True]  # empty once the lease was reported

    def note(self, what: str, frame: FrameType) -> None:
        """Note the calls of this thread, and what they have done."""
        self.told: Told = f"thread {threading.current_thread().name} {what}", _calls(frame)

    def claim_report(self) -> bool:
        """Whether the caller is to report the lease. True only once: taking the item out of a list is atomic."""
        try:
            return self._unreported.pop()
        except IndexError:
            return False


class Users(list[Any]):
    """The calls that are under way on a connection (`Activity.users`). It also notes who makes them: once for each
    thread, as every statement comes here."""

    def __init__(self, activity: Activity) -> None:
        super().__init__()
        self._activity = activity

    def begin(self, held: Held) -> None:
        """Note from now on in the record of a new lease."""
        self._thread, self._held = 0, held

    def append(self, lease: Any) -> None:
        _append(self, lease)
        if self._thread != get_ident():
            self._note(lease, sys._getframe(1))

    def _note(self, lease: Any, frame: FrameType) -> None:
        if self._activity.lease is lease:  # else a late call of an earlier lease, which is refused
            self._held.note("has used it here", frame)
            self._thread = get_ident()


_append = list.append


_looking = threading.RLock()  # guards the switch of the garbage collector; what is done under it never blocks
_switched_off = False


@contextmanager
def _without_collecting() -> Iterator[None]:
    """Let no garbage be collected while the frames of other threads are looked at. Before CPython 3.12 it is collected
    in the middle of functions that make objects. A finalizer may then let other threads go on:

    - within `_current_frames`, before 3.11.5, one that waits for a lock waits for ever
      (https://github.com/python/cpython/issues/106883);
    - within `f_back` and `f_locals`, in 3.11, the other thread may leave the very call that is looked at, whose memory
      is then another one's, and the interpreter crashes."""
    global _switched_off
    with _looking:
        if not gc.isenabled():
            yield
            return
        gc.disable()
        _switched_off = True
        try:
            yield
        finally:
            _switched_off = False
            gc.enable()


def _in_child() -> None:
    """In a forked child, which has not inherited the thread that was looking."""
    global _looking, _switched_off
    _looking = threading.RLock()
    if _switched_off:
        _switched_off = False
        gc.enable()


os.register_at_fork(after_in_child=_in_child)


def _inside(lease: Any) -> Told | None:
    """Where the thread is now that is inside of the lease's request: one of its calls is wsgidb's, and has the lease in
    a variable. The variables of other calls are not looked at, and those of this module say nothing."""
    with _without_collecting():
        found = _found(lease)
    if found is None:
        return None
    thread, calls = found
    name = next((each.name for each in threading.enumerate() if each.ident == thread), thread)
    return f"thread {name} is here now", calls


def _found(lease: Any) -> tuple[int, Calls] | None:
    for thread, frame in sys._current_frames().items():
        for at, _ in walk_stack(frame):
            file = at.f_code.co_filename
            own = file.startswith(OWN) and file != HERE
            if own and any(_has(value, lease) for value in at.f_locals.values()):
                return thread, _calls(frame)
    return None


def _has(value: Any, lease: Any) -> bool:
    has_lease = getattr(type(value), "_wsgidb_has_lease", None)  # of a body that is iterated
    return value is lease or (has_lease is not None and has_lease(value, lease))


def _shown(calls: Calls) -> str:
    """The calls in the format of a traceback, without wsgidb's own at the end. Their source lines are looked up only
    now."""
    first = next((number for number, call in enumerate(calls) if not call[0].startswith(OWN)), 0)
    return "".join(StackSummary.from_list(calls[first:][::-1]).format()).rstrip()


def watched(engine: type[Engine]) -> type[Engine]:
    """A subclass of the engine that reports each lease, once, that is held for leak_after seconds or longer."""

    class Watched(engine):  # type: ignore[misc, valid-type]
        def acquire(self, request: Request | None = None, deadline: float | None = None) -> Slot:
            self.__report_overdue()
            slot: Slot = super().acquire(request, deadline)
            held = slot.process.held[slot] = Held(self.clock(), sys._getframe(1))
            users = slot.activity.users
            if type(users) is not Users:  # the connection's first lease
                users = slot.activity.users = Users(slot.activity)
            users.begin(held)
            return slot

        def release(self, slot: Slot, rollback_expected: bool = False) -> None:
            self.__report_overdue(ending=slot)  # it may be overdue itself
            slot.process.held.pop(slot, None)
            super().release(slot, rollback_expected)

        def __report_overdue(self, ending: Slot | None = None) -> None:
            now = self.clock()
            for slot, held in list(self.process.held.items()):  # copied in one step, as other threads change it
                if now - held.since < self.settings.leak_after:
                    return  # the others are younger
                if held.claim_report():
                    lease = None if slot is ending else slot.activity.lease  # the handler is over by then
                    what, calls = (None if lease is None else _inside(lease)) or held.told
                    log.warning(
                        "%s: has held a connection of %s for %.1f s; %s:\n%s",
                        named(slot.request),
                        self.settings.address,
                        now - held.since,
                        what,
                        _shown(calls),
                    )

    Watched.__name__ = Watched.__qualname__ = engine.__name__
    return Watched
