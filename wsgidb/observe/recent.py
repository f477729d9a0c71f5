"""How long requests have waited for connections and used them lately, as against ever since the process began."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from ..pool.durations import Durations
from ..pool.stats import Stats

WINDOW = 300.0
"""Seconds that count as lately."""

STEP = 10.0
"""Seconds between two of the snapshots that are kept, at least."""


@dataclass(frozen=True)
class Recent:
    """The durations of the latest minutes."""

    seconds: float
    """How many seconds they cover."""
    wait_times: Durations
    """How long it took to acquire a connection."""
    use_times: Durations
    """How long leases lasted."""
    queue_times: Durations = field(default_factory=Durations)
    """How long the acquires that had to queue for a connection did so."""


class History:
    """The snapshots of the latest minutes. Its caller sees to it that one thread at a time uses it."""

    def __init__(self, now: float) -> None:
        self._began = now
        self._kept: deque[tuple[float, Stats | None]] = deque([(now, None)])

    def recent(self, stats: Stats, now: float) -> Recent:
        """Keep a snapshot that was taken now, and tell what is new in it since a few minutes ago."""
        if now - self._kept[-1][0] >= STEP:
            self._kept.append((now, stats))
        while len(self._kept) > 1 and now - self._kept[1][0] >= WINDOW:
            self._kept.popleft()
        since, then = self._kept[0]
        if then is None:
            return Recent(now - since, stats.wait_times, stats.use_times, stats.queue_times)
        return Recent(
            now - since,
            stats.wait_times - then.wait_times,
            stats.use_times - then.use_times,
            stats.queue_times - then.queue_times,
        )
