"""A primary with replicas, of MariaDB (by GTID) and of PostgreSQL (streaming), whose lag a test decides."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from support.mariadb import MariaDB
from support.postgresql import PostgreSQL, find_program, run
from support.waiting import until

# A replica asks again at once when its primary is back, and notices within seconds that it hangs.
LOGGED = {"log_bin": "binlog", "gtid_strict_mode": True, "slave_net_timeout": 4}
STREAMED = {"wal_level": "replica", "max_wal_senders": 6, "wal_keep_size": "64MB", "hot_standby": "on"}


class MariaDBReplica(MariaDB):
    """A replica of *primary*. It begins with the same data as each new server, and applies all that came since."""

    def __init__(self, primary: MariaDB, number: int, read_only: bool = True, **variables: object) -> None:
        super().__init__(**LOGGED, log_slave_updates=True, server_id=number, read_only=read_only, **variables)  # type: ignore[arg-type]
        self.primary = primary
        self._follows = False

    def start(self, timeout: float = 30) -> None:
        """Start and follow the primary, which must run when the replica starts for the first time."""
        super().start(timeout)
        if not self._follows:
            self.execute(
                f"CHANGE MASTER TO MASTER_HOST='127.0.0.1', MASTER_PORT={self.primary.port}, MASTER_USER='root',"
                " MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1"
            )
            self.execute("START SLAVE")
            self._follows = True

    def delay(self, seconds: int) -> None:
        """Apply each transaction *seconds* after the primary has committed it, or up to one second earlier: the server
        counts whole seconds of the clock, so that a delay of 1 may be none."""
        self.execute("STOP SLAVE")
        self.execute(f"CHANGE MASTER TO MASTER_DELAY={seconds}")
        self.execute("START SLAVE")

    def pause(self) -> None:
        """Apply nothing until `resume`; what the primary sends is still received."""
        self.execute("STOP SLAVE SQL_THREAD")

    def resume(self) -> None:
        self.execute("START SLAVE SQL_THREAD")

    def heal(self) -> None:
        """End whatever a test has done to it."""
        self.thaw()
        self.start()
        self.delay(0)

    def has_caught_up(self) -> bool:
        """Whether it has applied what the primary has committed until now."""
        ((position,),) = self.primary.query("SELECT @@gtid_binlog_pos")
        return not position or self.query("SELECT MASTER_GTID_WAIT(%s, 0)", position) == [(0,)]


class PostgreSQLStandby(PostgreSQL):
    """A standby that streams from *primary*, which must run when the standby is made: it is a base backup."""

    def __init__(self, primary: PostgreSQL, **settings: object) -> None:
        self.primary = primary
        source = f"host=127.0.0.1 port={primary.port} user=root"
        super().__init__(**STREAMED, primary_conninfo=source, wal_retrieve_retry_interval="100ms", **settings)  # type: ignore[arg-type]

    def _make_data(self) -> None:
        self._hand_over()
        where = ("--host=127.0.0.1", f"--port={self.primary.port}", "--username=root", f"--pgdata={self.data}")
        run(find_program("pg_basebackup"), *where, "--checkpoint=fast", "--wal-method=stream", "--no-sync")
        (self.data / "standby.signal").touch()

    def delay(self, seconds: int) -> None:
        """Apply each transaction *seconds* after the primary has committed it."""
        self.execute(f"ALTER SYSTEM SET recovery_min_apply_delay = '{seconds}s'")
        self.execute("SELECT pg_reload_conf()")
        # A session begins with what the server's first process knows, which has told the process that applies by then.
        known = "SELECT setting::int FROM pg_settings WHERE name = 'recovery_min_apply_delay'"
        until(lambda: self.query(known) == [(1000 * seconds,)], what="the delay to be known")

    def pause(self) -> None:
        """Apply nothing until `resume`; what the primary sends is still received."""
        self.execute("SELECT pg_wal_replay_pause()")
        until(lambda: self.query("SELECT pg_get_wal_replay_pause_state()") == [("paused",)], what="the replay to pause")

    def resume(self) -> None:
        self.execute("SELECT pg_wal_replay_resume()")

    def heal(self) -> None:
        """End whatever a test has done to it."""
        self.thaw()
        self.start()
        self.delay(0)
        self.resume()

    def has_caught_up(self) -> bool:
        """Whether it has applied what the primary has committed until now."""
        ((position,),) = self.primary.query("SELECT pg_current_wal_lsn()")
        return self.query("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", position) == [(True,)]


P = TypeVar("P", MariaDB, PostgreSQL)
R = TypeVar("R", MariaDBReplica, PostgreSQLStandby)


@dataclass
class Replication(Generic[P, R]):
    """A primary and its replicas, all running. What is executed on the primary reaches the replicas."""

    primary: P
    replicas: list[R]

    def caught_up(self, timeout: float = 30) -> None:
        """Return when each replica has applied what the primary has committed until now."""
        for replica in self.replicas:
            until(replica.has_caught_up, timeout, what="a replica to catch up")

    def heal(self) -> None:
        """Start all servers that do not run, without any lag, and wait for the replicas to catch up."""
        self.primary.thaw()
        self.primary.start()
        for replica in self.replicas:
            replica.heal()
        self.caught_up()


MariaDBReplication = Replication[MariaDB, MariaDBReplica]
PostgreSQLReplication = Replication[PostgreSQL, PostgreSQLStandby]


@contextmanager
def mariadb_replication(replicas: int = 1, **variables: Any) -> Iterator[MariaDBReplication]:
    """A MariaDB primary with read-only replicas, started; *variables* are for all of them."""
    with ExitStack() as stack:
        primary = stack.enter_context(MariaDB(**{**LOGGED, "server_id": 1, **variables}))
        made = [MariaDBReplica(primary, 2 + i, **variables) for i in range(replicas)]
        for replica in made:
            stack.enter_context(replica)
        yield Replication(primary, made)


@contextmanager
def postgresql_replication(replicas: int = 1, **settings: Any) -> Iterator[PostgreSQLReplication]:
    """A PostgreSQL primary with streaming standbys, started; *settings* are for all of them."""
    with ExitStack() as stack:
        primary = stack.enter_context(PostgreSQL(**{**STREAMED, **settings}))
        made = [PostgreSQLStandby(primary, **settings) for _ in range(replicas)]
        for standby in made:
            stack.enter_context(standby)
        yield Replication(primary, made)
