"""R6: release acts on its own lease, never on a connection of the current thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.fakedb import FakeDB
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware


def in_thread(work: Callable[[], Any]) -> Any:
    """Call `work` in another thread. Returns or raises what it does."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:  # noqa: BLE001 - it is handed to the test's thread
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(30)
    (only,) = result
    if isinstance(only, BaseException):
        raise only
    return only


def at_once(count: int, work: Callable[[], Any]) -> None:
    """Call `work` in many threads at the same moment."""
    barrier = threading.Barrier(count)
    failures: list[BaseException] = []

    def run() -> None:
        barrier.wait(30)
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - it is handed to the test's thread
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failures == []


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.server)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/r6.sqlite3"
    return str(request.getfixturevalue("mariadb").url())


def stream(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    start_response("200 OK", [])
    for number in (1, 2):
        with closing(environ["db.conn"].cursor()) as cursor:
            cursor.execute(f"SELECT {number}")
            yield str(cursor.fetchone()[0]).encode()


@pytest.mark.parametrize("how", [b"".join, lambda body: body.close()], ids=["iterated", "closed"])
def test_another_thread_may_end_the_body(url: str, strategy: Any, how: Any) -> None:
    """R6: Waitress and a2wsgi iterate and close in other threads. The lease that ends is the request's."""
    with Database(url, strategy=strategy) as database:
        middleware = DatabaseMiddleware(stream, database)
        call = Call(middleware)
        assert database.stats().leased == 1

        # The other thread holds a lease of its own, which must not be touched.
        def work() -> None:
            with database.connection() as own, closing(own.cursor()) as cursor:
                how(call.body)
                assert database.stats().leased == 1
                cursor.execute("SELECT 1")

        in_thread(work)

        assert database.stats().leased == 0
        assert Call(middleware).read() == b"12", "this thread goes on as before"


def test_the_request_thread_may_have_a_new_request_meanwhile(url: str) -> None:
    """R6, S4: a thread can begin a request while the body of its last one still holds a lease."""
    with Database(url, strategy="thread-local") as database:
        middleware = DatabaseMiddleware(stream, database)
        first, second = Call(middleware), Call(middleware)
        raws = {call.environ["db.conn"].driver_connection for call in (first, second)}

        assert len(raws) == 2
        assert (in_thread(first.read), second.read()) == (b"12", b"12")
        assert database.stats().leased == 0


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_of_many_threads_that_close_exactly_one_releases(fakedb: FakeDB, keeping: Any, acquire: str) -> None:
    """R6: a connection that was released twice would be in the pool twice, and be leased to two requests at once."""
    with Database(creator=fakedb.connect, strategy=keeping, pool_size=2) as database:
        for _ in range(50):
            conn = database.lease() if acquire == "request" else database.lease_on_first_use()
            conn.cursor().execute("UPDATE")
            before = fakedb.count("rollback")

            at_once(8, conn.close)

            assert fakedb.count("rollback") == before + 1
            stats = database.stats()
            assert (stats.open, stats.idle, stats.leased) == (1, 1, 0)
        with database.connection() as one, database.connection() as other:
            assert one.driver_connection is not other.driver_connection


def test_a_release_that_waits_leaves_nothing_to_others(fakedb: FakeDB, database: Database) -> None:
    """R6: while one thread rolls back in close(), another thread's close() returns at once."""
    conn = database.lease()
    conn.cursor().execute("UPDATE")
    gate = fakedb.block("rollback")
    first = threading.Thread(target=conn.close)
    first.start()
    assert gate.entered.wait(30)

    conn.close()

    assert first.is_alive()
    assert database.stats().leased == 1
    gate.open()
    first.join(30)
    assert (fakedb.count("rollback"), database.stats().leased) == (1, 0)


def test_bodies_of_one_thread_closed_by_many(fakedb: FakeDB, strategy: Any) -> None:
    """R6: sixteen bodies, each iterated by another thread, keep their own connections to the end."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [])
        conn = environ["db.conn"]
        mine = conn.driver_connection.number
        for _ in range(5):
            conn.cursor().execute(f"SELECT {environ['PATH_INFO']}")
            assert conn.driver_connection.number == mine
            yield b"."

    kept = {"pooled": 16, "thread-local": 1, "per-request": 0}
    with Database(creator=fakedb.connect, strategy=strategy, pool_size=16) as database:
        middleware = DatabaseMiddleware(app, database)
        bodies = [Call(middleware, str(number)).body for number in range(16)]
        at_once(16, lambda: b"".join(bodies.pop()))

        assert (database.stats().leased, database.stats().idle) == (0, kept[strategy])
        assert all(len(set(fakedb.statements(number))) == 1 for number in range(1, 17))
