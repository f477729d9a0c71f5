"""The connection that a handler sees: the driver's own in all respects, but for its end."""

from __future__ import annotations

import copy
import pickle
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pymysql
import pytest
from pymysql.cursors import DictCursor

from support.fakedb import FakeConnection, FakeDB
from support.mariadb import MariaDB
from wsgidb import ConnectionReturned, Database, DatabaseUnavailable
from wsgidb.lease.proxy import interrupt, settle
from wsgidb.lease.state import engine_of


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Iterator[Database]:
    """A pool of one connection, so that each lease gets what the last one left."""
    with Database(f"sqlite:///{tmp_path}/proxy.sqlite3", pool_size=1) as database:
        with database.connection() as conn:
            conn.execute("CREATE TABLE t (n INTEGER)")
            conn.commit()
        yield database


@pytest.fixture
def fake(fakedb: FakeDB) -> Iterator[Database]:
    with Database(creator=fakedb.connect, pool_size=1) as database:
        yield database


def count(database: Database) -> int:
    with database.connection() as conn:
        return int(conn.execute("SELECT COUNT(*) FROM t").fetchone()[0])


class TestAttributes:
    def test_reading_setting_and_deleting_reach_the_drivers_connection(self, fake: Database) -> None:
        """The proxy has no attributes of its own that a driver could have, too."""
        with fake.connection() as conn:
            raw = conn.driver_connection
            assert conn.number == raw.number == 1
            conn.note = "mine"
            assert raw.note == "mine"
            del conn.note
            assert not hasattr(raw, "note")
            with pytest.raises(AttributeError, match="nothing"):
                _ = conn.nothing

    def test_what_a_lease_set_is_undone_at_its_end(self, fake: Database) -> None:
        """C3: changed, new and deleted attributes are for the next lease as if nobody had touched them."""
        with fake.connection() as conn:
            raw = conn.driver_connection
            raw.kept, raw.gone = "kept", "gone"
            conn.kept = "changed"
            conn.kept = "changed again"
            conn.new = "new"
            del conn.gone
            del conn.kept
        assert (raw.kept, raw.gone, hasattr(raw, "new")) == ("kept", "gone", False)

    def test_row_factory_is_the_leases_own(self, sqlite_file: Database) -> None:
        """C3: a handler's row_factory and text_factory change its own rows only."""
        with sqlite_file.connection() as conn:
            conn.row_factory = sqlite3.Row
            conn.text_factory = bytes
            assert conn.execute("SELECT 'a' AS name").fetchone()["name"] == b"a"
        with sqlite_file.connection() as conn:
            assert conn.execute("SELECT 'a'").fetchone() == ("a",)

    def test_an_attribute_that_cannot_be_put_back_costs_the_connection(self, fake: Database) -> None:
        """C6: what it would change for the next request is not known."""
        with fake.connection() as conn:
            conn.new = 1
            del conn.driver_connection.new
        assert fake.stats().discards == {"reset failed": 1}

    def test_an_attribute_that_the_driver_refuses_costs_nothing(self, sqlite_file: Database) -> None:
        """The handler gets the driver's error, and there is nothing to put back."""
        with sqlite_file.connection() as conn:
            with pytest.raises(AttributeError):
                conn.total_changes = 1
            with pytest.raises(AttributeError):
                del conn.total_changes
        assert sqlite_file.stats().discards == {}

    def test_dir_lists_what_the_driver_has(self, fake: Database) -> None:
        """An interactive session completes the driver's names."""
        with fake.connection() as conn:
            assert {*dir(conn.driver_connection), "driver_connection"} == set(dir(conn))

    def test_its_repr_tells_its_state(self, fake: Database) -> None:
        """A log line shows whether the lease is over."""
        pending = fake.lease_on_first_use()
        assert repr(pending) == "<wsgidb connection: not acquired yet>"
        pending.cursor()
        assert repr(pending) == "<wsgidb connection: <FakeConnection 1>>"
        pending.close()
        assert repr(pending) == "<wsgidb connection: returned>"


