"""S5: a failing server is not stormed, requests are told at once, and service comes back by itself."""

from __future__ import annotations

import itertools
import logging
import time
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import WiredBank, Worker, get, run, together
from support.clock import Clock
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import Database, DatabaseMiddleware, DatabaseUnavailable
from wsgidb.pool.backoff import FIRST, LAST
from wsgidb.pool.exhausted import QUIET


class Failing(FakeDB):
    """A server that is down until `up`; a connect to it takes `duration` on the clock, what fails `pinging`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock, self.up, self.duration, self.pinging = clock, False, 0.0, 0.0
        self.cause = "server is down"

    def call(self, number: int, name: str, sql: str | None = None) -> None:
        try:
            super().call(number, name, sql)
        except FakeDB.Error:
            self.clock.advance(self.pinging)
            raise

    def connect(self, *args: Any, **kwargs: Any) -> Any:
        conn = super().connect(*args, **kwargs)
        self.clock.advance(self.duration)
        if not self.up:
            conn.close()
            raise FakeDB.OperationalError(self.cause)
        return conn


@pytest.fixture
def server(clock: Clock) -> Failing:
    return Failing(clock)


@pytest.fixture
def database(make: MakeDatabase, server: Failing, strategy: str, clock: Clock) -> Database:
    return make(creator=server.connect, strategy=strategy, clock=clock)


def refused(database: Database) -> str:
    with pytest.raises(DatabaseUnavailable) as caught, database.connection():
        pass
    return caught.value.text


def lease(database: Database) -> None:
    with database.connection() as conn:
        run(conn, "SELECT 1")


def test_server_is_not_stormed(database: Database, server: Failing, clock: Clock) -> None:
    """S5: over an outage of a minute, a request every 10 ms makes one to two connects per longest interval."""
    for _ in range(6000):
        refused(database)
        clock.advance(0.01)
    ramp = 8  # the intervals before the longest
    assert 60 / LAST - ramp <= server.count("connect") <= 2 * 60 / LAST + ramp
    assert database.stats().connect_failures == server.count("connect")


def test_many_threads_do_not_storm_either(database: Database, server: Failing) -> None:
    """S5: with the clock standing still, all that was not under way at the first failure never connects."""
    refused(database)

    def requests() -> None:
        for _ in range(50):
            refused(database)

    together([requests] * 8)
    assert server.count("connect") == 1


def test_fails_at_once_with_the_last_cause(database: Database, server: Failing) -> None:
    """S5: during the back-off, if no connection is open, a request fails at once with the cause."""
    assert refused(database) == "cannot connect: OperationalError: server is down"
    assert "OperationalError: server is down" in refused(database)
    assert (database.stats().waits, database.stats().timeouts) == (0, 0)


def test_one_prober_however_long_it_takes(database: Database, server: Failing, clock: Clock) -> None:
    """S5: while one thread probes, others fail at once, even when the probe outlasts every interval: a connection
    that is only opening is not alive, so nobody waits for it."""
    refused(database)
    clock.advance(LAST)
    gate = server.block("connect")
    prober = Worker(lambda: refused(database))
    try:
        assert gate.entered.wait(10)
        for _ in range(5):
            clock.advance(10 * LAST)
            Worker(lambda: refused(database)).outcome()
        assert server.count("connect") == 2
        assert database.stats().waiting == 0
    finally:
        gate.open()
    prober.outcome()


@pytest.mark.parametrize(("acquire_timeout", "pinging", "duration"), [(1, 0.5, 0.5), (1, 0.5, 0.75), (2, 0.3, 1.7)])
def test_connect_cut_short_by_its_caller_does_not_count(
    make: MakeDatabase,
    server: Failing,
    keeping: str,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    acquire_timeout: float,
    pinging: float,
    duration: float,
) -> None:
    """S5: a connect that got but the rest of acquire_timeout, here behind a ping, begins no outage: the next request
    tries at once, and as it has the whole of it, what it finds counts."""
    options = {"ping_after": 1, "ping_timeout": pinging, "acquire_timeout": acquire_timeout}
    database = make(creator=server.connect, strategy=keeping, clock=clock, **options)
    server.up = True
    lease(database)
    clock.advance(1)
    server.up, server.pinging, server.duration = False, pinging, duration
    server.fail("execute", FakeDB.OperationalError("gone"))
    refused(database)
    assert (server.count("connect"), len(caplog.records)) == (2, 1), "the log has the discard"
    server.duration = acquire_timeout
    refused(database)
    refused(database)
    assert (server.count("connect"), len(caplog.records)) == (3, 2)


def test_connect_that_failed_before_its_caller_was_out_of_time_counts(
    make: MakeDatabase, server: Failing, keeping: str, clock: Clock
) -> None:
    """S5: a connect that its caller's deadline cuts short begins no outage, however little time it had."""
    database = make(creator=server.connect, strategy=keeping, clock=clock, ping_after=1, acquire_timeout=1)
    server.up = True
    lease(database)
    clock.advance(1)
    server.up, server.pinging, server.duration = False, 0.9, 0.05
    server.fail("execute", FakeDB.OperationalError("gone"))
    refused(database)
    refused(database)
    assert server.count("connect") == 2


