"""Garbage collection can begin anywhere, also in the middle of a store's own bookkeeping."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import POOLS, Worker
from support.fakedb import FakeDB
from support.waiting import until
from support.wsgi import Call
from wsgidb import ConnectionReturned, Database, DatabaseMiddleware


def streamed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return iter([b"a", b"b"])


@pytest.mark.parametrize("strategy", POOLS)
def test_collection_under_the_lock_takes_a_lost_body_back(
    make: MakeDatabase, fakedb: FakeDB, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R4: a body in a cycle, collected while the same thread takes a slot under the lock, is no deadlock: its
    connection is back."""
    database = make(creator=fakedb.connect, strategy=strategy, pool_size=2)
    store = database._engine.process.store
    lost: list[Any] = [Call(DatabaseMiddleware(streamed, database))]
    lost[0].environ["cycle"] = lost[0]

    def collect() -> float:
        lost.clear()
        gc.collect()
        return 0.0

    monkeypatch.setattr(store, "_held_until", collect)  # which the store asks under its lock

    Worker(lambda: _lease(database)).outcome()
    assert not lost
    stats = database.stats()
    assert (stats.leased, stats.acquires, stats.open) == (0, 2, fakedb.open_now)


@pytest.mark.parametrize("strategy", POOLS)
def test_collection_before_waiting_serves_who_would_wait(
    make: MakeDatabase, fakedb: FakeDB, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3: if a lost body is collected after the pool was found empty, but before the caller waits, the caller gets that
    body's connection at once."""
    database = make(creator=fakedb.connect, strategy=strategy, pool_size=1, acquire_timeout=5)
    store: Any = database._engine.process.store
    lost: list[Any] = [Call(DatabaseMiddleware(streamed, database))]
    lost[0].environ["cycle"] = lost[0]
    queue = store._queue

    def collect_and_queue(waiter: Any) -> None:
        lost.clear()
        gc.collect()
        queue(waiter)

    monkeypatch.setattr(store, "_queue", collect_and_queue)
    Worker(lambda: _lease(database)).outcome()
    stats = database.stats()
    assert (stats.waits, stats.timeouts, stats.open, stats.waiting) == (1, 0, 1, 0)
    assert (store.take() is None, store.take()) == (False, None), "there is one, and it is there once"


@pytest.mark.parametrize("strategy", ["pooled", "thread-local", "per-request"])
def test_collection_under_the_lock_of_the_counters(make: MakeDatabase, fakedb: FakeDB, strategy: str) -> None:
    """R4, S4: a body of a thread that has ended, in a cycle, collected while another thread has the lock: its
    connection is taken back, and closed where only that thread could have used it."""
    database = make(creator=fakedb.connect, strategy=strategy)
    lost: list[Any] = [Worker(lambda: Call(DatabaseMiddleware(streamed, database))).outcome()]
    lost[0].environ["cycle"] = lost[0]

    def collect() -> None:
        with database._engine.process.lock:
            lost.clear()
            gc.collect()

    Worker(collect).outcome()
    stats = database.stats()
    assert (stats.leased, stats.open, fakedb.open_now) == (0, *[int(strategy == "pooled")] * 2)


def _lease(database: Database) -> None:
    with database.connection() as conn:
        conn.cursor().execute("SELECT 1")


def test_collection_while_room_is_handed_out(
    make: MakeDatabase, fakedb: FakeDB, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S2, S3: a lost body that is collected while a free place is on its way to a waiter serves that waiter; the place
    is free again."""
    database = make(creator=fakedb.connect, pool_size=2, acquire_timeout=60)
    store: Any = database._engine.process.store
    lost: list[Any] = [Call(DatabaseMiddleware(streamed, database))]
    lost[0].environ["cycle"] = lost[0]
    broken = database.lease()
    waiter = Worker(lambda: _lease(database))
    until(lambda: store.waiting == 1, what="a thread to wait")
    create = store._create

    def collect_and_create() -> Any:
        lost.clear()
        gc.collect()
        return create()

    monkeypatch.setattr(store, "_create", collect_and_create)
    broken._wsgidb_slot.fault = "broken"
    broken.close()
    waiter.outcome()
    assert (database.stats().leased, database.stats().open, fakedb.opened) == (0, 1, 2)
    with database.connection(), database.connection():
        assert store.take() is None, "two are all there are"


def test_collection_within_the_first_use_of_the_same_lease(make: MakeDatabase, fakedb: FakeDB) -> None:
    """R4: a lost body that is collected while a leftover thread first uses its connection is no deadlock: that thread
    is refused, and what it had acquired is back."""
    lost: list[Any] = []

    def connect() -> Any:
        lost.clear()
        gc.collect()
        return fakedb.connect()

    database = make(creator=connect)
    lost.append(Call(DatabaseMiddleware(streamed, database, acquire="first-use")))
    lost[0].environ["cycle"] = lost[0]
    kept = lost[0].environ["db.conn"]
    with pytest.raises(ConnectionReturned):
        Worker(lambda: kept.cursor()).outcome()
    assert not lost
    assert (database.stats().leased, database.stats().open) == (0, 1)
