"""One replica: whether it can be used now, and whether it has what a request needs to see."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from ..drivers.activity import Activity
from ..drivers.states import Position
from ..errors import DatabaseUnavailable
from ..strategies import Request, Slot, named
from .positions import covers, merged

if TYPE_CHECKING:
    from ..database import Database

log = logging.getLogger("wsgidb")

PROBE = 0.5
"""Seconds for which a request waits for a replica's connection, and for its answer, before it goes elsewhere."""
PAUSE = 1.0
"""Seconds for which a replica in trouble is left alone. Then one request tries it."""
KEPT = 100
"""How many servers are remembered, of which an address may have led to several."""


class Replica:
    """A replica as one process knows it. Nothing here waits for another thread.

    The attributes are set in one step each, by any thread. A forked child may go on with its parent's."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._engine = database.engine
        self._clock = database.clock
        self._reached: dict[str, Position] = {}  # by server: an address may lead to several, such as a balancer's
        self._retry_at: float | None = None  # when it may be tried again, while it is in trouble
        self._claims: dict[float, object] = {}  # for a `_retry_at`: whoever tries

    def is_known_to_have(self, needed: Position) -> bool:
        """Whether one of the servers behind the address has reached the position, as far as is known."""
        return any(covers(reached, needed) for reached in list(self._reached.values()))

    def take(self, request: Request | None, needed: Position | None) -> Slot | None:
        """A slot of a server that has reached the position. None if there is none, or it is in trouble.

        Blocks up to `PROBE`, and asks the server what it has reached if that is not known to be enough."""
        now = self._clock()
        if self._retry_at is not None and not self._claim(now):
            return None
        engine = self._engine
        try:
            slot = engine.acquire(request, now + PROBE)
        except DatabaseUnavailable as error:
            self._fail(error.text)
            return None
        if needed is not None and not covers(self._reached.get(slot.server or "", {}), needed):
            try:
                self._ask(slot, now + PROBE)
            except Exception as error:  # noqa: BLE001 - whatever it is, the connection is of no use
                slot.fault = "the replica did not tell its position"
                engine.release(slot)
                self._fail(f"it did not tell its position: {type(error).__name__}: {error}")
                return None
            except BaseException:
                slot.fault = "interrupted"
                engine.release(slot)
                raise
        if self._retry_at is not None:
            self._retry_at = None
            log.warning("%s: reads go to this replica again", self.database.settings.address)
            self._engine.process.note("recovery", "reads go to this replica again")
        if needed is not None and not covers(self._reached[slot.server or ""], needed):
            engine.release(slot)
            return None
        return slot

    def _ask(self, slot: Slot, deadline: float) -> None:
        server, position = self._engine.driver.reached(slot.raw, deadline)
        if len(self._reached) >= KEPT:
            self._reached = {}
        self._reached[server] = merged([self._reached.get(server, {}), position])
        slot.server = server

    def _claim(self, now: float) -> bool:
        """Whether it is time to try a replica in trouble, and no other thread does."""
        due = self._retry_at
        if due is None or now < due:
            return due is None
        mine = object()
        if self._claims.setdefault(due, mine) is not mine:  # atomic
            return False
        self._retry_at, self._claims = now + PROBE + PAUSE, {due: mine}
        return True

    def _fail(self, cause: str) -> None:
        begins = self._retry_at is None
        self._retry_at = self._clock() + PAUSE
        if begins:
            log.warning("%s: reads do not go to this replica for now: %s", self.database.settings.address, cause)
            self._engine.process.note("outage", f"reads do not go to this replica for now: {cause}")


def explain_refusals(database: Database) -> None:
    """Let the log tell of each statement that a replica refuses because it writes, as the error says nothing about
    replicas."""
    engine = database.engine
    classify, refused_write = engine.classify, engine.driver.refused_write
    explained: Any = None

    def classify_and_explain(activity: Activity, error: BaseException) -> str | None:
        nonlocal explained
        if refused_write(error) and activity.lease not in (None, explained):  # some drivers raise an error twice
            explained = activity.lease
            requests = [slot.request for slot in list(engine.process.open) if slot.activity is activity]
            log.warning(
                "%s: a write was refused, as the request was sent to a replica, %s; requests that write are told by "
                "replica_if, and can use the primary's connection: %r",
                named(requests[0] if requests else None),
                database.settings.address,
                error,
            )
        return classify(activity, error)

    engine.classify = classify_and_explain  # type: ignore[method-assign]
