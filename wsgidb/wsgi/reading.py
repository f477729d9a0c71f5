"""The response to a request that only reads, as far as is known: it has the connection of a replica, and beside it a
lease of the primary, which acquires when it is first used."""

from __future__ import annotations

from ..lease.proxy import ConnectionProxy, interrupt, settle
from ..lease.state import end_first_use, first_use_of, slot_of
from ..scale.positions import Needed
from .exchange import CommitFailed, HeldExchange, Write
from .positions import Headers, Names, Telling
from .timing import TimedExchange


class ReadingExchange(Telling, HeldExchange):
    """Holds the head back until the lease of the primary is committed, and adds the position of what that has written.
    Its `conn` is that lease."""

    __slots__ = ("_over", "names", "needed", "noted", "renews", "replica")
    replica: ConnectionProxy | None
    """The lease of the replica; None if the request reads from the primary, whose lease another exchange ends."""

    def follow(self, names: Names, needed: Needed | None, renews: bool, replica: ConnectionProxy | None) -> None:
        """Set what the constructor, which is that of all exchanges, does not know."""
        self.names, self.needed, self.renews, self.noted = names, needed, renews, None
        self.replica, self._over = replica, False

    def send(self) -> None:
        if not self.sent and (self.renews or self.noted is not None or not self._over):
            self.headers = self.with_position(self.headers, self.conn)
        super().send()

    def tell(self, status: str, headers: Headers) -> Write:
        """Send another head in place of the application's, with the position."""
        return self.server(status, self.with_position(headers, self.conn))

    def complete(self) -> None:
        if self.replica is not None:
            try:
                settle(self.replica, self._reads_well())
            except BaseException as error:
                super().interrupt(error)
                if self.sent or not isinstance(error, Exception):
                    raise
                raise CommitFailed from error  # it is one of the primary, as no replica was to be had
        self._over = True
        if first_use_of(self.conn) is not None and end_first_use(self.conn) is None and not self.filled:
            return self.send()  # as usual, the primary was not used
        super().complete()

    def _reads_well(self) -> bool:
        """Whether the lease is to be committed if it is one of the primary after all."""
        slot = None if self._veto is None or self.replica is None else slot_of(self.replica)
        if self._veto is None or slot is None or not slot.engine.commits:
            return True
        return self.status is not None and not self._veto(self.environ, self.status, self.headers)

    def interrupt(self, error: BaseException | None) -> None:
        try:
            if self.replica is not None:
                interrupt(self.replica, error)
        finally:
            super().interrupt(error)

    def has(self, lease: object) -> bool:
        return lease is self.replica or super().has(lease)


class TimedReadingExchange(TimedExchange, ReadingExchange):
    """The same, with the header Server-Timing, which tells of the replica's connection."""

    __slots__ = ()
