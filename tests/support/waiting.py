"""Waiting for other threads and processes: for a condition, never for an amount of time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], timeout: float = 10, what: str = "a condition") -> T:
    """Poll *condition* until it is true and return what it returned; AssertionError after *timeout* seconds.

    The pauses start short, for things that take a millisecond, and grow to 20 ms so that a long
    wait does not slow down the very process it waits for.
    """
    deadline = time.monotonic() + timeout
    pause = 0.0005
    while True:
        # The time is read first: a condition that became true during a long pause still counts.
        late = time.monotonic() >= deadline
        if result := condition():
            return result
        if late:
            raise AssertionError(f"waited {timeout:g} s in vain for {what} (last value: {result!r})")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


def until_awaited(event: threading.Event, timeout: float = 10) -> None:
    """Wait until a thread is inside of ``event.wait()``. Who says by another event that it is about to wait has not got
    there yet."""
    private: Any = event  # an Event tells nobody who waits for it
    until(lambda: private._cond._waiters, timeout, "a thread to wait for the event")
