"""The replicas of a Database: which of them a request is sent to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ..config.url import Url
from ..database import Database
from ..errors import ConfigError
from ..strategies import Request, Slot
from .positions import PRIMARY, Needed
from .replica import Replica, explain_refusals
from .writes import follow


def replicas_of(primary: Database, given: tuple[Any, ...]) -> Replicas:
    """The replicas of a Database, the same for all of its middlewares that name the same ones. Raises ConfigError."""
    for known in primary.replica_sets:
        if known.given == given:
            return known  # type: ignore[no-any-return]
    made = Replicas(primary, given)
    if not primary.replica_sets:
        follow(primary.engine)
    primary.replica_sets.append(made)
    return made


class Replicas:
    """The replicas of one Database."""

    def __init__(self, primary: Database, given: tuple[Any, ...]) -> None:
        """Make the Databases of those that are given as urls. They are closed with the primary. Raises ConfigError."""
        driver = primary.engine.driver
        if not driver.replicates:
            raise ConfigError(f"replicas: {driver.name} cannot tell what a replica has", entry="config-replicas")
        databases = [
            _opened(primary, each, number) if isinstance(each, Url) else each for number, each in enumerate(given, 1)
        ]
        for database in databases:
            if type(database.engine.driver) is not type(driver):
                raise ConfigError(
                    f"replicas: {database.settings.address} needs another driver than the primary",
                    entry="config-replicas",
                )
            if database.engine.commits:
                raise ConfigError(
                    f"replicas: {database.settings.address} has transaction=request; nothing is committed on a "
                    "replica, so give it manual or autocommit",
                    entry="config-replicas",
                )
            explain_refusals(database)
        driver.track_writes()
        primary.replicas += databases
        self.given = given
        self._replicas = [Replica(database) for database in databases]
        self._orders = [self._replicas[turn:] + self._replicas[:turn] for turn in range(len(databases))]
        self._turn = 0

    def take(self, request: Request | None, needed: Needed | None) -> Slot | None:
        """A slot of a replica that has reached the position; they take turns. None if there is no such replica. Blocks
        up to `PROBE` for each."""
        if needed is not None and PRIMARY in needed:
            return None
        self._turn = turn = (self._turn + 1) % len(self._orders)
        for replica in self._orders[turn]:
            slot = replica.take(request, needed)
            if slot is not None:
                return slot
        return None

    def all_have(self, needed: Needed) -> bool:
        """Whether each replica has reached the position, as far as is known."""
        if not needed.everywhere:
            needed.everywhere = all(replica.is_known_to_have(needed) for replica in self._replicas)
        return needed.everywhere


def _opened(primary: Database, url: Url, number: int) -> Database:
    """The Database of a replica that is given as a url: with the options of the primary, and for reading only."""
    settings = primary.settings
    changed: dict[str, Any] = {
        "url": url,
        "name": None if settings.name is None else f"{settings.name} replica {number}",
        "transaction": "autocommit" if settings.transaction == "autocommit" else "manual",
        "init_sql": (*settings.init_sql, primary.engine.driver.read_only),
        "discard_read_only": False,  # it is meant to be
        "replicas": (),
    }
    database = Database(replace(settings, **changed))
    primary.owned_replicas.append(database)
    return database
