"""Metrics for prometheus_client, in one process and over all of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from observe.test_board import worker
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import Database
from wsgidb.observe.instruments import INSTRUMENTS, TIMES
from wsgidb.prometheus import Collector

NAME = "db_client_connection_pool_name"


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "board")


@pytest.fixture
def database(fakedb: FakeDB, directory: str) -> Iterator[Database]:
    with Database(creator=fakedb.connect, name="shop", pool_size=2, board=directory) as made:
        yield made


def scraped(database: Database) -> dict[str, float]:
    """What a scrape gets, in Prometheus' text format and back: each sample by its name and labels, but the pool's."""
    registry = CollectorRegistry()
    registry.register(Collector(database))
    return {
        " ".join([sample.name, *(value for label, value in sample.labels.items() if label != NAME)]): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }


def use(database: Database) -> None:
    with database.connection() as conn:
        conn.cursor().execute("SELECT 1")


def test_every_metric(fakedb: FakeDB) -> None:
    """All that OpenTelemetry gets, with names in Prometheus' style: units and _total at the end."""
    with Database(creator=fakedb.connect) as database:
        with database.connection():
            fakedb.fail("rollback", FakeDB.OperationalError("no"))
        database.lease()
        found = {name.partition(" ")[0] for name in scraped(database)}
    for instrument in INSTRUMENTS:
        name = instrument.name.replace(".", "_") + ("_seconds" if instrument.unit == "s" else "")
        if instrument.name != "wsgidb.retirements":  # there was none
            assert name + ("_total" if instrument.kind == "counter" else "") in found
    for times in TIMES:
        assert f"{times.name.replace('.', '_')}_seconds_bucket" in found
    assert {"wsgidb_discards_total", "wsgidb_processes"} <= found
    assert all(re.fullmatch(r"(wsgidb|db_client_connection)_[a-z_]+", name) for name in found)


def test_values_of_one_process(fakedb: FakeDB) -> None:
    """Without a board a process reports its own."""
    with Database(creator=fakedb.connect, pool_size=7) as database:
        use(database)
        use(database)
        database.lease()
        found = scraped(database)
    assert found["db_client_connection_count used"] == 1
    assert found["db_client_connection_count idle"] == 0
    assert found["db_client_connection_max"] == 7
    assert found["wsgidb_statements_total"] == 2
    assert found["db_client_connection_use_time_seconds_count"] == 2
    assert found["db_client_connection_wait_time_seconds_bucket +Inf"] == 3
    assert found["db_client_connection_create_time_seconds_bucket 10"] == 1
    assert found["wsgidb_processes"] == 1


def test_sums_over_all_processes(database: Database, directory: str) -> None:
    """With a board it does not matter which process is scraped, and counters never fall when one ends."""
    use(database)
    with worker(directory) as other:
        found = scraped(database)
        assert found["db_client_connection_max"] == 2 + 3
        assert found["db_client_connection_count used"] == 1
        assert found["db_client_connection_use_time_seconds_count"] == 1 + 4
        assert found["wsgidb_processes"] == 2
        other.kill()
        other.wait(30)
    until(lambda: scraped(database)["wsgidb_processes"] == 1)
    found = scraped(database)
    assert found["db_client_connection_max"] == 2
    assert found["db_client_connection_count used"] == 0
    assert found["db_client_connection_use_time_seconds_count"] == 1 + 4
    assert found["wsgidb_connects_total"] == 1 + 2


def test_own_figures_are_those_of_now(database: Database) -> None:
    """The process that is scraped has not to wait for its next write to the board."""
    for expected in (1, 2, 3):
        use(database)
        assert scraped(database)["wsgidb_statements_total"] == expected


def test_a_board_that_cannot_be_read(fakedb: FakeDB, tmp_path: Path) -> None:
    """The process's own figures are there all the same."""
    path = tmp_path / "file"
    path.write_text("")
    with Database(creator=fakedb.connect, board=str(path)) as database:
        use(database)
        assert scraped(database)["wsgidb_statements_total"] == 1
