"""The lines of docs/logging.md, provoked: each is written, with its text and level."""

from __future__ import annotations

import gc
import logging
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from drivers.cases import ERRORS, soon
from drivers.deadlines import driver_of
from drivers.world import Site
from strategies.kit import Worker, overload
from support import quoted
from support.clock import Clock
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.pgpackets import row
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from support.quoted import fits, shown
from support.wsgi import Call, environment
from wsgidb import Database, DatabaseMiddleware, DatabaseUnavailable, PoolOverloaded, PoolTimeout
from wsgidb.drivers.psycopg.pooler import QUESTION
from wsgidb.drivers.tracing import traced
from wsgidb.health import health
from wsgidb.observe import board, opentelemetry, telemetry
from wsgidb.observe.instruments import INSTRUMENTS
from wsgidb.observe.rows import encode
from wsgidb.scale.second import acquire_beside
from wsgidb.status import StatusApp

DOWN = FakeDB.OperationalError("down")
Logged = Callable[[str], None]


@pytest.fixture
def logged(caplog: pytest.LogCaptureFixture) -> Logged:
    """A function that asserts that the one line of the page that has this fragment in it was logged, with its level.
    The page for troubleshooting shows warnings, too."""
    caplog.set_level(logging.DEBUG, "wsgidb")

    def logged(fragment: str) -> None:
        levels = quoted.log_lines()
        (line,) = [line for line in levels if fragment in line]
        records = [(record.levelname, record.getMessage()) for record in caplog.records]
        found = [text for level, text in records if level == levels[line] and fits(line, text)]
        assert found, records
        for explained in quoted.blocks(quoted.section("troubleshooting.md", "## Warnings in the log")):
            if fragment in explained:
                assert fits(explained, found[-1])
        caplog.clear()

    return logged


@pytest.fixture
def database(fakedb: FakeDB, clock: Clock) -> Iterator[Database]:
    with Database(creator=fakedb.connect, clock=clock, max_idle=60, pool_size=1) as made:
        yield made


def use(database: Database) -> None:
    with database.connection() as conn:
        conn.cursor().execute("SELECT 1")


def handle(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    environ["db.conn"].cursor().execute("SELECT 1")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b""]


def test_several_hosts(clock: Clock, logged: Logged) -> None:
    """One of them begins to fail, and works again."""
    site = Site(clock, {"a": "ok", "b": "ok"}, strategy="per-request")
    site.new()
    site.hosts["a"] = "refused"
    site.new()
    logged("host <host> fails")
    site.hosts["a"] = "ok"
    clock.advance(1)
    site.new()
    logged("host <host> works again")
    site.hosts["a"] = "refused"
    site.new()
    logged("connecting to host <host> now")


def test_an_outage(database: Database, fakedb: FakeDB, clock: Clock, logged: Logged) -> None:
    """Its beginning and its end, and then the connection."""
    fakedb.fail("connect", DOWN)
    with pytest.raises(DatabaseUnavailable):
        database.lease()
    logged("<database>: cannot connect: <error>")
    clock.advance(5)
    use(database)
    logged("<database>: connected again")


def test_the_life_of_a_connection(database: Database, clock: Clock, logged: Logged) -> None:
    """At DEBUG."""
    use(database)
    logged("connection opened in")
    clock.advance(100)
    use(database)
    logged("connection retired: <reason>")


def test_discards(database: Database, fakedb: FakeDB, clock: Clock, logged: Logged) -> None:
    """With the request that has caused them, or without; and the reset that failed."""
    app = DatabaseMiddleware(handle, database)
    fakedb.fail("rollback", DOWN)
    Call(app, "/shop").read()
    logged("<database>: reset failed")
    fakedb.fail("rollback", DOWN)
    Call(app, "/shop").read()
    logged("connection discarded after <request>")
    use(database)
    clock.advance(5)
    fakedb.fail("execute", DOWN)
    use(database)
    logged("connection discarded: <reason>")


def test_a_drain(database: Database, logged: Logged) -> None:
    """When it is over."""
    use(database)
    database.drain(over=0)
    use(database)
    logged("drained: the connections from before are closed")


def test_a_close_that_fails(database: Database, fakedb: FakeDB, clock: Clock, logged: Logged) -> None:
    """It is gone all the same."""
    use(database)
    clock.advance(100)
    fakedb.fail("close", DOWN)
    use(database)
    logged("<database>: close failed")