class TestIdentity:
    def test_isinstance_sees_the_drivers_class(self, sqlite_file: Database, fake: Database) -> None:
        """Libraries ask what kind of connection they got."""
        with sqlite_file.connection() as conn:
            assert isinstance(conn, sqlite3.Connection)
        assert not isinstance(conn, sqlite3.Connection), "a returned one is nobody's"
        with fake.connection() as conn:
            assert isinstance(conn, FakeConnection)

    def test_it_is_callable_only_where_the_drivers_is(self, sqlite_file: Database, fake: Database) -> None:
        """sqlite3's compiles a statement when called."""
        with sqlite_file.connection() as conn:
            assert callable(conn)
            assert conn("SELECT 1") is not None
        with pytest.raises(ConnectionReturned):
            conn("SELECT 1")
        with fake.connection() as conn:
            assert not callable(conn)

    def test_a_cursors_connection_is_the_lease(self, sqlite_file: Database, fake: Database) -> None:
        """So that what takes ``cursor.connection`` stays inside the guarantees."""
        for database in (sqlite_file, fake):
            with database.connection() as conn:
                assert conn.cursor().connection is conn
        with sqlite_file.connection() as conn:
            assert conn.execute("SELECT 1").connection is conn
            assert conn.executemany("INSERT INTO t VALUES (?)", [(1,)]).connection is conn
            assert conn.executescript("SELECT 1").connection is conn
            assert conn.cursor(sqlite3.Cursor).connection is conn

    @pytest.mark.server
    def test_a_pymysql_cursors_connection_is_the_lease(self, mariadb: MariaDB) -> None:
        """The same for PyMySQL, whose cursors are of the class that was asked for."""
        with Database(mariadb.url()) as database, database.connection() as conn:
            assert isinstance(conn, pymysql.connections.Connection)
            assert not callable(conn)
            with conn.cursor(DictCursor) as cursor:
                assert isinstance(cursor, DictCursor)
                assert cursor.connection is conn

    @pytest.mark.parametrize("make", [copy.copy, copy.deepcopy, pickle.dumps], ids=["copy", "deepcopy", "pickle"])
    def test_it_is_never_copied(self, fake: Database, make: Callable[[Any], Any]) -> None:
        """Two proxies of one lease would be released twice."""
        with fake.connection() as conn, pytest.raises(TypeError, match="cannot be copied or pickled"):
            make(conn)

    def test_the_raw_connection_is_for_what_looks_inside(self, sqlite_file: Database, tmp_path: Path) -> None:
        """sqlite3's ``backup`` is written in C and takes the driver's very object."""
        with sqlite_file.connection() as conn, closing(sqlite3.connect(tmp_path / "copy")) as target:
            conn.backup(target)
            assert isinstance(conn.driver_connection, sqlite3.Connection)

    def test_c_code_that_refuses_a_lease_names_what_it_takes(self, sqlite_file: Database) -> None:
        """Its error names the class of what it was given, and that says where the driver's own connection is."""
        with sqlite_file.connection() as conn, closing(sqlite3.connect(":memory:")) as another:
            takers: list[Any] = [another.backup, conn.backup, sqlite3.Cursor]
            for take in takers:
                with pytest.raises(TypeError, match=r"pass its \.driver_connection"):
                    take(conn)

    def test_a_cursor_keeps_its_lease(self, fake: Database) -> None:
        """``db.lease().cursor()`` is common: the connection must not vanish below it."""
        cursor = fake.lease().cursor()
        assert fake.stats().leased == 1
        assert cursor.connection.driver_connection.number == 1
        cursor.connection.close()
        assert fake.stats().leased == 0

    def test_a_cursor_of_any_driver_can_be_iterated(self, fake: Database, fakedb: FakeDB) -> None:
        """PEP 249 leaves ``__next__`` out: mysqlclient's cursors, like the fake ones, have ``__iter__`` only."""
        fakedb.rows[:] = [(1,), (2,)]
        with fake.connection() as conn:
            cursor = conn.cursor()
            cursor.execute("SELECT")
            assert list(cursor) == [(1,), (2,)]
            cursor.execute("SELECT")
            rows = iter(cursor)
            assert next(rows) == (1,)
        with pytest.raises(ConnectionReturned):
            next(rows)


