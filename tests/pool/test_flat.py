"""Scale: an acquire and a release cost the same steps, however many connections, threads or Databases there are.

Each line that is executed, once for each turn of a loop, and each call is one step: no clock is read.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from types import FrameType
from typing import Any

import pytest

from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import Database

WARM_UP = 50
"""As CPython specializes what runs often."""


def steps(operation: Callable[[], object]) -> Counter[str]:
    """The steps of one operation in this thread, when it has run before."""
    for _ in range(WARM_UP):
        operation()
    found: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        found[event] += 1
        return trace

    def profile(frame: FrameType, event: str, _: Any) -> None:
        found[event] += event.startswith("c_")

    before = sys.gettrace(), sys.getprofile()
    gc.collect()
    gc.disable()  # it would run finalizers of other tests' objects
    try:
        sys.settrace(trace)
        operation()
        sys.settrace(None)
        sys.setprofile(profile)
        operation()
    finally:
        sys.setprofile(before[1])
        sys.settrace(before[0])
        gc.enable()
    return +found


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def pool(fakedb: FakeDB, clock: Clock, stack: ExitStack, size: int) -> Callable[[], object]:
    """An acquire and a release of a pool that has so many idle connections."""
    made = stack.enter_context(Database(creator=fakedb.connect, pool_size=size, clock=clock))
    slots = [made.engine.acquire() for _ in range(size)]
    for slot in slots:
        made.engine.release(slot)
    assert made.stats().idle == size
    return lambda: made.engine.release(made.engine.acquire())


def test_in_a_pool_of_any_size(fakedb: FakeDB, clock: Clock, stack: ExitStack) -> None:
    """Ten thousand idle connections cost what ten cost."""
    few = steps(pool(fakedb, clock, stack, 10))
    assert few["line"] > 30
    assert steps(pool(fakedb, clock, stack, 10_000)) == few


def test_with_any_number_of_databases(fakedb: FakeDB, clock: Clock, stack: ExitStack) -> None:
    """A hundred Databases in one process cost each of them nothing."""
    alone = steps(pool(fakedb, clock, stack, 10))
    for _ in range(99):
        last = pool(fakedb, clock, stack, 10)
    assert steps(last) == alone


def test_with_any_number_of_threads(fakedb: FakeDB, clock: Clock, stack: ExitStack) -> None:
    """With thread-local, 256 threads that have a connection cost another one what one of them costs it."""
    made = stack.enter_context(Database(creator=fakedb.connect, strategy="thread-local", clock=clock))
    over = threading.Event()

    def operation() -> None:
        made.engine.release(made.engine.acquire())

    def crowd(size: int) -> None:
        ready = threading.Barrier(size + 1)

        def work() -> None:
            operation()
            ready.wait(60)
            over.wait(60)

        for _ in range(size):
            thread = threading.Thread(target=work)
            thread.start()
            stack.callback(thread.join)
        stack.callback(over.set)  # it is called before they are joined
        ready.wait(60)

    crowd(1)
    few = steps(operation)
    crowd(255)
    assert made.stats().open == 257
    assert steps(operation) == few
