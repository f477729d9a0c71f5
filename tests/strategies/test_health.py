"""Health checks: what they answer, on real servers that fail and on pools that are busy; they never queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import POOLS, WiredBank, Worker, in_child, limited, run, session_of
from support.clock import Clock, RunningClock
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.waiting import until
from wsgidb import Database
from wsgidb.health import Health, health
from wsgidb.pool import backoff
from wsgidb.pool.backoff import LAST

ANSWERS = Health(True, "the database answers")
BUSY = Health(True, "all connections are in use")
DOWN = Health(False, "cannot connect: OperationalError")
BACK_OFF = Health(False, "not connecting again yet; last failure to connect: OperationalError")
AT_ONCE = 1.5
"""Seconds in which a check is over that waits for nothing, on a busy machine. One that waits takes 2 s at least, which
is ping_timeout."""


class Switched(FakeDB):
    """A server that can be switched off for further connections."""

    up = True

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        if self.up:
            return super().connect(*args, **kwargs)
        self.call(0, "connect")
        raise FakeDB.OperationalError("server is down")


@pytest.fixture
def server() -> Switched:
    return Switched()


def lease(database: Database) -> None:
    with database.connection() as conn:
        run(conn, "SELECT 1")


@contextmanager
def leases(database: Database, count: int) -> Iterator[list[Any]]:
    with ExitStack() as stack:
        yield [stack.enter_context(database.connection()) for _ in range(count)]


@contextmanager
def at_once(limit: float = AT_ONCE) -> Iterator[None]:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < limit


class TestFree:
    """A check uses an idle connection, or a place for another one."""

    def test_connects(self, make: MakeDatabase, server: Switched, strategy: str) -> None:
        """The first check opens a connection, which is no lease; the next request takes it."""
        database = make(creator=server.connect, strategy=strategy)
        assert health(database) == ANSWERS
        assert (database.stats().connects, database.stats().acquires) == (1, 0)
        assert (server.open_now, database.stats().open) == ((0, 0) if strategy == "per-request" else (1, 1))
        lease(database)
        assert database.stats().connects == (2 if strategy == "per-request" else 1)

    def test_used_lately(self, make: MakeDatabase, server: Switched, keeping: str, clock: Clock) -> None:
        """A connection that was used within ping_after proves it; later a ping does. A check is no use."""
        database = make(creator=server.connect, strategy=keeping, clock=clock, ping_after=2)
        lease(database)
        clock.advance(1.9)
        assert (health(database), database.stats().pings) == (ANSWERS, 0)
        for pings in (1, 2):
            clock.advance(0.1)
            assert (health(database), database.stats().pings) == (ANSWERS, pings)
        assert (database.stats().connects, database.stats().acquires) == (1, 1)

    def test_never_pinged_for_requests(self, make: MakeDatabase, server: Switched, keeping: str, clock: Clock) -> None:
        """With ping_after=none a check pings, as nothing else would tell that the server is frozen."""
        database = make(creator=server.connect, strategy=keeping, clock=clock, ping_after=None)
        lease(database)
        assert (health(database), database.stats().pings) == (ANSWERS, 1)

    def test_too_old(self, make: MakeDatabase, server: Switched, keeping: str, clock: Clock) -> None:
        """A connection that is too old is replaced by a check, too."""
        database = make(creator=server.connect, strategy=keeping, clock=clock, max_idle=5)
        lease(database)
        clock.advance(5)
        assert health(database) == ANSWERS
        assert (database.stats().connects, database.stats().retirements) == (2, {"unused": 1})

    def test_interrupted(self, make: MakeDatabase, server: Switched, clock: Clock) -> None:
        """A check that is interrupted loses no place of the pool."""
        database = make(creator=server.connect, pool_size=1, clock=clock)
        lease(database)
        clock.advance(1)
        server.fail("execute", KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            health(database)
        assert database.stats().discards == {"interrupted": 1}
        assert health(database) == ANSWERS

    @pytest.mark.server
    def test_fork(self, make: MakeDatabase, networked: WiredBank, strategy: str) -> None:
        """A forked child checks with a connection of its own, and leaves its parent's alone."""
        database = make(networked.url, strategy=strategy, ping_after=0)
        lease(database)
        with networked.proxy.counting() as seen:
            assert in_child(lambda: [health(database).ready, database.stats().connects]) == [True, 1]
            asked = [command for command in seen if command.startswith(networked.ping_command)]
        assert asked == [], "the parent's connection would have been pinged"
        if strategy != "per-request":
            assert (health(database), database.stats().pings, database.stats().connects) == (ANSWERS, 1, 1)


