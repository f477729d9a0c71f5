"""The positions of what leases have written on the primary: each is noted when its lease ends, before the connection
goes back."""

from __future__ import annotations

from typing import Any, Protocol

from ..drivers.states import Position
from ..lease.state import written_of
from ..pool.engine import Engine
from ..strategies import Slot


class Reader(Protocol):
    """What wants to know the position of a lease's writes (see `lease.state`)."""

    def note(self, position: Position | None) -> None:
        """Take a position that covers all that the lease has committed; None if it is not known."""


def follow(engine: Engine) -> None:
    """Let leases of this engine that end from now on tell their readers what they have written.

    It replaces two methods of this one engine, so that all others pay nothing for it. Where the server has to be asked,
    that takes a round trip at the end of the lease, and ping_timeout at the most. An error does not matter to the
    lease: then the position is not known."""
    commit, release, driver = engine.commit, engine.release, engine.driver

    def written(slot: Slot, reader: Any) -> Position | None:
        """What has been committed since this was last called, for the connection's earlier leases, too."""
        ran = slot.activity.statements != slot.seen
        deadline = engine.clock() + engine.settings.ping_timeout
        try:
            return driver.written(slot.raw, deadline, ask=reader is not None and ran)
        except Exception:  # noqa: BLE001 - whatever it is, the position is not known
            return None

    def commit_and_tell(slot: Slot) -> None:
        reader = written_of(slot.activity.lease)
        try:
            commit(slot)
        except BaseException:
            if reader is not None:
                reader.note({} if slot.fault is None else None)  # else the server may have committed
            raise
        position = written(slot, reader)
        if reader is not None:
            reader.note(position)

    def tell_and_release(slot: Slot, rollback_expected: bool = False) -> None:
        lease = slot.activity.lease
        if lease is not None and slot.process.mark[0]:  # else it has been committed, or is a parent's
            reader = written_of(lease)
            busy = slot.activity.end_lease()
            position = None if busy else written(slot, reader)
            if reader is not None:
                reader.note(position)
        release(slot, rollback_expected)

    engine.commit, engine.release = commit_and_tell, tell_and_release  # type: ignore[method-assign]
