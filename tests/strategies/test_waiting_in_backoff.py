"""S3, S5: callers that wait while no connection can be opened are served as soon as one can, without another's help."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import Worker
from support.clock import Clock
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import PoolTimeout
from wsgidb.pool.backoff import Attempt


@pytest.mark.parametrize("strategy", ["pooled", "dbutils-pooled", "sqlalchemy"])
def test_who_could_not_connect_tries_again(fake: MakeDatabase, fakedb: FakeDB, strategy: str) -> None:
    """A passing failure costs a request the back-off at the most, though no connection comes back meanwhile."""
    database = fake(strategy=strategy, pool_size=10, acquire_timeout=60)
    with database.connection():
        fakedb.fail("connect", FakeDB.OperationalError("not now"))
        began = time.monotonic()
        with database.connection():
            assert time.monotonic() - began < 10, "the first retry is due within 0.05 s"
    assert (database.stats().connect_failures, database.stats().connects) == (1, 2)


@pytest.mark.parametrize("impatient", [False, True])
def test_a_place_that_becomes_free_in_backoff(
    fake: MakeDatabase, clock: Clock, monkeypatch: pytest.MonkeyPatch, impatient: bool
) -> None:
    """A waiting caller takes it when the back-off is over, even if the caller before it has given up."""
    monkeypatch.setattr("wsgidb.pool.backoff.FIRST", 0.8)
    database = fake(pool_size=2, clock=clock)
    process = database._engine.process
    store: Any = process.store

    def wait(patience: float) -> None:
        store.put(store.wait(clock() + patience))

    with database.connection():
        connecting = store.take()
        patient = Worker(partial(wait, 60))
        until(lambda: store.waiting == 1, what="a thread to wait")
        if impatient:  # its turn comes first, as its deadline does
            other = Worker(partial(wait, 0.1))
            until(lambda: store.waiting == 2 or not other.is_alive(), what="another thread to wait")
        process.backoff.failed(Attempt(), "not now")
        store.put(connecting)
        if impatient:
            with pytest.raises(PoolTimeout):
                other.outcome()
        clock.advance(1)
        patient.outcome()


@pytest.mark.parametrize("strategy", ["pooled", "dbutils-pooled", "sqlalchemy"])
def test_a_probe_that_succeeds(
    make: MakeDatabase, fakedb: FakeDB, clock: Clock, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Callers that wait while a probe is under way connect as soon as it succeeds, though it gives nothing back."""
    monkeypatch.setattr("wsgidb.pool.backoff.LAST", 60.0)
    database = make(creator=fakedb.connect, strategy=strategy, pool_size=4, acquire_timeout=1000, clock=clock)
    with database.connection():
        database._engine.process.backoff.failed(Attempt(), "down")
        clock.advance(60)
        gate = fakedb.block("connect")
        prober = Worker(database.lease)
        assert gate.entered.wait(10)
        waiters = [Worker(database.lease) for _ in range(2)]
        until(lambda: database.stats().waiting == 2, what="two to wait")
        gate.open()
        leases = [worker.outcome() for worker in (prober, *waiters)]
        assert database.stats().open == 4
        for conn in leases:
            conn.close()