class TestBusy:
    """A check never waits for a connection that others use."""

    def test_all_leased(self, make: MakeDatabase, server: Switched) -> None:
        """A pool whose only connection is leased is ready at once, and so it is while a request waits for it."""
        database = make(creator=server.connect, pool_size=1, acquire_timeout=30)
        with database.connection():
            with at_once():
                assert health(database) == BUSY
            waiting = Worker(lambda: lease(database))
            until(lambda: database.stats().waiting == 1, what="the request to wait")
            with at_once():
                assert health(database) == BUSY
        waiting.outcome()
        assert (database.stats().waits, database.stats().timeouts, database.stats().refusals) == (1, 0, 0)

    @pytest.mark.parametrize("pool", POOLS)
    def test_no_request_is_overtaken(self, make: MakeDatabase, server: Switched, pool: str, clock: Clock) -> None:
        """While one check pings the only connection, another one is ready at once, and a request gets it next."""
        database = make(creator=server.connect, strategy=pool, pool_size=1, clock=clock)
        lease(database)
        clock.advance(1)
        gate = server.block("execute")
        checking = Worker(lambda: health(database))
        try:
            assert gate.entered.wait(10)
            waiting = Worker(lambda: lease(database))
            until(lambda: database.stats().waiting == 1, what="the request to wait")
            assert health(database) == BUSY
        finally:
            gate.open()
        assert checking.outcome() == ANSWERS
        waiting.outcome()
        assert database.stats().connects == 1


class TestBackOff:
    """While connecting fails, a process is not ready, unless it serves requests nevertheless."""

    def test_at_once_and_then_by_itself(
        self, make: MakeDatabase, server: Switched, strategy: str, clock: Clock
    ) -> None:
        """Checks respect the back-off, and the first one after it finds that the server is back."""
        database = make(creator=server.connect, strategy=strategy, clock=clock)
        server.up = False
        assert [health(database) for _ in range(3)] == [DOWN, BACK_OFF, BACK_OFF]
        assert server.count("connect") == 1
        server.up = True
        clock.advance(LAST)
        assert health(database) == ANSWERS

    def test_idle_connections_are_asked(self, make: MakeDatabase, server: Switched, clock: Clock) -> None:
        """While connecting fails, an idle connection proves nothing by its last use: it is pinged."""
        database = make(creator=server.connect, clock=clock)
        with leases(database, 1):
            server.up = False
            assert health(database) == DOWN
        assert (health(database), database.stats().pings) == (ANSWERS, 1)
        server.fail("execute", FakeDB.OperationalError("gone"))
        assert health(database) == BACK_OFF

    def test_what_is_leased_says_nothing_at_first(self, make: MakeDatabase, server: Switched, clock: Clock) -> None:
        """A connection that was leased before connecting began to fail is no sign of life; one that has come back
        since is: the server only refuses further connections."""
        database = make(creator=server.connect, clock=clock, pool_size=3)
        with leases(database, 2) as (first, _):
            server.up = False
            clock.advance(1)
            assert [health(database) for _ in range(2)] == [DOWN, BACK_OFF]
            clock.advance(0.01)
            first.close()
            with database.connection():
                assert health(database) == BUSY
                clock.advance(LAST)
                assert [health(database) for _ in range(2)] == [BUSY, BUSY]

    def test_a_connect_that_is_cut_short(self, make: MakeDatabase, clock: Clock) -> None:
        """Behind a ping that is not answered a connect has little time left. Its failure begins no back-off, and the
        next check gives it all of connect_timeout."""

        class Slow(Switched):
            def call(self, number: int, name: str, sql: str | None = None) -> None:
                clock.advance({"execute": 2.0, "connect": 3.0}.get(name, 0.0) * (not self.up))
                super().call(number, name, sql)

        server = Slow()
        database = make(creator=server.connect, clock=clock)
        lease(database)
        clock.advance(1)
        server.up = False
        server.fail("execute", FakeDB.OperationalError("timed out"))
        assert [health(database) for _ in range(3)] == [DOWN, DOWN, BACK_OFF]


