"""When a server that fails may be tried again: one prober at a time, at growing intervals."""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST, LAST = 0.05, 1.0
"""Seconds until the first and, at the most, until any later try; each is shortened by up to half, at random."""


class Backoff:
    """Guarded by its process's lock, but for `holds`, which only reads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0  # failed probes in a row, and the failure that began them
        self._retry_at = 0.0
        self._probing = False
        self.cause: str | None = None
        """The last failure, while it lasts."""

    def holds(self) -> bool:
        """Whether a connect would be refused now."""
        return self._failures > 0 and (self._probing or self._clock() < self._retry_at)

    def held_until(self) -> float:
        """When a connect may be tried again, as far as is known; 0: now."""
        if not self.holds():
            return 0.0
        return self._clock() + LAST if self._probing else self._retry_at

    def begin(self) -> bool | None:
        """Ask to connect. None: not now. Else whether this is a probe, to be told to what ends it."""
        if self.holds():
            return None
        self._probing = self._failures > 0
        return self._probing

    def succeeded(self) -> bool:
        """A connect succeeded. Returns whether that ends an outage."""
        ended = self._failures > 0
        self._failures = 0
        self._probing = False
        self.cause = None
        return ended

    def failed(self, probe: bool, cause: str) -> bool:
        """A connect failed. Returns whether that begins an outage; several that were under way count once."""
        begins = self._failures == 0
        self.cause = cause
        if begins or probe:
            self._failures += 1
            longest = min(LAST, FIRST * 2.0 ** min(self._failures - 1, 10))
            self._retry_at = self._clock() + random.uniform(longest / 2, longest)
        self.cut_short(probe)
        return begins

    def cut_short(self, probe: bool) -> None:
        """A connect ended without telling anything about the server."""
        if probe:
            self._probing = False
