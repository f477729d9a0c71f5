"""The back-off: when a server to which connecting failed may be tried again.

Connecting is tried by one probe at a time, at growing intervals, so that a server that is in trouble is not stormed.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple
from weakref import ref

from ..errors import DatabaseUnavailable

FIRST, LAST = 0.05, 1.0
"""Seconds until the first retry, and the most seconds until any later one. Each interval is shortened at random by up
to half."""


class Attempt:
    """One attempt to connect. Whoever makes it keeps this object until it has ended."""

    __slots__ = ("__weakref__",)


class Outage(NamedTuple):
    """An outage that is over."""

    seconds: float
    """How long it lasted, from the first failure to the first success."""
    failures: int
    """How many attempts failed meanwhile, the first one included."""


class Backoff:
    """The back-off of one process. Its caller holds the process's lock, except for `holds`, which only reads.

    During an outage the attempt that is under way is the probe. It is known by a weak reference: an attempt that was
    interrupted at the worst moment, before it could tell how it ended, is over all the same once it is collected.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0  # the failure that began the outage, and the failed probes since then
        self._retry_at = 0.0
        self._all_failures = 0  # those of attempts that were under way together, too
        self._probe: Callable[[], Attempt | None] = _none
        self.cause: str | None = None
        """The text of the latest failure, or None while connecting works."""
        self.began = 0.0
        """When the latest outage began."""

    def refusal(self) -> DatabaseUnavailable:
        """The error for what needs a connection while an attempt would be refused."""
        return DatabaseUnavailable(
            f"not connecting again yet; last failure to connect: {self.cause}", entry="not-connecting-again"
        )

    def holds(self) -> bool:
        """Whether an attempt would be refused now."""
        return self._failures > 0 and (self._probe() is not None or self._clock() < self._retry_at)

    def held_until(self) -> float:
        """When an attempt may be made again, on the clock; 0 means now. While a probe is under way nobody knows when it
        ends, so that this is a time to ask again."""
        if not self.holds():
            return 0.0
        return self._retry_at if self._probe() is None else self._clock() + LAST

    def begin(self, attempt: Attempt) -> bool:
        """Ask for permission to connect. Returns whether it is granted; then one of `succeeded` and `failed` should
        follow, and `ended` in every case."""
        if self.holds():
            return False
        if self._failures:
            self._probe = ref(attempt)
        return True

    def succeeded(self) -> Outage | None:
        """Note that an attempt succeeded. Returns the outage that this ends, if there was one."""
        outage = Outage(self._clock() - self.began, self._all_failures) if self._failures else None
        self._failures = self._all_failures = 0
        self._probe = _none
        self.cause = None
        return outage

    def failed(self, attempt: Attempt, cause: str) -> bool:
        """Note that an attempt failed. Returns whether that begins an outage.

        Several attempts that were under way together count as one failure."""
        begins = self._failures == 0
        self.cause = cause
        self._all_failures += 1
        if begins:
            self.began = self._clock()
        if begins or self._probe() is attempt:
            self._failures += 1
            longest = min(LAST, FIRST * 2.0 ** min(self._failures - 1, 10))
            self._retry_at = self._clock() + random.uniform(longest / 2, longest)
        self.ended(attempt)
        return begins

    def ended(self, attempt: Attempt) -> None:
        """Note that an attempt is over, however it ended. By itself this says nothing about the server."""
        if self._probe() is attempt:
            self._probe = _none


def _none() -> None:
    """In place of a reference to the probe: there is none."""
