"""A clock that only a test moves."""

from __future__ import annotations

import time


class Clock:
    """Monotonic seconds that stand still until a test advances them.

    Code under test takes its clock as a callable, so half an hour of idling costs a test nothing
    and happens at the same instant in every run.
    """

    def __init__(self, now: float = 1000.0) -> None:
        # Not 0.0: code that takes "never" and "at zero" for the same thing should be caught.
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> float:
        """Move on by *seconds* and return the new time; backwards is refused, as a monotonic clock would."""
        if seconds < 0:
            raise ValueError(f"a monotonic clock cannot go back by {-seconds} s")
        self.now += seconds
        return self.now


class RunningClock(Clock):
    """A clock that also goes on by itself, for what waits in real time."""

    def __call__(self) -> float:
        return self.now + time.monotonic()
