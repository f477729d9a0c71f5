"""When a pool is overloaded, and how many callers may then wait.

The rule for the beginning is CoDel's (https://www.rfc-editor.org/rfc/rfc8289): an overload begins when, for a whole
interval, every caller that was served had waited longer than the target and the queue was never empty. A burst that is
shorter leaves no trace. A pool that is merely slow needs longer than the interval to serve as many as are asked for
here; at a load of 80 or 90 % the queue is empty now and then before that.

During an overload the queue is kept as short as the connections need in order not to be idle: half as many callers
wait as there are connections. So each of them waits about half as long as a connection is held, and every other caller
is refused at once. CoDel and DBConnection limit the time in the queue instead. Refused callers would then wait that
long, too, and each of them is a thread of the server which could serve the next request.

As the queue is short then, the time in it no longer tells whether the overload is over. The difference between two
counts tells it: callers that are refused, and connections that come back while nobody waits for one. The former are
more while there are more requests than the connections can serve, and the latter are more as soon as there are fewer.
"""

from __future__ import annotations

from math import inf

SERVED = 500
"""How many callers in a row must have waited too long before an overload begins."""

DOUBT = 20
"""How many more connections must have come back unawaited than callers were refused before an overload ends. It is at
least this many, and four times the number of connections: all of them may come back in a gap between two callers."""


class Overload:
    """Decides whether a pool is overloaded. It does no I/O and reads no clock; its caller holds the pool's lock. Times
    are monotonic seconds."""

    __slots__ = ("_balance", "_interval", "_last", "_most", "_served", "_since", "_target", "began", "shedding")

    def __init__(self, target: float | None, interval: float) -> None:
        """An overload never begins if the target is None."""
        self._target = inf if target is None else target
        self._interval = interval
        self.shedding = False
        """Whether the pool is overloaded."""
        self.began = 0.0
        """When the latest overload began."""
        self._since: float | None = None  # since when every caller has waited too long, or None
        self._served = 0  # how many callers were served since then
        self._last = 0.0  # when the last connection was handed over during the overload
        self._balance = self._most = 0  # the overload ends at a balance of 0; it begins with the most

    def was_empty(self) -> None:
        """Note that a caller begins to wait before whom nobody was waiting."""
        self._since = None

    def handed(self, waited: float, now: float, connections: int) -> bool:
        """Note that a caller which has waited that many seconds was given one of so many connections. Returns whether
        this begins an overload."""
        if self.shedding:
            self._last = now
        elif waited <= self._target:
            self._since = None
        elif self._since is None:
            self._since, self._served = now, 1
        else:
            self._served += 1
            if self._served >= SERVED and now - self._since >= self._interval:
                self.shedding = True
                self.began = self._last = now
                self._balance = self._most = max(DOUBT, 4 * connections)
                return True
        return False

    def refuses(self, waiting: int, now: float, connections: int) -> bool:
        """During an overload: whether another caller is refused while so many are waiting."""
        if now - self._last >= self._interval:
            self._end()  # unseen, as nobody came; or each connection is held for so long that nothing is known
            return False
        if waiting < self.places(connections):
            return False
        self._balance = min(self._balance + 1, self._most)
        return True

    def unawaited(self) -> None:
        """During an overload: note that a connection came back while nobody was waiting for one."""
        self._balance -= 1
        if self._balance <= 0:
            self._end()

    @staticmethod
    def places(connections: int) -> int:
        """How many callers may wait during an overload."""
        return max(1, (connections + 1) // 2)

    def _end(self) -> None:
        self.shedding = False
        self._since = None
