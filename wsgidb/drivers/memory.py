"""What one process remembers about the hosts of a Database: which of them failed lately.

It has no lock: each step on a dictionary is atomic, and what two threads may do twice does no harm.
"""

from __future__ import annotations

import logging
import random

from ..config.settings import Settings
from .hosts import Place
from .states import Clock

log = logging.getLogger("wsgidb")

FIRST, LAST = 1.0, 30.0
"""For how many seconds a host comes last after its first failure, and at most. Each time is shortened at random by up
to half."""


class Trouble:
    """A host that failed, and has not given a connection since."""

    def __init__(self, now: float) -> None:
        self.since = self.until = now
        """When it failed first, and until when it comes last."""
        self.failures = 0
        self.cause: str | None = None


class Memory:
    """The hosts that failed lately, and those that are only a second choice."""

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self._address = settings.address
        self._clock = clock
        self._troubles: dict[str, Trouble] = {}
        self._second: dict[str, float] = {}
        self._latest: str | None = None

    def ordered(self, places: list[Place], shuffle: bool) -> list[Place]:
        """The hosts in the order in which to try them: those that failed lately come last, the oldest failure first."""
        order = list(places)
        if shuffle:
            random.shuffle(order)
        now = self._clock()

        def rank(place: Place) -> tuple[float, bool]:
            trouble = self._troubles.get(place.name)
            failed = trouble.until if trouble is not None and now < trouble.until else 0.0
            return failed, now < self._second.get(place.name, now)

        return sorted(order, key=rank)

    def trouble(self, place: Place) -> Trouble | None:
        """What is known about a host that has given no connection since it failed."""
        return self._troubles.get(place.name)

    def failed(self, place: Place, cause: str, again: bool) -> None:
        """Note a failure, and log its cause if that is another one. With `again` the host was known to fail, and was
        tried as there was no other."""
        now = self._clock()
        trouble = self._troubles.setdefault(place.name, Trouble(now))
        if trouble.cause != cause:
            trouble.cause = cause
            log.warning("%s: host %s fails: %s", self._address, place.name, cause)
        if not again:
            trouble.failures += 1
            trouble.until = now + _shortened(min(LAST, FIRST * 2.0 ** min(trouble.failures - 1, 10)))

    def answered(self, place: Place) -> None:
        """Note that a host has given a connection."""
        trouble = self._troubles.pop(place.name, None)
        if trouble is not None:
            seconds = self._clock() - trouble.since
            log.warning("%s: host %s works again, after %.1f s", self._address, place.name, seconds)

    def note_second_choice(self, place: Place, second: bool) -> None:
        """Note whether a host is only a second choice, such as a primary for prefer-standby. If so, it is tried after
        the others for a while."""
        if second:
            self._second[place.name] = self._clock() + _shortened(LAST)
        else:
            self._second.pop(place.name, None)

    def note_use(self, place: Place) -> None:
        """Note which host is used, where it is not chosen at random."""
        before, self._latest = self._latest, place.name
        if before not in (None, place.name):
            log.warning("%s: connecting to host %s now, no longer to %s", self._address, place.name, before)


def _shortened(seconds: float) -> float:
    return random.uniform(seconds / 2, seconds)