class TestWith:
    def test_sqlite_commits_and_keeps_the_lease(self, sqlite_file: Database) -> None:
        """``with conn:`` does what the driver's does: sqlite3 commits, yielding the lease."""
        with sqlite_file.connection() as conn:
            with conn as same:
                assert same is conn
                conn.execute("INSERT INTO t VALUES (1)")
            assert not conn.in_transaction
        assert count(sqlite_file) == 1

    def test_sqlite_rolls_back_and_keeps_the_lease(self, sqlite_file: Database) -> None:
        """``with conn:`` does what the driver's does: sqlite3 rolls back, and the exception goes on."""
        with sqlite_file.connection() as conn:
            with pytest.raises(sqlite3.OperationalError, match="nowhere"), conn:
                conn.executescript("BEGIN; INSERT INTO t VALUES (1); INSERT INTO nowhere VALUES (1)")
            assert not conn.in_transaction
            assert conn.execute("SELECT COUNT(*) FROM t").fetchone() == (0,)

    @pytest.mark.server
    def test_pymysql_gives_back_and_never_closes(self, mariadb: MariaDB) -> None:
        """PyMySQL's own ``with`` yields the raw connection and closes it; here its close() is the lease's."""
        with Database(mariadb.url(), pool_size=1) as database:
            with database.connection() as conn:
                with conn as same:
                    assert same is conn
                    raw = conn.driver_connection
                assert database.stats().leased == 0
                with pytest.raises(ConnectionReturned):
                    conn.cursor()
            with database.connection() as conn:
                assert conn.driver_connection is raw
                assert raw.open

    @pytest.mark.parametrize("transaction", ["manual", "request"])
    def test_left_by_an_error_after_the_lease(self, tmp_path: Path, transaction: Any) -> None:
        """The error goes on: the rollback that is due has been made. A generator, for one, may be closed by garbage
        collection long after its request, and must not print anything then."""
        with Database(f"sqlite:///{tmp_path}/with.sqlite3", transaction=transaction) as database:
            with database.connection() as conn:
                conn.execute("CREATE TABLE t (n INTEGER)")
                conn.commit()
            conn = database.lease()
            with pytest.raises(ValueError, match="mine"), conn:  # noqa: PT012
                conn.execute("INSERT INTO t VALUES (1)")
                conn.close()
                raise ValueError("mine")
            settle(conn, success=False)
            assert count(database) == 0

    @pytest.mark.parametrize("transaction", ["manual", "request"])
    def test_left_without_an_error_after_the_lease(self, tmp_path: Path, transaction: Any) -> None:
        """It is told that nothing is committed."""
        with Database(f"sqlite:///{tmp_path}/with.sqlite3", transaction=transaction) as database:
            conn = database.lease()
            with pytest.raises(ConnectionReturned), conn:
                conn.close()
            settle(conn, success=False)