def test_a_cursor_that_cannot_be_closed(database: Database, monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    """The class of a handler's cursor raises."""

    def fail(cursor: Any) -> None:
        raise ValueError("no")

    monkeypatch.setattr(database._engine.driver, "retire_cursor", fail)
    with database.connection() as conn:
        kept = conn.cursor()
    del kept
    logged("a cursor could not be closed")


def test_a_slow_callable(fakedb: FakeDB, clock: Clock, logged: Logged) -> None:
    """It is logged now and then."""

    def arguments() -> dict[str, Any]:
        clock.advance(9)
        return {}

    with Database(creator=fakedb.connect, connect_args=arguments, clock=clock) as database:
        with pytest.raises(DatabaseUnavailable):
            database.lease()
        logged("<database>: cannot connect: the callable of connect_args")


def test_an_exhausted_pool(fakedb: FakeDB, logged: Logged) -> None:
    """The line is the error that the request got."""
    for options in ({"acquire_timeout": 0.01}, {"max_waiting": 0}):
        with Database(creator=fakedb.connect, pool_size=1, **options) as database:
            with database.connection(), pytest.raises((PoolTimeout, PoolOverloaded)):
                Worker(database.lease).outcome()
            logged("no connection became free" if "acquire_timeout" in options else "no connection is free")


def test_an_overload(fakedb: FakeDB, clock: Clock, logged: Logged) -> None:
    """Likewise."""
    with Database(creator=fakedb.connect, pool_size=1, clock=clock) as database:
        with overload(database, clock), pytest.raises(PoolOverloaded):
            database.lease()
        logged("the pool has been overloaded")


def test_a_second_connection_of_the_primary(fakedb: FakeDB, logged: Logged) -> None:
    """Likewise: requests that wait for one hold all others."""
    with Database(creator=fakedb.connect, pool_size=1) as database, closing(database.lease()) as conn:
        with pytest.raises(PoolOverloaded):
            acquire_beside(database.engine, conn, None)
        logged("no replica has what this request needs")


def test_a_lost_write(tmp_path: Path, logged: Logged) -> None:
    """Of a request, and of a script."""
    url = f"sqlite:///{tmp_path}/t.db"
    with Database(url, init_sql="CREATE TABLE IF NOT EXISTS t (n INT)") as database:
        with database.connection() as conn:
            conn.execute("INSERT INTO t VALUES (1)")
        logged("rolled back an uncommitted write")


def test_a_leak(fakedb: FakeDB, clock: Clock, logged: Logged) -> None:
    """The stack follows."""
    with Database(creator=fakedb.connect, clock=clock, leak_after=10, pool_size=2) as database:
        with database.connection():
            clock.advance(20)
            use(database)
        logged("has held a connection of")


def test_a_body_that_was_never_closed(database: Database, logged: Logged) -> None:
    """Garbage collection finds it."""

    def stream(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b"a"
        yield b"b"

    body = DatabaseMiddleware(stream, database)(environment(), lambda *head: print)
    next(iter(body))
    del body
    gc.collect()
    logged("a response body was never closed")


def test_a_thread_for_every_request(
    fakedb: FakeDB, logged: Logged, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As socketserver's threads are named; and gevent, which has patched threading."""
    for gevent in (False, True):
        if gevent:
            patched = SimpleNamespace(is_module_patched=lambda name: name == "threading")
            monkeypatch.setitem(sys.modules, "gevent.monkey", patched)
        with Database(creator=fakedb.connect, strategy="thread-local") as database:
            thread = threading.Thread(target=use, args=(database,), name="Thread-1 (process_request_thread)")
            thread.start()
            thread.join(10)
            (line,) = [each.getMessage() for each in caplog.records if "keeps no connection here" in each.getMessage()]
            if gevent:
                shown("with gevent each greenlet", line)
            else:
                shown("this server starts a thread for every request", line)
            logged("keeps no connection here: <reason>")


def test_a_commit_that_fails(fakedb: FakeDB, logged: Logged) -> None:
    """The client gets a 500."""
    with Database(creator=fakedb.connect, transaction="request") as database:
        fakedb.fail("commit", DOWN)
        assert Call(DatabaseMiddleware(handle, database)).status == "500 Internal Server Error"
        logged("commit failed, answered with 500")


def test_a_request_that_is_repeated(tmp_path: Path, logged: Logged) -> None:
    """The client sees only the second attempt."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["wsgidb.attempt"] == 1:
            with closing(sqlite3.connect(tmp_path / "file")) as rival:
                rival.execute("BEGIN EXCLUSIVE")
                environ["db.conn"].execute("CREATE TABLE t (n INT)")
        return handle(environ, start_response)

    url = f"sqlite:///{tmp_path}/file?timeout=0"
    assert Call(DatabaseMiddleware(app, url, transaction="request", retry=1)).status == "200 OK"
    logged("the request is repeated")


def test_a_release_that_fails_after_the_commit(fakedb: FakeDB, monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    """The client gets its success."""
    with Database(creator=fakedb.connect, transaction="request") as database:
        use(database)

        def fail(*args: Any, **kwargs: Any) -> None:
            raise ValueError("no")

        monkeypatch.setattr(database._engine, "release", fail)
        assert Call(DatabaseMiddleware(handle, database)).status == "200 OK"
        logged("the work is committed, but releasing")


class Tool:
    """A tracing tool's wrapper that fails."""

    __wrapped__ = None

    def _self_wrapper(self, *args: Any) -> None:
        raise ValueError("no")


def test_tools_that_fail(fakedb: FakeDB, monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    """A tracing tool, and metrics at start-up and later."""
    conn = fakedb.connect()
    assert traced(Tool(), conn) is conn
    logged("a tracing tool failed")
    with Database(creator=fakedb.connect) as database:
        broken = INSTRUMENTS[0]._replace(values=None)  # type: ignore[arg-type]
        opentelemetry._observe(broken, {}, None)  # type: ignore[arg-type]
        logged("metrics: <instrument>")
        monkeypatch.setattr(opentelemetry, "register", None)
        telemetry.register(database.settings, "shop", database.stats)
        logged("<database>: no metrics")


def test_a_health_check_that_fails(database: Database, monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    """By something that is no error of connecting."""
    monkeypatch.setattr(database, "probe", None)
    assert not health(database).ready
    logged("the health check failed")


def test_a_status_page_that_cannot_ask(database: Database, monkeypatch: pytest.MonkeyPatch, logged: Logged) -> None:
    """How many connections the server allows."""
    monkeypatch.setattr("wsgidb.status.app.facts", None)
    assert Call(StatusApp(database), REMOTE_ADDR="127.0.0.1").status == "200 OK"
    logged("the server cannot be asked")


def test_a_board_that_is_none(tmp_path: Path, fakedb: FakeDB, logged: Logged, caplog: pytest.LogCaptureFixture) -> None:
    """A file in the directory's place, and rows that are not whole."""
    with Database(creator=fakedb.connect) as database:
        taken = tmp_path / "taken"
        taken.touch()
        board.Page(str(taken)).write(database.stats)
        logged("cannot be written")
        board.read(str(taken))
        logged("<directory> cannot be read")
        row = encode(database.stats(), board.NOTHING, 0.0)
        for data, fragment in ((b"nonsense", "not a row of this"), (row[:-9], "an incomplete row")):
            (tmp_path / "1-2.row").write_bytes(data)
            board.read(str(tmp_path))
            (line,) = [each.getMessage() for each in caplog.records if "has no row that" in each.getMessage()]
            shown(fragment, line.rpartition(": ")[2])
            logged("has no row that can be read")


@pytest.mark.server
class TestReset:
    """Why a session cannot be cleared, which the traceback of "reset failed" tells."""

    def failure(self, url: str, sql: str, after: str = "", **options: Any) -> str:
        driver = driver_of(url, reset="session", **options)
        conn = driver.connect(driver.clock() + 5)
        try:
            conn.cursor().execute(sql)
            with pytest.raises((*ERRORS, psycopg.Error)) as caught:
                driver.reset(conn, driver.clock() + 5)
        finally:
            driver.abandon(conn)
        error: Any = caught.value
        return str(getattr(error, "msg", None) or (error.args[1] if error.args[1:] else error))

    def test_what_it_cannot_undo(self, mariadb: MariaDB) -> None:
        """A database where there was none; a role; a transaction that begins with each rollback."""
        url = mariadb.url(database="")
        shown("a database was selected", self.failure(url, "USE test"))
        mariadb.execute("CREATE ROLE teller")
        mariadb.execute("GRANT teller TO guest@'%'")
        try:
            connector = mariadb.url().replace("pymysql", "mysqlconnector")
            shown("a role was set", self.failure(connector, "SET ROLE teller"))
        finally:
            mariadb.execute("DROP ROLE teller")

    def test_transactions_that_chain(self, mariadb: MariaDB) -> None:
        """With completion_type, each ROLLBACK begins another one."""
        driver = driver_of(mariadb.url(), transaction="autocommit")
        conn: Any = driver.connect(driver.clock() + 5)
        for sql in ("SET completion_type = CHAIN", "BEGIN"):
            conn.cursor().execute(sql)
        with pytest.raises(ERRORS) as caught:
            driver.rollback(conn, driver.clock() + 5)
        driver.abandon(conn)
        shown("a transaction is still open", caught.value.args[1])

    def test_another_thread(self, postgresql: PostgreSQL) -> None:
        """It holds psycopg's lock."""
        driver = driver_of(postgresql.url())
        conn: Any = driver.connect(driver.clock() + 5)
        with conn.lock, pytest.raises(psycopg.OperationalError) as caught:
            driver.rollback(conn, driver.clock() + 0.1)
        driver.abandon(conn)
        shown("another thread is in the middle", caught.value)


def test_a_pooler(postgresql: PostgreSQL, postgresql_proxy: TCPProxy, logged: Logged) -> None:
    """Nothing is prepared behind it, unless the user said so; what changes a session changes that of others."""
    url = postgresql_proxy.url_from(postgresql.url())
    postgresql_proxy.answer(QUESTION.decode(), lambda: row("17"))
    driver_of(url).connect(soon()).close()
    logged("statements are not prepared")
    postgresql_proxy.answer(QUESTION.decode(), lambda: row("17"))
    driver_of(url, connect_args={"prepare_threshold": 5}, reset="session").connect(soon()).close()
    logged("prepare_threshold can put rows")
    postgresql_proxy.answer(QUESTION.decode(), lambda: row("17"))
    driver_of(url, init_sql=["SET lock_timeout = 0"]).connect(soon()).close()
    logged("changes the sessions of other programs")