@pytest.mark.server
class TestServers:
    """On real servers that fail."""

    def test_killed_and_started_again(
        self, make: MakeDatabase, own_mariadb: MariaDB, strategy: str, clock: Clock
    ) -> None:
        """A dead server is told with the error's number, at once; its return is found by the checks alone."""
        database = make(own_mariadb.url(), strategy=strategy, clock=clock)
        for _ in range(2):
            until(lambda: health(database) == ANSWERS, what="the process to be ready")
            lease(database)
            own_mariadb.kill()
            with at_once():
                found = [health(database).reason for _ in range(2)]
            assert found == [f"{DOWN.reason} 2003", f"{BACK_OFF.reason} 2003"]
            own_mariadb.start()
            clock.advance(LAST)

    def test_frozen(
        self, make: MakeDatabase, own_mariadb: MariaDB, strategy: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A frozen server is found within ping_timeout or connect_timeout, whichever is longer."""
        for name in ("FIRST", "LAST"):
            monkeypatch.setattr(backoff, name, 3600.0)  # else it may be over before the last look
        clock = RunningClock()
        options: dict[str, Any] = {"ping_after": 0, "ping_timeout": 0.3, "connect_timeout": 0.5, "clock": clock}
        database = make(own_mariadb.url(), strategy=strategy, **options)
        with limited(database, ping_timeout=10, connect_timeout=10):  # a busy machine may need that
            lease(database)
        own_mariadb.freeze()
        try:
            for _ in range(3):
                with at_once(0.5 + AT_ONCE):
                    assert not health(database).ready
            with at_once():
                assert health(database).reason.startswith(BACK_OFF.reason)
        finally:
            own_mariadb.thaw()
        clock.advance(3600)
        with limited(database, ping_timeout=10, connect_timeout=10):
            assert health(database) == ANSWERS

    def test_frozen_and_busy(self, make: MakeDatabase, own_mariadb: MariaDB) -> None:
        """While all connections are in use, a check does not wait for a frozen server either."""
        database = make(own_mariadb.url(), pool_size=1)
        with database.connection():
            own_mariadb.freeze()
            with at_once():
                assert health(database) == BUSY
            own_mariadb.thaw()

    def test_forgotten_by_the_network(self, make: MakeDatabase, networked: WiredBank) -> None:
        """A connection that the network forgot is replaced within the check: the database answers."""
        database = make(networked.url, ping_after=0)
        lease(database)
        networked.proxy.forget()
        with limited(database, ping_timeout=networked.shortest):
            assert health(database) == ANSWERS
        assert (database.stats().discards, database.stats().connects) == ({"ping failed": 1}, 2)

    def test_a_server_that_grants_three_of_ten(self, make: MakeDatabase, networked: WiredBank) -> None:
        """A process that serves its requests with fewer connections than it may have is ready, however busy they are,
        though every attempt to open another one fails."""
        networked.limited_user("few", 3)
        try:
            database = make(networked.url_of("few"), pool_size=10, acquire_timeout=30)
            lease(database)  # one is alive: those that are only connecting do not count
            over = threading.Event()

            def serve() -> None:
                while not over.is_set():
                    with database.connection() as conn:
                        run(conn, networked.sleep_sql(0.002))

            workers = [Worker(serve) for _ in range(10)]
            try:
                until(lambda: database.stats().connect_failures >= 1, what="the first refusal")
                until(lambda: database.stats().acquires >= 100, what="the requests to be served all the same")
                failures = database.stats().connect_failures
                found = set()
                while database.stats().connect_failures < failures + 3:
                    found.add(health(database))
            finally:
                over.set()
            for worker in workers:
                worker.outcome()
            assert found <= {ANSWERS, BUSY}
            assert BUSY in found
        finally:
            database.close()
            networked.drop_user("few")

    def test_recovery_wakes_who_waits(self, make: MakeDatabase, networked: WiredBank) -> None:
        """Requests and checks share what is there: after a check the connection serves requests."""
        database = make(networked.url, pool_size=1)
        assert health(database) == ANSWERS
        with database.connection() as conn:
            number = session_of(conn)
            assert health(database) == BUSY
        assert health(database) == ANSWERS
        with database.connection() as conn:
            assert session_of(conn) == number

    def test_nothing_is_given_away(self, make: MakeDatabase, networked: WiredBank, clock: Clock) -> None:
        """The reason has no statement, no user, no address and no password, whatever the server said."""
        nobody = make(networked.url_of("nobody").replace("nobody", "nobody:hunter2"), clock=clock)
        broken = make(networked.url, init_sql=["SELEKT hunter2"], clock=clock)
        for database in (nobody, broken):
            for what in ("cannot connect", "not connecting again yet; last failure to connect"):
                found = health(database)
                assert not found.ready
                error = found.reason.removeprefix(f"{what}: ")
                assert error.partition(" ")[0] in ("OperationalError", "ProgrammingError", "SyntaxError")
                assert error.partition(" ")[2] in ("", "1045", "1064")
