"""Metrics by OpenTelemetry's own SDK: the conventions' for connection pools, and wsgidb's own."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import Database, PoolTimeout
from wsgidb.observe.instruments import INSTRUMENTS, REASON, TIMES

POOL, STATE = "db.client.connection.pool.name", "db.client.connection.state"
CONVENTIONS = {
    *("count", "idle.max", "idle.min", "max", "pending_requests", "timeouts"),
    *("create_time", "wait_time", "use_time"),
}


class Collected:
    """What an application's reader collects."""

    def __init__(self) -> None:
        self._reader = InMemoryMetricReader()
        self.provider = MeterProvider(metric_readers=[self._reader])

    def points(self, name: str, pool: str) -> list[Any]:
        """The data points of one instrument and one Database."""
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        found = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
        ]
        points = [point for metric in found for point in metric.data.data_points]
        return [point for point in points if (point.attributes or {})[POOL] == pool]

    def value(self, name: str, pool: str, **attributes: str) -> Any:
        (point,) = (
            point
            for point in self.points(name, pool)
            if all(point.attributes.get(key.replace("__", ".")) == value for key, value in attributes.items())
        )
        return point.value

    def names(self) -> set[str]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return {m.name for r in data.resource_metrics for s in r.scope_metrics for m in s.metrics}


@pytest.fixture(scope="session")
def provider() -> Collected:
    """As an application sets it, once for a process."""
    made = Collected()
    metrics.set_meter_provider(made.provider)
    return made


@pytest.fixture
def pool(request: pytest.FixtureRequest) -> str:
    """A name of the test's own, as instruments live as long as the process."""
    return str(request.node.name)


@pytest.fixture
def database(fakedb: FakeDB, provider: Collected, pool: str) -> Iterator[Database]:
    with Database(creator=fakedb.connect, pool_size=2, name=pool, acquire_timeout=60) as made:
        yield made


def test_connections_by_state(database: Database, provider: Collected, pool: str) -> None:
    """How many are used, and how many are idle, now."""
    with database.connection():
        with database.connection():
            pass
        points = provider.points("db.client.connection.count", pool)
        assert {point.attributes[STATE]: point.value for point in points} == {"idle": 1, "used": 1}
    assert provider.value("db.client.connection.max", pool) == 2
    assert provider.value("db.client.connection.idle.max", pool) == 2
    assert provider.value("db.client.connection.idle.min", pool) == 0


def test_waiting_requests(database: Database, provider: Collected, pool: str) -> None:
    """An exhausted pool shows while it lasts."""
    with database.connection(), database.connection():
        thread = threading.Thread(target=lambda: database.lease().close())
        thread.start()
        until(lambda: database.stats().waiting)
        assert provider.value("db.client.connection.pending_requests", pool) == 1
    thread.join(60)
    assert provider.value("db.client.connection.pending_requests", pool) == 0


def test_time_outs(fakedb: FakeDB, provider: Collected, pool: str) -> None:
    """An exhausted pool shows afterwards, too."""
    with Database(creator=fakedb.connect, pool_size=1, name=pool, acquire_timeout=0.05) as database:
        with database.connection(), pytest.raises(PoolTimeout):
            database.lease()
        assert provider.value("db.client.connection.timeouts", pool) == 1


def test_durations(database: Database, provider: Collected, pool: str) -> None:
    """Each lease once, each connection once, however often they are collected."""
    for _ in range(3):
        with database.connection():
            pass
    for _ in range(2):  # the first collection records, any later one has it
        provider.points("db.client.connection.count", pool)
    counts = {}
    for name in ("create_time", "wait_time", "use_time"):
        (point,) = provider.points(f"db.client.connection.{name}", pool)
        counts[name] = point.count
        assert 0 <= point.sum < 10
    assert counts == {"create_time": 1, "wait_time": 3, "use_time": 3}


