"""A creator's driver: PEP 249 and nothing more, so that it must be asked for what cannot be known."""

from __future__ import annotations

import socket
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.cases import Lease
from support.fakedb import FakeConnection, FakeDB
from wsgidb import ConfigError, ConnectionReturned, Database
from wsgidb.config.settings import Settings
from wsgidb.drivers import make_driver
from wsgidb.drivers.base import Driver
from wsgidb.drivers.states import DIRTY


def driver_of(creator: Any, **options: Any) -> Driver:
    return make_driver(Settings.of({"creator": creator, **options}))


def soon() -> float:
    return time.monotonic() + 10


def with_switch(fakedb: FakeDB, **attributes: Any) -> Any:
    """A creator whose connections have these attributes."""

    def create() -> Any:
        conn: Any = fakedb.connect()
        for name, value in attributes.items():
            setattr(conn, name, value)
        return conn

    return create


def test_ping_leaves_no_transaction(fakedb: FakeDB) -> None:
    """C3: a ping is a statement, and under manual it opens a transaction, which ends with it."""
    driver = driver_of(fakedb.connect, ping_query="SELECT 2")
    conn = driver.connect(soon())
    driver.ping(conn, soon())
    assert fakedb.statements() == ["SELECT 2"]
    assert fakedb.calls[-1][1] == "rollback"


def test_autocommit_pings_without_a_rollback(fakedb: FakeDB) -> None:
    """C4: under autocommit there is no transaction to end."""
    driver = driver_of(with_switch(fakedb, autocommit=False), transaction="autocommit")
    driver.ping(driver.connect(soon()), soon())
    assert fakedb.statements() == ["SELECT 1"]
    assert fakedb.count("rollback") == 0


@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
@pytest.mark.parametrize("given", [False, True])
def test_autocommit_attribute(fakedb: FakeDB, transaction: str, given: bool) -> None:
    """transaction: an attribute is set as configured, and set back by the rollback."""
    driver = driver_of(with_switch(fakedb, autocommit=given), transaction=transaction)
    conn = driver.connect(soon())
    wanted = transaction == "autocommit"
    assert conn.autocommit is wanted
    conn.autocommit = not wanted
    driver.rollback(conn, soon())
    assert conn.autocommit is wanted


def test_autocommit_method(fakedb: FakeDB) -> None:
    """transaction: a method is called with what is configured."""
    told: list[bool] = []
    driver = driver_of(with_switch(fakedb, autocommit=told.append), transaction="autocommit")
    driver.rollback(driver.connect(soon()), soon())
    assert told == [True, True]


def test_transaction_control_of_its_own_is_left_alone(fakedb: FakeDB) -> None:
    """transaction: sqlite3's -1 is manual already; False would begin at once, and make PRAGMAs in init_sql void."""
    conn = driver_of(with_switch(fakedb, autocommit=-1)).connect(soon())
    assert conn.autocommit == -1


def test_no_switch(fakedb: FakeDB) -> None:
    """transaction: autocommit that cannot be had is a ConfigError, and its connection is closed."""
    with pytest.raises(ConfigError, match=r"transaction: FakeConnection .* no way to set autocommit"):
        driver_of(fakedb.connect, transaction="autocommit").connect(soon())
    assert fakedb.open_now == 0


def test_creator_of_something_else() -> None:
    """creator: what is no connection is a ConfigError that says what it was."""
    with pytest.raises(ConfigError, match="creator: returned dict"):
        driver_of(dict).connect(soon())


def test_always_dirty(fakedb: FakeDB) -> None:
    """C3: nothing tells whether a transaction is open, so there may be one."""
    driver = driver_of(fakedb.connect)
    assert driver.inspect(driver.connect(soon())) is DIRTY


@pytest.mark.parametrize("name", ["read_timeout", "write_timeout", "connect_timeout", "ssl_mode", "ssl_ca"])
def test_options_it_cannot_honour(fakedb: FakeDB, name: str) -> None:
    """An option that would have no effect is a ConfigError."""
    value = {"ssl_mode": "required", "ssl_ca": "/tmp/ca.pem"}.get(name, 1)
    more = {"ssl_mode": "verify_ca"} if name == "ssl_ca" else {}
    with pytest.raises(ConfigError, match=r"(ssl_mode|ssl_ca|_timeout): creator has no such option"):
        driver_of(fakedb.connect, **{name: value}, **more)