class TestClose:
    def test_closing_gives_back_early_and_rolls_back(self, sqlite_file: Database) -> None:
        """close() is the end of the lease: what is not committed is gone, and the connection can serve others."""
        with sqlite_file.connection() as conn:
            raw = conn.driver_connection
            conn.execute("INSERT INTO t VALUES (1)")
            conn.close()
            assert sqlite_file.stats().leased == 0
            conn.close()
            with sqlite_file.connection() as other:
                assert other.driver_connection is raw
        assert count(sqlite_file) == 0

    @pytest.mark.parametrize("early", [True, False], ids=["close", "end"])
    def test_a_write_that_its_end_rolls_back_is_told(
        self, sqlite_file: Database, caplog: pytest.LogCaptureFixture, early: bool
    ) -> None:
        """The commonest lost write is a WARNING, also where the handler closes its connection."""
        with sqlite_file.connection() as conn:
            conn.execute("INSERT INTO t VALUES (1)")
            if early:
                conn.close()
        lines = [record.getMessage() for record in caplog.records]
        assert lines == ["outside of a request: rolled back an uncommitted write of 1 row(s)"]

    def test_a_write_that_an_error_rolls_back_is_not_told(
        self, sqlite_file: Database, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The error is told, and nobody expects such a write to be kept."""
        conn = sqlite_file.lease()
        conn.execute("INSERT INTO t VALUES (1)")
        interrupt(conn, ValueError("the handler's"))
        assert (caplog.records, count(sqlite_file)) == ([], 0)

    def test_an_interrupt_after_it_costs_nothing(self, fake: Database) -> None:
        """What has been given back already is kept."""
        conn = fake.lease()
        conn.close()
        interrupt(conn, KeyboardInterrupt())
        assert (fake.stats().open, fake.stats().discards) == (1, {})

    def test_a_generator_that_is_closed_early_costs_nothing(self, fake: Database) -> None:
        """It was at a yield, and so in no statement's middle: rolled back and kept."""

        def rows() -> Generator[Any, None, None]:
            with fake.connection() as conn:
                conn.cursor().execute("SELECT 1")
                yield conn

        generator = rows()
        next(generator)
        generator.close()
        assert (fake.stats().open, fake.stats().leased, fake.stats().discards) == (1, 0, {})


class TestFirstUse:
    def test_nothing_is_acquired_until_it_is_used(self, fake: Database) -> None:
        """Looking at it, or ending it, is no use."""
        conn = fake.lease_on_first_use()
        repr(conn)
        conn.close()
        assert fake.stats().acquires == 0
        with pytest.raises(ConnectionReturned):
            conn.cursor()

    def test_closed_in_a_request_that_is_one_transaction(self, fakedb: FakeDB) -> None:
        """ConnectionReturned, though the lease as such ends with the request."""
        with Database(creator=fakedb.connect, transaction="request") as database:
            conn = database.lease_on_first_use()
            conn.close()
            with pytest.raises(ConnectionReturned):
                conn.cursor()
        assert fakedb.calls == []

    def test_looking_at_its_class_is_no_use(self, fake: Database, fakedb: FakeDB) -> None:
        """Error trackers and debuggers ask isinstance(value, str) of everything in environ."""
        conn = fake.lease_on_first_use()
        assert not isinstance(conn, (str, int))
        assert fakedb.calls == []
        conn.cursor()
        assert isinstance(conn, FakeConnection)

    @pytest.mark.parametrize("name", ["__html__", "__iter__", "__dict__", "__sentry_repr__"])
    def test_looking_for_special_methods_is_no_use(self, fake: Database, fakedb: FakeDB, name: str) -> None:
        """As tools do that show or copy what is in environ."""
        conn = fake.lease_on_first_use()
        assert not hasattr(conn, name)
        with pytest.raises(TypeError):
            copy.deepcopy(conn)
        assert fakedb.calls == []
        conn.cursor()
        assert hasattr(conn, name) is hasattr(conn.driver_connection, name)

    def test_its_class_is_known_before_where_the_driver_tells(self, tmp_path: Path) -> None:
        """Without a connection there is the class that its driver makes."""
        with Database(f"sqlite:///{tmp_path}/known.db") as database:
            assert isinstance(database.lease_on_first_use(), sqlite3.Connection)
            assert database.stats().connects == 0

    @pytest.mark.parametrize(
        "use",
        [
            lambda conn: conn.cursor(),
            lambda conn: conn.number,
            lambda conn: setattr(conn, "note", 1),
            lambda conn: conn.driver_connection,
        ],
    )
    def test_any_use_acquires_once(self, fake: Database, use: Callable[[Any], Any]) -> None:
        """And then it is a lease like any other."""
        conn = fake.lease_on_first_use()
        use(conn)
        use(conn)
        assert (fake.stats().acquires, fake.stats().leased) == (1, 1)
        conn.close()
        assert fake.stats().leased == 0

    def test_a_failed_first_use_may_be_tried_again(self, fakedb: FakeDB, clock: Any) -> None:
        """A handler may catch DatabaseUnavailable and come back later."""
        fakedb.fail("connect", FakeDB.OperationalError())
        with Database(creator=fakedb.connect, clock=clock) as database:
            conn = database.lease_on_first_use()
            with pytest.raises(DatabaseUnavailable):
                conn.cursor()
            clock.advance(1)
            conn.cursor()
            conn.close()
            assert database.stats().leased == 0

    def test_two_threads_that_use_it_first_get_one_connection(self, fakedb: FakeDB) -> None:
        """S4: a request is one lease, however many threads its handler starts."""
        gate = fakedb.block("connect")
        with Database(creator=fakedb.connect, pool_size=2) as database:
            conn = database.lease_on_first_use()
            numbers: list[int] = []
            threads = [threading.Thread(target=lambda: numbers.append(conn.number)) for _ in range(2)]
            threads[0].start()
            assert gate.entered.wait(30)
            threads[1].start()
            gate.open()
            for thread in threads:
                thread.join(30)

            assert numbers == [1, 1]
            assert (database.stats().acquires, fakedb.opened) == (1, 1)
            conn.close()
            assert database.stats().leased == 0

    def test_a_release_during_a_pending_acquire_loses_nothing(self, fakedb: FakeDB) -> None:
        """R6: the acquire of a leftover thread ends first, and then its connection goes back, not astray."""
        gate = fakedb.block("connect")
        with Database(creator=fakedb.connect, pool_size=1) as database:
            conn = database.lease_on_first_use()

            def use() -> None:
                with suppress(ConnectionReturned):
                    conn.cursor()

            user, closer = threading.Thread(target=use), threading.Thread(target=conn.close)
            user.start()
            assert gate.entered.wait(30)
            closer.start()
            gate.open()
            user.join(30)
            closer.join(30)

            assert (database.stats().leased, database.stats().open) == (0, 1)
            with pytest.raises(ConnectionReturned):
                conn.cursor()

    def test_one_that_ended_unused_is_over(self, fake: Database) -> None:
        """An application may reuse an environ: what is left there of an earlier request is no lease any more."""
        conn = fake.lease_on_first_use()
        settle(conn, success=True)
        assert engine_of(conn) is None
        assert "returned" in repr(conn)


class TestOneTransaction:
    """With transaction=request, close() ends the proxy only: the request still has to be settled."""

    @pytest.mark.parametrize("name", ["cursor", "commit", "rollback"])
    def test_after_its_close_every_call_is_refused(self, fakedb: FakeDB, name: str) -> None:
        """Also by a bound method that was kept, and before anybody else has the connection."""
        with Database(creator=fakedb.connect, transaction="request") as database:
            conn: Any = database.lease()
            kept = getattr(conn, name)
            conn.close()
            before = list(fakedb.calls)
            with pytest.raises(ConnectionReturned):
                kept()
            with pytest.raises(ConnectionReturned):
                getattr(conn, name)()
            assert fakedb.calls == before
            settle(conn, success=True)

    def test_what_fails_after_the_commit_is_logged(
        self, fakedb: FakeDB, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """R13: it must not make a success an error."""
        with Database(creator=fakedb.connect, transaction="request") as database:
            conn: Any = database.lease()
            conn.cursor().execute("UPDATE")

            def release(*_: Any, **__: Any) -> None:
                raise RuntimeError("the store is broken")

            monkeypatch.setattr(database._engine, "release", release)
            settle(conn, success=True)
        assert fakedb.count("commit") == 1
        assert "the work is committed, but releasing the connection failed" in caplog.text