def test_every_metric_is_there(database: Database, provider: Collected) -> None:
    """The nine of the conventions, and those of wsgidb."""
    with database.connection() as conn:
        conn.cursor().execute("SELECT 1")
    provider.names()
    names = provider.names()
    assert {f"db.client.connection.{name}" for name in CONVENTIONS} <= names
    assert {"wsgidb.statements", "wsgidb.connects", "wsgidb.dead_time"} <= names


def test_a_discard_has_its_reason(database: Database, provider: Collected, pool: str, fakedb: FakeDB) -> None:
    """As the log has it."""
    with database.connection():
        fakedb.fail("rollback", FakeDB.OperationalError("no"))
    (point,) = provider.points("wsgidb.discards", pool)
    assert (point.attributes["wsgidb.reason"], point.value) == ("reset failed", 1)


def test_the_default_name_is_the_servers(provider: Collected, fakedb: FakeDB) -> None:
    """Server, port and database, as the conventions advise; never a user or a password."""
    with Database("mysql://app:secret@db.invalid:3307/shop") as database:
        assert database.settings.pool_name == "db.invalid:3307/shop"


def test_the_default_name_without_a_server(tmp_path: Path) -> None:
    """A file is called by its path alone."""
    with Database("sqlite:///build/shop.db") as relative, Database(f"sqlite:///{tmp_path}/shop.db") as absolute:
        assert (relative.settings.pool_name, absolute.settings.pool_name) == ("build/shop.db", f"{tmp_path}/shop.db")


def test_two_of_one_name_are_told_apart(provider: Collected, fakedb: FakeDB, pool: str) -> None:
    """A second Database of the same name gets a number, so that no value hides another one."""
    with Database(creator=fakedb.connect, name=pool) as first, Database(creator=fakedb.connect, name=pool) as second:
        for database in (first, second, second):
            with database.connection() as conn:
                conn.cursor().execute("SELECT 1")
        assert provider.value("wsgidb.statements", pool) == 1
        assert provider.value("wsgidb.statements", f"{pool}#2") == 2


def test_switched_off(provider: Collected, fakedb: FakeDB, pool: str) -> None:
    """`telemetry=false` takes the counting of durations out of the engine, too."""
    with Database(creator=fakedb.connect, name=pool, telemetry=False) as database:
        with database.connection():
            pass
        assert database.stats().use_times.count == database.stats().wait_times.count == 0
    assert provider.points("db.client.connection.count", pool) == []


def test_metrics_keep_no_database_alive(provider: Collected, fakedb: FakeDB, pool: str) -> None:
    """Instruments live as long as the process; a Database that is dropped closes its connections all the same."""
    database = Database(creator=fakedb.connect, name=pool)
    with database.connection():
        pass
    del database
    gc.collect()
    assert fakedb.open_now == 0
    assert provider.points("db.client.connection.count", pool) == []


def test_a_forked_child_reports_its_own_leases_only(database: Database) -> None:
    """What the parent has timed is the parent's to report."""
    with database.connection():
        pass
    child = os.fork()
    if child == 0:
        os._exit(database.stats().use_times.count)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_nothing_is_imported_where_it_is_missing() -> None:
    """Without the package there are no metrics, and nothing else changes."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None\n"
        "import importlib.util; real = importlib.util.find_spec\n"
        "import wsgidb\n"
        "database = wsgidb.Database('sqlite:////tmp/never-opened.db')\n"
        "print(type(database._engine).__mro__[0] is wsgidb.database.Engine)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.strip() == "True", done.stderr


def test_the_page_names_every_metric() -> None:
    """docs/observing.md has the metrics that there are, and no others."""
    page = (Path(__file__).parents[2] / "docs" / "observing.md").read_text()
    named = set(re.findall(r"`((?:db\.client\.connection|wsgidb)\.[\w.]+)`", page))
    made = {instrument.name for instrument in INSTRUMENTS}
    assert named - {POOL, STATE, REASON} == made | {times.name for times in TIMES}
