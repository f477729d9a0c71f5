"""S2, S5: an exception of a timer, or a signal handler that uses the Database itself, at the worst moment."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import CodeType, FrameType
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import POOLS
from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import Database, DatabaseUnavailable
from wsgidb.pool.backoff import LAST, Backoff
from wsgidb.pool.connector import Connector
from wsgidb.strategies.pooled import Pooled


class Timeout(BaseException):
    """As a worker's timer raises it, in whatever line the thread is."""


def at_line(
    number: int, functions: tuple[Any, ...], act: Callable[[], None], run: Callable[[], Any], unit: str = "line"
) -> bool:
    """Run something, and act at the nth line (or opcode) of these functions that is reached, as a signal handler would.
    Returns whether that line was reached."""
    codes: set[CodeType] = {function.__code__ for function in functions}
    left = number

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        frame.f_trace_opcodes = unit == "opcode"
        if event == unit:
            left -= 1
            if left == 0:  # what happens in there is not traced
                act()
        return trace

    sys._getframe().f_trace_opcodes = unit == "opcode"  # Python 3.12 must know it before
    sys.settrace(lambda frame, event, _: trace if frame.f_code in codes else None)
    try:
        run()
    finally:
        sys.settrace(None)
    return left <= 0


def timeout() -> None:
    raise Timeout


def test_a_probe_that_is_interrupted_anywhere(fakedb: FakeDB, make: MakeDatabase, clock: Clock) -> None:
    """S5, S2: wherever in connecting a timer strikes during an outage, another probe follows, and no place is lost."""
    functions = (Connector.open, Connector._connect, Backoff.begin, Backoff.ended, Backoff.succeeded)
    number = 0
    reached = True
    while reached:
        number += 1
        database = make(creator=fakedb.connect, pool_size=2, clock=clock)
        fakedb.fail("connect", FakeDB.OperationalError("down"))
        with pytest.raises(DatabaseUnavailable):
            database.lease()
        clock.advance(LAST)
        try:
            reached = at_line(number, functions, timeout, database.check)
        except Timeout:
            pass
        with database.connection(), database.connection():
            assert database.stats().open == 2, f"line {number}"
        database.close()
    assert number > 20, "that many lines were tried"


@pytest.mark.parametrize("strategy", POOLS)
def test_a_signal_handler_that_uses_the_database(fakedb: FakeDB, make: MakeDatabase, strategy: str) -> None:
    """S2: wherever in taking a slot it comes, pool_size holds, then and later."""
    functions = (Pooled.take, Pooled._take, Pooled._claim, Pooled._full_until, Pooled._serve)
    number = 0
    reached = True
    while reached:
        number += 1
        database = make(creator=fakedb.connect, pool_size=3, strategy=strategy, acquire_timeout=0.001)
        leases = [database.lease(), database.lease()]
        lease = partial(_try, database, leases)
        reached = at_line(number, functions, lease, lease)
        for _ in range(3):
            lease()
        assert len({id(conn.driver_connection) for conn in leases}) == database.stats().open == 3, f"line {number}"
        for conn in leases:
            conn.close()
        with ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(database.connection())
            assert database.stats().open == 3
        database.close()
    assert number > 5, "that many lines were tried"


def _try(database: Database, leases: list[Any]) -> None:
    try:
        leases.append(database.lease())
    except DatabaseUnavailable:
        pass
