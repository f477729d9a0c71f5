"""Each lease ends once, however many threads end it, and however quickly they follow each other."""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from strategies.kit import together
from support.fakedb import FakeDB
from wsgidb import Database
from wsgidb.lease import state
from wsgidb.lease.proxy import settle

ROUNDS, THREADS = 300, 4


@pytest.fixture
def fast_switches() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def rounds(fakedb: FakeDB, count: int, threads: int) -> Counter[int]:
    """How often a lease was released so many times: with each lease several threads race to end it."""
    with Database(creator=fakedb.connect, pool_size=1) as database:
        engine: Any = database._engine
        release, released, counted = engine.release, Counter[int](), threading.Lock()

        def counting(slot: Any, *args: Any) -> None:
            with counted:
                released[current[0]] += 1
                first = released[current[0]] == 1
            if first:
                release(slot, *args)

        engine.release = counting
        current = [0]
        leases: list[Any] = [None]

        def prepare() -> None:
            current[0] += 1
            leases[0] = database.lease()

        start = threading.Barrier(threads, prepare)

        def end() -> None:
            for _ in range(count):
                start.wait(30)
                settle(leases[0], success=False)
                start_over.wait(30)

        start_over = threading.Barrier(threads)
        together([end] * threads, timeout=60)
        engine.release = release
        return Counter(released.values())


def test_one_thread_ends_a_lease(fakedb: FakeDB, fast_switches: None) -> None:
    """R6, S4: of several threads exactly one gives the connection back."""
    assert rounds(fakedb, ROUNDS, THREADS) == {1: ROUNDS}


def taken_apart(delete: Callable[[Any], None], seconds: float) -> Callable[[Any], None]:
    """The same as without the GIL: it is looked whether the attribute is set before it is deleted. Between the two,
    another thread has so many seconds to get as far."""
    both = threading.Barrier(2)

    def deleting(proxy: Any) -> None:
        state.get_slot(proxy)
        with suppress(threading.BrokenBarrierError):
            both.wait(seconds)
        with suppress(AttributeError):  # C code that has looked before does not look again
            delete(proxy)

    return deleting


@pytest.mark.parametrize(("locked", "seconds", "ends"), [(False, 10, 2), (True, 0.3, 1)])
def test_a_lock_makes_it_one_step(
    fakedb: FakeDB, monkeypatch: pytest.MonkeyPatch, locked: bool, seconds: float, ends: int
) -> None:
    """R6: where deleting is no single step, two threads would end a lease; with the lock of `one_at_a_time` not."""
    apart = taken_apart(state.drop_slot, seconds)
    monkeypatch.setattr("wsgidb.lease.proxy.drop_slot", state.one_at_a_time(apart) if locked else apart)
    assert rounds(fakedb, 1, threads=2) == {ends: 1}
