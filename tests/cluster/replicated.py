"""The scenarios of MariaDB with a replica."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import pymysql

from cluster.ledger import Row
from cluster.scenarios import CLIENTS, MORE, Fault, Stage, do_together, run
from faults.load import Answer, Seen, Site
from support.client import connect
from support.mariadb import MariaDB
from support.replication import MariaDBReplica, mariadb_replication

TROUBLES: dict[str, Callable[[MariaDBReplica], object]] = {
    "lags 1 s": lambda replica: replica.delay(1),
    "lags 5 s": lambda replica: replica.delay(5),
    "applies nothing": lambda replica: replica.pause(),
    "is killed": lambda replica: replica.kill(),
    "freezes": lambda replica: replica.freeze(),
}
EACH = 30
"""How often each client writes and reads, before the trouble and in it."""
SWITCHED = "planned switch-over: the primary becomes read-only, the replica takes writes"


def rows(only: str, retries: tuple[int, ...]) -> Iterator[Row]:
    if only.lower() in f"{SWITCHED} mariadb, hosts".lower():
        for retry in retries:
            with primary_and_replica() as stage:
                yield run(SWITCHED, stage, switched, retry)
    for name, trouble in TROUBLES.items():
        scenario = f"clients read what they have just written; the replica {name}"
        if only.lower() in f"{scenario} mariadb, replicas".lower():
            with primary_with_replicas() as stage:
                row = run(scenario, stage, reading(trouble))
                yield replace(row, lost=row.lost + stage.parts["stale"])


@contextmanager
def primary_with_replicas() -> Iterator[Stage]:
    """Reads go to the replica, with `replicas`."""
    with mariadb_replication(1) as found:
        options = {"replicas": [replica.url() for replica in found.replicas]}
        yield Stage(
            found.primary.url(), "MariaDB, replicas", lambda: found.primary, {"replication": found}, options=options
        )


def reading(trouble: Callable[[MariaDBReplica], object]) -> Fault:
    """Beside the usual load, clients write and then read what they have written. What they do not see is stale."""

    def fault(stage: Stage, site: Site, seen: Seen) -> None:
        (replica,) = stage.parts["replication"].replicas
        stale: list[Answer] = []

        def client(_: int) -> None:
            for _ in range(EACH):
                number = next(site.numbers)
                told = site.get(f"/transfer/{number}", "PUT")
                seen.append(told)
                if told.kind == "served":
                    found = site.get(f"/read/{number}", position=told.position)
                    if found.body == "0":
                        stale.append(found)

        do_together(client, range(CLIENTS))
        trouble(replica)
        do_together(client, range(CLIENTS))
        replica.heal()
        stage.parts["stale"] = len(stale)

    return fault


@contextmanager
def primary_and_replica() -> Iterator[Stage]:
    with mariadb_replication(1) as found:
        primary, replica = found.primary, found.replicas[0]
        url = f"mysql+pymysql://guest@127.0.0.1:{primary.port},127.0.0.1:{replica.port}/test"

        def settle() -> MariaDB:
            return replica if primary.query("SELECT @@read_only") == [(1,)] else primary

        yield Stage(f"{url}?target_session_attrs=read-write", "MariaDB, hosts", settle, {"replication": found})


def switched(stage: Stage, site: Site, seen: Seen) -> None:
    found = stage.parts["replication"]
    (replica,) = found.replicas
    make_read_only(found.primary)
    found.caught_up()
    replica.execute("STOP SLAVE")
    replica.execute("SET GLOBAL read_only = 0")
    seen.more(count=MORE)


def make_read_only(server: MariaDB) -> None:
    """It waits for statements to end, and no other one begins meanwhile; they may wait for rows that an open
    transaction holds, which then cannot go on. So it must give up soon, and try again."""
    session = connect(server.url("root"), autocommit=True)
    with closing(session), session.cursor() as cursor:
        cursor.execute("SET SESSION lock_wait_timeout = 1")
        while True:
            try:
                cursor.execute("SET GLOBAL read_only = 1")
            except pymysql.OperationalError as error:
                if error.args[0] != 1205:
                    raise
            else:
                return
