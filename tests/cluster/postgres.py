"""The scenarios of PostgreSQL: a primary with a synchronous standby, and PgBouncer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg

from cluster.ledger import Row
from cluster.scenarios import CLIENTS, MORE, Stage, do_together, run
from faults.load import Seen, Site
from support.pgbouncer import PgBouncer
from support.postgresql import PostgreSQL
from support.replication import postgresql_replication
from support.waiting import until
from wsgidb import Database, DatabaseUnavailable

KILLED = "kill -9 of the primary; the standby is promoted"
SWITCHED = "planned switch-over: the primary is shut down, the standby is promoted"
RESTARTED = "PgBouncer is killed and started again"
TOGETHER = "two programs write, each to a table of its own"
EACH = 500


def rows(only: str, retries: tuple[int, ...]) -> Iterator[Row]:
    for name, fault in ((KILLED, killed), (SWITCHED, shut_down)):
        if only.lower() in f"{name} postgresql, hosts".lower():
            for retry in retries:
                with primary_and_standby() as stage:
                    yield run(name, stage, fault, retry)
    if only.lower() in f"{RESTARTED} {TOGETHER} postgresql, pgbouncer".lower():
        # With fewer sessions than clients, if they take turns.
        for pool_mode, sessions in (("transaction", CLIENTS // 2), ("session", CLIENTS)):
            with PostgreSQL() as server, PgBouncer(server, pool_mode, sessions) as bouncer:
                servers = f"PostgreSQL, PgBouncer ({pool_mode} pooling)"
                stage = Stage(bouncer.url(), servers, lambda server=server: server, {"bouncer": bouncer})  # type: ignore[misc]
                for retry in retries:
                    yield run(RESTARTED, stage, restarted, retry)
                yield together(server, bouncer, servers)


@contextmanager
def primary_and_standby() -> Iterator[Stage]:
    """Each commit waits until the standby has it, too."""
    with postgresql_replication(1) as found:
        primary, standby = found.primary, found.replicas[0]
        until(lambda: primary.query("SELECT 1 FROM pg_stat_replication WHERE state = 'streaming'"), 30, "streaming")
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        until(lambda: primary.query("SELECT 1 FROM pg_stat_replication WHERE sync_state <> 'async'"), 30, "synchrony")
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        url = f"postgresql+psycopg://guest@{hosts}/test?target_session_attrs=read-write"

        def settle() -> PostgreSQL:
            return primary if primary.running else standby

        yield Stage(url, "PostgreSQL, hosts", settle, {"primary": primary, "standby": standby})


def killed(stage: Stage, site: Site, seen: Seen) -> None:
    stage.parts["primary"].kill()
    promote(stage)
    seen.more(count=MORE)


def shut_down(stage: Stage, site: Site, seen: Seen) -> None:
    """A primary that is shut down waits until the standby has everything."""
    stage.parts["primary"].stop()
    promote(stage)
    seen.more(count=MORE)


def promote(stage: Stage) -> None:
    assert stage.parts["standby"].query("SELECT pg_promote()") == [(True,)]


def restarted(stage: Stage, site: Site, seen: Seen) -> None:
    stage.parts["bouncer"].restart()
    seen.more(count=MORE)


def together(server: PostgreSQL, bouncer: PgBouncer, servers: str) -> Row:
    """Two programs behind the same pooler. What is in the other one's table counts as lost."""
    tables = ("mine", "theirs")
    answers: list[str] = []  # of all threads: one step adds to it, other than to a count
    told: dict[str, set[int]] = {table: set() for table in tables}
    for table in tables:
        server.execute(f"CREATE TABLE {table} (number INT)")

    def program(table: str, base: int) -> None:
        with Database(bouncer.url(), transaction="autocommit", pool_size=CLIENTS // 2) as database:

            def work(first: int) -> None:
                for number in range(first, base + EACH, CLIENTS // 2):
                    try:
                        with database.connection() as conn, conn.cursor() as cursor:
                            cursor.execute(f"INSERT INTO {table} VALUES (%s)", (number,))
                    except DatabaseUnavailable:
                        answers.append("503")
                    except psycopg.Error as error:
                        answers.append(f"refused: {error}")
                    else:
                        answers.append("served")
                        told[table].add(number)

            do_together(work, range(base, base + CLIENTS // 2))

    bases = {table: position * EACH for position, table in enumerate(tables)}
    do_together(lambda position: program(tables[position], bases[tables[position]]), range(2))
    lost = twice = refused = 0
    for table in tables:
        found = Counter(int(number) for (number,) in server.query(f"SELECT number FROM {table}"))
        own = set(range(bases[table], bases[table] + EACH))
        lost += len(told[table] - set(found))
        twice += sum(count - 1 for count in found.values())
        refused += len(set(found) & own - told[table])
        server.execute(f"DROP TABLE {table}")
    return Row(TOGETHER, servers, 0, len(answers), Counter(answers), 0, 0, lost, twice, refused, 0, 0, lost == 0)
