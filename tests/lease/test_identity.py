"""R12: a lease is an identity. No call on its behalf reaches the connection after it has ended, in whatever thread."""

from __future__ import annotations

import gc
import os
import sys
import sysconfig
import threading
import weakref
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, ClassVar

import pytest

from support.fakedb import FakeCursor, FakeDB
from wsgidb import ConnectionReturned, Database
from wsgidb.drivers.activity import Activity
from wsgidb.drivers.cursors import ended_class, invalidate
from wsgidb.lease.proxy import settle


@pytest.fixture
def fake(fakedb: FakeDB) -> Iterator[Database]:
    with Database(creator=fakedb.connect, pool_size=1) as database:
        yield database


class TestEntering:
    """The record of a connection, by itself."""

    def test_a_call_of_an_ended_lease_is_refused(self) -> None:
        """A lease that has ended stays ended, whoever has the connection now."""
        seen, first, second = Activity(), object(), object()
        seen.lease = first
        assert seen.call(first, lambda: "called") == "called"
        seen.end_lease()
        seen.lease = second
        with pytest.raises(ConnectionReturned):
            seen.call(first, lambda: "called")
        assert seen.call(second, lambda: "called") == "called"
        assert seen.users == []

    def test_the_end_sees_a_call_that_is_under_way(self) -> None:
        """Marking comes before comparing, and taking the lease away before looking: one of the two sees the other."""
        seen, lease = Activity(), object()
        seen.lease = lease
        seen.enter(lease)
        assert seen.end_lease()
        seen.leave(lease)
        assert seen.users == []

    def test_a_late_call_does_not_disturb_the_present_lease(self) -> None:
        """It is marked for a moment before it is refused, which the present lease's end must not take for its own."""
        seen, first, second = Activity(), object(), object()
        seen.lease = second
        seen.users.append(first)
        assert not seen.end_lease()

    def test_the_last_call_closes(self) -> None:
        """A descriptor that a thread is about to use must not be closed, as its number may be another connection's."""
        seen, lease, closed = Activity(), object(), list[bool]()
        seen.lease = lease
        seen.enter(lease)
        seen.enter(lease)
        seen.close_when_unused(lambda: closed.append(True))
        seen.leave(lease)
        assert closed == []
        seen.leave(lease)
        assert closed == [True]

    def test_without_a_call_it_is_closed_at_once(self) -> None:
        """And only once."""
        seen, closed = Activity(), list[bool]()
        seen.close_when_unused(lambda: closed.append(True))
        seen.close_if_unused()
        assert closed == [True]


class TestKeptObjects:
    """What a handler's leftover thread may still have in its hands."""

    @pytest.mark.parametrize("name", ["commit", "rollback", "cursor", "ping"])
    def test_a_bound_method(self, fake: Database, fakedb: FakeDB, name: str) -> None:
        """It belongs to the lease, not to the driver's connection, which the next lease has now."""
        with fake.connection() as conn:
            kept: Any = getattr(conn, name)
            kept()
        with fake.connection() as conn:
            before = list(fakedb.calls)
            with pytest.raises(ConnectionReturned):
                kept()
            assert fakedb.calls == before

    def test_a_bound_method_of_a_cursor(self, fake: Database, fakedb: FakeDB) -> None:
        """Also of a cursor that only stands in for the driver's."""
        with fake.connection() as conn:
            cursor = conn.cursor()
            kept: list[Any] = [cursor.execute, cursor.executemany, cursor.fetchone, cursor.fetchall]
        with fake.connection():
            for method in kept:
                with pytest.raises(ConnectionReturned):
                    method("UPDATE", [])
        assert fakedb.count("execute") == fakedb.count("fetchone") == 0

    def test_an_iterator_over_rows(self, fake: Database) -> None:
        """The rest of the rows belongs to a lease that is over."""
        with fake.connection() as conn:
            cursor = conn.cursor()
            cursor.execute("SELECT")
            rows = iter(cursor)
        with fake.connection(), pytest.raises(ConnectionReturned):
            next(rows)


def left_behind(call: Any, *args: Any) -> threading.Thread:
    """A thread of the handler's that goes on after it; that its own call may be refused is its own affair."""

    def run() -> None:
        with suppress(ConnectionReturned):
            call(*args)

    thread = threading.Thread(target=run)
    thread.start()
    return thread