def test_probe_that_is_interrupted_behind_its_connect(
    database: Database, server: Failing, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S5: after a probe that a signal has interrupted, the next request may probe."""
    refused(database)
    clock.advance(LAST)
    server.up = True

    def interrupt(raw: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(database._driver, "watch", interrupt)  # connected, but not yet known
        with pytest.raises(KeyboardInterrupt):
            lease(database)
    assert (server.open_now, database.stats().connect_failures) == (0, 2)
    lease(database)


@pytest.mark.parametrize(
    ("acquire_timeout", "duration"),
    [(5, 3.0), (5, 6.0), (3, 3.0), (1, 0.5), (1, 1.0), (1, 1.5)],
    ids=["connect_timeout", "both", "both at once", "neither", "acquire_timeout", "longer than that"],
)
def test_connect_that_its_caller_did_not_cut_short_counts(
    make: MakeDatabase,
    server: Failing,
    strategy: str,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    acquire_timeout: float,
    duration: float,
) -> None:
    """S5: a connect that took connect_timeout (3 s) or all of acquire_timeout, or failed before any timeout, is the
    server's failure."""
    database = make(creator=server.connect, strategy=strategy, clock=clock, acquire_timeout=acquire_timeout)
    server.duration = duration
    refused(database)
    refused(database)
    assert server.count("connect") == 1
    assert len(caplog.records) == 1


def test_one_log_line_per_outage(
    database: Database, server: Failing, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """S5: an outage is one WARNING with its cause, and one WARNING at its end with the number of failures that were not
    logged meanwhile, whatever the number of requests."""
    caplog.set_level(logging.INFO, "wsgidb")
    ends = []
    for _ in range(2):
        failures = database.stats().connect_failures
        server.up = False
        for _ in range(300):
            refused(database)
            clock.advance(0.05)
        server.up = True
        clock.advance(LAST)
        lease(database)
        failures = database.stats().connect_failures - failures
        ends.append(("WARNING", f"creator: connected again after 16.0 s (failed attempts: {failures})"))
        clock.advance(10_000)  # what was opened is too old for the next round
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]
    begin = ("WARNING", "creator: cannot connect: OperationalError: server is down")
    assert lines == [begin, ends[0], begin, ends[1]]


def test_another_cause_is_logged(
    database: Database, server: Failing, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """S5: where an outage goes on for another reason, the log says so; not more often than every 10 seconds, and the
    next line counts those that were left out."""
    causes = ["server is down", "wrong password", "wrong password", "server is down", "wrong password", "too many"]
    for cause in causes:
        server.cause = cause
        refused(database)
        clock.advance(LAST)
    clock.advance(QUIET)
    server.cause = "server is down"
    refused(database)
    start = "creator: cannot connect: OperationalError: "
    lines = [record.getMessage().removeprefix(start) for record in caplog.records]
    assert lines == ["server is down", "wrong password", "server is down (3 more since the last such line)"]


def test_recovery(database: Database, server: Failing, clock: Clock) -> None:
    """S5: one interval after the server is back requests are served, and all may connect again."""
    for _ in range(20):
        refused(database)
        clock.advance(LAST)
    server.up = True
    lease(database)
    with database.connection(), database.connection():
        assert database.stats().leased == 2


def test_first_interval_is_short(database: Database, server: Failing, clock: Clock) -> None:
    """S5: a server that failed once is tried again soon."""
    refused(database)
    server.up = True
    refused(database)
    clock.advance(FIRST)
    lease(database)


def test_waits_for_a_live_connection_in_back_off(make: MakeDatabase, server: Failing, clock: Clock) -> None:
    """S5: a request that cannot connect waits for a connection that is leased and may come back."""
    database = make(creator=server.connect, pool_size=10, clock=clock, acquire_timeout=60)
    server.up = True
    with database.connection():
        server.up = False
        worker = Worker(lambda: lease(database))
        until(lambda: database.stats().waiting == 1, what="the request to wait")
    worker.outcome()
    assert (database.stats().connects, server.count("connect")) == (1, 2)


def test_waits_for_a_live_connection_though_the_next_try_is_due(
    make: MakeDatabase, server: Failing, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S5: nor does it fail where the back-off is over, or another's connect has ended it, when it comes to wait."""
    database = make(creator=server.connect, pool_size=10, clock=clock, acquire_timeout=60)
    server.up = True
    with database.connection():
        server.up = False
        store = database._engine.process.store
        put = store.put

        def late(slot: Any) -> Any:
            server.up = True
            clock.advance(LAST)
            return put(slot)

        monkeypatch.setattr(store, "put", late)
        lease(database)
        monkeypatch.undo()
    assert (database.stats().connects, server.count("connect")) == (2, 3)


@pytest.mark.parametrize("duration", [2.0, 5.0])
def test_failed_connect_at_the_deadline_is_the_end(
    make: MakeDatabase, server: Failing, clock: Clock, duration: float
) -> None:
    """S5: with a live connection, too, a request that has used up its acquire_timeout by connecting tries no more."""
    database = make(creator=server.connect, pool_size=10, clock=clock, acquire_timeout=2)
    server.up = True
    with database.connection():
        server.up, server.duration = False, duration
        assert refused(database) == "cannot connect: OperationalError: server is down"
    assert (server.count("connect"), database.stats().waits) == (2, 0)


def test_last_live_connection_lost_fails_all_who_wait(make: MakeDatabase, server: Failing, clock: Clock) -> None:
    """S5: when the last live connection is lost in an outage, waiting callers fail at once."""
    database = make(creator=server.connect, pool_size=10, clock=clock, acquire_timeout=60)
    server.up = True
    with database.connection():
        server.up = False
        workers: list[Worker] = []
        for _ in range(4):  # one after another: two that connect at the same time may both fail
            workers.append(Worker(lambda: refused(database)))
            until(lambda: database.stats().waiting == len(workers), what="it to wait")
        server.fail("rollback", FakeDB.OperationalError("gone"))
    for worker in workers:
        assert "server is down" in worker.outcome()
    assert server.count("connect") == 2
    assert (database.stats().open, database.stats().waiting) == (0, 0)


@pytest.mark.server
def test_server_that_grants_three_of_ten(make: MakeDatabase, networked: WiredBank) -> None:
    """S5: a server that grants 3 connections and a pool of 10: three serve everybody, and nobody gets an error."""
    networked.limited_user("three", 3)
    try:
        url = networked.url_of("three")
        database = make(url, pool_size=10, acquire_timeout=30)

        def handle(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            run(environ["db.conn"], networked.sleep_sql(0.002))
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b""]

        app = DatabaseMiddleware(handle, database)
        assert get(app).status_code == 200  # one is alive: those that are only connecting do not count

        def client() -> list[int]:
            statuses = [get(app).status_code for _ in range(50)]
            while database.stats().connects < 3:  # several that try at once may all be one too many for the server
                statuses.append(get(app).status_code)
            return statuses

        statuses = list(itertools.chain.from_iterable(together([client] * 10)))
        assert set(statuses) == {200}
        assert (database.stats().connects, database.stats().acquires) == (3, 1 + len(statuses))
        assert database.stats().connect_failures >= 1, "it did try for more"
    finally:
        database.close()
        networked.drop_user("three")


@pytest.mark.server
def test_real_server_goes_and_comes_back(make: MakeDatabase, networked: WiredBank, strategy: str) -> None:
    """S5: with a server that refuses, a 503 comes at once; when it accepts again, so is service within seconds."""
    database = make(networked.url, strategy=strategy)

    def handle(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        run(environ["db.conn"], "SELECT 1")
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    app = DatabaseMiddleware(handle, database)
    assert get(app).status_code == 200
    networked.proxy.refuse()
    networked.proxy.cut()
    began = time.monotonic()
    responses = [get(app) for _ in range(20)]
    assert time.monotonic() - began < 3, "connect_timeout, for which no request has waited"
    assert {response.status_code for response in responses} == {503}
    assert responses[0].headers["Retry-After"] == "1"
    networked.proxy.accept()
    until(lambda: get(app).status_code == 200, what="service to come back")
