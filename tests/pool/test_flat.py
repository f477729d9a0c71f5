"""Scale: an acquire and a release cost the same steps, however many connections, threads or Databases there are.

Each bytecode that is executed and each call of a C function is one step: no clock is read.
"""

from __future__ import annotations

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

WARM_UP = 3


def steps(operation: Callable[[], object]) -> Counter[str]:
    """The steps of one operation in this thread, when it has run before."""
    for _ in range(WARM_UP):
        operation()
    found: Counter[str] = Counter()

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        found[event] += event == "opcode"
        return trace

    def profile(frame: FrameType, event: str, _: Any) -> None:
        found[event] += event == "c_call"

    before = sys.gettrace(), sys.getprofile()
    try:
        sys.settrace(trace)
        operation()
        sys.settrace(None)
        sys.setprofile(profile)
        operation()
    finally:
        sys.setprofile(before[1])
        sys.settrace(before[0])
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
    assert few["opcode"] > 100
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