@pytest.mark.parametrize("method", ["execute", "executemany"])
def test_interrupted_statement(fakedb: FakeDB, method: str) -> None:
    """R2: a BaseException in a statement is a reason to discard; an Exception is not."""

    driver = driver_of(fakedb.connect)
    conn = driver.connect(soon())
    cursor = driver.adopt(conn.cursor(), Lease(driver, conn))
    fakedb.fail(method, FakeDB.OperationalError("no"))
    with pytest.raises(FakeDB.OperationalError):
        getattr(cursor, method)("INSERT", [])
    assert driver.inspect(conn) is DIRTY
    fakedb.fail(method, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        getattr(cursor, method)("INSERT", [])
    assert driver.inspect(conn) == "in the middle of a statement"


def test_abandon_has_nothing_to_wait_for(fakedb: FakeDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """abandon: where a connection tells its socket, its close() finds the line already ended and cannot hang."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(10)
        heard: list[bytes] = []
        monkeypatch.setattr(FakeConnection, "fileno", lambda conn: ours.fileno(), raising=False)
        monkeypatch.setattr(FakeConnection, "close", lambda conn: heard.append(ours.recv(1)))
        driver = driver_of(fakedb.connect)
        ours.settimeout(10)
        driver.abandon(driver.connect(soon()))
        assert (heard, theirs.recv(1)) == ([b""], b"")


def test_abandon_in_a_statement(fakedb: FakeDB) -> None:
    """abandon: what another thread may be using is not closed under it; one that is broken is closed at once."""
    driver = driver_of(fakedb.connect)
    used, broken = driver.connect(soon()), driver.connect(soon())
    seen, lease = driver.activity(used), Lease(driver, used)
    seen.enter(lease)
    driver.abandon(used)
    driver.abandon(broken)
    assert (used.closed, broken.closed) == (False, True)
    seen.leave(lease)
    assert used.closed, "by the thread whose call ends last"


CALLS: dict[str, Callable[[Any], Any]] = {
    "execute": lambda conn: conn.execute("INSERT INTO kept VALUES (1)"),
    "executemany": lambda conn: conn.executemany("INSERT INTO kept VALUES (?)", [(1,)]),
    "executescript": lambda conn: conn.executescript("DELETE FROM kept"),
}


class TestStatementsOfTheConnection:
    """A connection may have an execute() of its own (sqlite3's and psycopg's return a new cursor, DuckDB's itself)."""

    @pytest.fixture
    def database(self, tmp_path: Path) -> Iterator[Database]:
        def create() -> sqlite3.Connection:
            return sqlite3.connect(tmp_path / "own.sqlite3", check_same_thread=False)

        with Database(creator=create, strategy="pooled", pool_size=1) as database:
            with database.connection() as conn:
                conn.execute("CREATE TABLE kept (n INTEGER)")
                conn.commit()
            yield database

    @pytest.mark.parametrize("call", CALLS)
    def test_their_cursor_is_the_leases(self, database: Database, call: str) -> None:
        """R8: so that it ends with it, and cannot write into the next request's transaction."""
        before = database.stats().statements
        with database.connection() as conn:
            cursor = CALLS[call](conn)
            assert cursor.connection is conn
            assert cursor.execute("SELECT 7").fetchall() == [(7,)]
        assert database.stats().statements == before + 2
        with database.connection(), pytest.raises(ConnectionReturned):
            cursor.execute("INSERT INTO kept VALUES (2)")

    def test_what_they_left_behind_is_rolled_back(self, database: Database) -> None:
        with database.connection() as conn:
            conn.execute("INSERT INTO kept VALUES (1)")
        with database.connection() as conn:
            assert conn.execute("SELECT * FROM kept").fetchall() == []

    def test_a_method_kept_beyond_the_lease_is_refused(self, database: Database) -> None:
        with database.connection() as conn:
            execute, commit = conn.execute, conn.commit
        with pytest.raises(ConnectionReturned):
            execute("SELECT 1")
        with pytest.raises(ConnectionReturned):
            commit()

    def test_a_connection_that_returns_itself_is_the_lease(self, fakedb: FakeDB) -> None:
        def create() -> Any:
            made: Any = fakedb.connect()
            made.execute, made.executemany = lambda sql: made, lambda sql, rows: len(rows)
            return made

        with Database(creator=create) as database, database.connection() as conn:
            assert conn.execute("SELECT 1") is conn
            assert conn.executemany("SELECT 1", [(), ()]) == 2
            assert not hasattr(conn, "executescript")

    def test_interrupted(self, fakedb: FakeDB) -> None:
        """C6: it may be in the middle of its reply."""

        def interrupt(sql: str) -> None:
            raise KeyboardInterrupt

        with Database(creator=with_switch(fakedb, execute=interrupt), pool_size=1) as database:
            with database.connection() as conn, pytest.raises(KeyboardInterrupt):
                conn.execute("SELECT 1")
            assert database.stats().discards == {"in the middle of a statement": 1}
