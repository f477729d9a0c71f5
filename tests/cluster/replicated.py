"""The scenarios of MariaDB with a replica."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager

import pymysql

from cluster.ledger import Row
from cluster.scenarios import MORE, Stage, run
from faults.load import Seen, Site
from support.client import connect
from support.mariadb import MariaDB
from support.replication import mariadb_replication

SWITCHED = "planned switch-over: the primary becomes read-only, the replica takes writes"


def rows(only: str, retries: tuple[int, ...]) -> Iterator[Row]:
    if only.lower() in f"{SWITCHED} mariadb, hosts".lower():
        for retry in retries:
            with primary_and_replica() as stage:
                yield run(SWITCHED, stage, switched, retry)


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
