"""The back-off: when a server to which connecting failed may be tried again.

Connecting is tried by one probe at a time, at growing intervals, so that a server that is in trouble is not stormed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

FIRST, LAST = 0.05, 1.0
"""Seconds until the first retry, and the most seconds until any later one. Each interval is shortened at random by up
to half."""


class Backoff:
    """The back-off of one process. Its caller holds the process's lock, except for `holds`, which only reads."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0  # the failure that began the outage, and the failed probes since then
        self._retry_at = 0.0
        self._probing = False
        self.cause: str | None = None
        """The text of the latest failure, or None while connecting works."""

    def holds(self) -> bool:
        """Whether a connect would be refused now."""
        return self._failures > 0 and (self._probing or self._clock() < self._retry_at)

    def held_until(self) -> float:
        """When a connect may be tried again, on the clock; 0 means now. While a probe is under way nobody knows when it
        ends, so that this is a time to ask again."""
        if not self.holds():
            return 0.0
        return self._clock() + LAST if self._probing else self._retry_at

    def begin(self) -> bool | None:
        """Ask for permission to connect. None means that it is refused.

        Otherwise returns whether this connect is the probe, and `succeeded`, `failed` or `cut_short` must follow."""
        if self.holds():
            return None
        self._probing = self._failures > 0
        return self._probing

    def succeeded(self) -> bool:
        """Note that a connect succeeded. Returns whether that ends an outage."""
        ended = self._failures > 0
        self._failures = 0
        self._probing = False
        self.cause = None
        return ended

    def failed(self, probe: bool, cause: str) -> bool:
        """Note that a connect failed. Returns whether that begins an outage.

        Several connects that were under way together count as one failure."""
        begins = self._failures == 0
        self.cause = cause
        if begins or probe:
            self._failures += 1
            longest = min(LAST, FIRST * 2.0 ** min(self._failures - 1, 10))
            self._retry_at = self._clock() + random.uniform(longest / 2, longest)
        self.cut_short(probe)
        return begins

    def cut_short(self, probe: bool) -> None:
        """Note that a connect ended without showing anything about the server."""
        if probe:
            self._probing = False