class TestUnderWay:
    """A thread is in the middle of a call when its lease ends."""

    @pytest.mark.parametrize("name", ["commit", "rollback", "ping", "cursor", "execute", "fetchall"])
    def test_costs_the_connection(self, fake: Database, fakedb: FakeDB, name: str) -> None:
        """Whatever it calls; the connection is closed when the call has ended, and not before."""
        lease: Any = fake.lease()
        raw = lease.driver_connection
        target = lease.cursor() if name in ("execute", "fetchall") else lease
        gate = fakedb.block(name)
        thread = left_behind(getattr(target, name), *(["SELECT"] if name == "execute" else []))
        assert gate.entered.wait(10)
        settle(lease, success=True)
        assert fake.stats().discards == {"in the middle of a statement": 1}
        assert not raw.closed
        with fake.connection() as other:
            assert other.driver_connection is not raw
        gate.open()
        thread.join(10)
        assert raw.closed, "by the thread whose call ended last"

    def test_is_not_committed(self, fakedb: FakeDB) -> None:
        """R9: a statement of which nobody knows whether it belongs to the transaction makes it fail."""
        with Database(creator=fakedb.connect, pool_size=1, transaction="request") as database:
            lease: Any = database.lease()
            gate = fakedb.block("execute")
            thread = left_behind(lease.cursor().execute, "UPDATE")
            assert gate.entered.wait(10)
            try:
                with pytest.raises(Exception, match="cannot commit: in the middle of a statement"):
                    settle(lease, success=True)
            finally:
                gate.open()
                thread.join(10)
            assert fakedb.count("commit") == 0

    def test_a_cursor_that_is_made_as_the_lease_ends(self, fake: Database, fakedb: FakeDB) -> None:
        """It is not adopted by the next lease, nor left without one."""
        lease: Any = fake.lease()
        gate = fakedb.block("cursor")
        made: list[Any] = []
        thread = left_behind(lambda: made.append(lease.cursor()))
        assert gate.entered.wait(10)
        settle(lease, success=True)
        with fake.connection() as conn:
            gate.open()
            thread.join(10)
            conn.cursor().execute("SELECT")
        for cursor in made:
            with pytest.raises(ConnectionReturned):
                cursor.execute("UPDATE")
        assert "UPDATE" not in fakedb.statements()


class TestFork:
    def test_an_inherited_lease_is_refused_in_the_child(self, fake: Database, fakedb: FakeDB) -> None:
        """S6: its statements would run in the parent's session. The parent goes on as if nothing had been."""
        with fake.connection() as conn:
            cursor = conn.cursor()
            conn.commit()
            reader, writer = os.pipe()
            child = os.fork()
            if child == 0:
                for use in (conn.commit, conn.cursor, lambda: cursor.execute("UPDATE")):
                    try:
                        use()
                        os.write(writer, b"done\n")
                    except ConnectionReturned as error:
                        os.write(writer, f"{error.text}\n".encode())
                os._exit(0)
            os.close(writer)
            with open(reader, "rb") as told:
                answers = told.read().decode().splitlines()
            os.waitpid(child, 0)
            assert answers == ["the connection is that of this process's parent; a forked child needs its own"] * 3
            cursor.execute("UPDATE")
            conn.commit()
        assert fakedb.count("commit") == 2


class Picky:
    """A class that may be subclassed with an argument only, as frameworks have them."""

    made: ClassVar[list[type]] = []

    def __init_subclass__(cls, *, table: str, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.made.append(cls)


class Slotted:
    __slots__ = ("__weakref__", "data")


class TestInvalidating:
    """R13: nothing of a handler's own cursor class may fail, or even run, when its lease ends."""

    @pytest.mark.parametrize("base", [object, Picky, Slotted, FakeCursor])
    def test_a_class_of_any_layout(self, base: Any) -> None:
        """It is refused from then on, and shows its name."""
        options = {"table": "t"} if base is Picky else {}
        cls = type(base)("Mine", (base,), {}, **options)
        before = len(Picky.made)
        cursor = cls.__new__(cls)
        assert invalidate(cursor)
        assert repr(cursor) == "<Mine of a lease that is over>"
        assert isinstance(cursor, cls)
        with pytest.raises(ConnectionReturned, match=r"\(\.execute\)"):
            cursor.execute("SELECT")
        assert len(Picky.made) == before

    @pytest.mark.skipif(
        bool(sysconfig.get_config_var("Py_GIL_DISABLED")) and sys.version_info < (3, 14),
        reason="free-threaded Python 3.13 keeps every class for ever once there are threads",
    )
    def test_a_class_made_at_run_time_is_garbage_afterwards(self) -> None:
        """A class that a view makes for each request must not be kept for ever."""
        cls: Any = type("Mine", (FakeCursor,), {})
        ended_class(cls)
        gone = weakref.ref(cls)
        del cls
        gc.collect()
        assert gone() is None

    def test_what_cannot_be_invalidated(self) -> None:
        """The connection is then given up, which the caller is told."""
        assert not invalidate([])


def test_release_never_raises_for_what_a_handler_left(fakedb: FakeDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """R13: the work is committed, and stays a success; the connection of an unusable cursor is dropped."""
    with Database(creator=fakedb.connect, pool_size=1, transaction="request") as database:
        lease: Any = database.lease()
        cursor = lease.cursor()
        cursor.execute("UPDATE")

        def fails(cursor: Any) -> None:
            raise TypeError("of a class of the handler's")

        monkeypatch.setattr(database._driver, "retire_cursor", fails)
        settle(lease, success=True)
        assert fakedb.count("commit") == 1
        assert database.stats().discards == {"a cursor could not be closed": 1}
