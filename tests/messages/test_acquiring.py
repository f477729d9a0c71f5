"""What a request is told that gets no connection: the sentences of docs/troubleshooting.md, provoked."""

from __future__ import annotations

import contextlib
import itertools
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from threading import Thread
from typing import Any

import psycopg
import pytest

from drivers.cases import ERRORS
from drivers.deadlines import driver_of
from drivers.world import Site
from strategies.kit import Worker, overload
from support.clock import Clock
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.ports import bind
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from support.quoted import shown
from support.waiting import until
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware, DatabaseUnavailable, PoolOverloaded, PoolTimeout
from wsgidb.config.settings import Settings
from wsgidb.drivers import make_driver, sockets
from wsgidb.drivers.mysqlconnector.connection import Connection as ConnectorConnection
from wsgidb.drivers.pymysql.wire import Wire
from wsgidb.scale.second import acquire_beside
from wsgidb.testing import SandboxDatabase

CLIENT, CONNECTOR = "mysql+mysqldb", "mysql+mysqlconnector"
DOWN = FakeDB.OperationalError("down")


def refusal(database: Database) -> str:
    with pytest.raises(DatabaseUnavailable) as caught:
        database.lease()
    return str(caught.value)


def said(url: str, deadline: float | None = None, **options: Any) -> str:
    """The text of the driver's error, without its number."""
    return told(lambda: driver_of(url, **options).connect(time.monotonic() + 5 if deadline is None else deadline))


def told(call: Callable[[], object]) -> str:
    with pytest.raises((*ERRORS, psycopg.Error, OSError)) as caught:
        call()
    error: Any = caught.value
    return str(getattr(error, "msg", None) or (error.args[1] if error.args[1:] else error))


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port on which nothing listens."""
    with bind() as listener:
        yield listener.getsockname()[1]


class TestOutage:
    def test_the_failure_and_the_back_off(self, nobody: int, clock: Clock) -> None:
        """The first request is told the cause, and those after it that it is too early to try again."""
        with Database(f"mysql://guest@127.0.0.1:{nobody}/test", clock=clock) as database:
            shown("cannot connect: <error>", refusal(database), whole=True)
            shown("not connecting again yet", refusal(database))

    @pytest.mark.parametrize("scheme", ["mysql", CONNECTOR])
    def test_nothing_listens(self, nobody: int, scheme: str) -> None:
        """The text has the address and the system's error."""
        shown("cannot connect to <address> (<error>)", said(f"{scheme}://guest@127.0.0.1:{nobody}/test"), whole=True)

    def test_no_time(self) -> None:
        """The drivers are asked to connect when the deadline has passed."""
        shown("no connection to", told(lambda: sockets.connect_tcp("127.0.0.1", 1, 0.0, time.monotonic)))
        shown("no time is left to connect", said(f"{CLIENT}://guest@127.0.0.1:1/test", 0.0), whole=True)
        shown("no time left to connect", said("postgresql://guest@127.0.0.1:1/test", 0.0))

    def test_a_name_that_leads_nowhere(self) -> None:
        """psycopg's hosts are looked up by wsgidb."""
        shown("cannot find", said("postgresql://guest@no-such-host.invalid/test"))

    def test_a_server_that_is_too_slow(self) -> None:
        """It sends and sends, and never ends its greeting. Each look at the clock takes a second."""
        looks = itertools.count()
        with bind() as listener:
            listener.listen()
            url = f"mysql://guest@127.0.0.1:{listener.getsockname()[1]}/test"
            thread = Thread(target=pour, args=(listener,))
            thread.start()
            driver = make_driver(Settings.of({"url": url}), lambda: float(next(looks)))
            text = told(lambda: driver.connect(12))
            thread.join(10)
        shown("the server answers too slowly", text.removeprefix("Lost connection to MySQL server (").rstrip(")"))

    def test_a_server_that_hangs_up(self) -> None:
        """It accepts, and says nothing."""
        with bind() as listener:
            listener.listen()
            thread = Thread(target=lambda: listener.accept()[0].close())
            thread.start()
            text = said(f"mysql://guest@127.0.0.1:{listener.getsockname()[1]}/test")
            thread.join(10)
        shown("Lost connection to MySQL server (<error>)", text, whole=True)
        shown("the server closed the connection", text.partition("(")[2].rstrip(")"), whole=True)

    @pytest.mark.parametrize(
        ("target", "kind", "fragment"),
        [
            ("read-write", "standby", "the server is read-only"),
            ("read-only", "ok", "the server is not read-only"),
            ("primary", "standby", "the server is a standby"),
            ("standby", "ok", "the server is not a standby"),
        ],
    )
    def test_a_server_that_is_not_wanted(self, clock: Clock, target: str, kind: str, fragment: str) -> None:
        """The host is named, and what it is."""
        text = refusal(Site(clock, {"a": kind}, f"?target_session_attrs={target}").database)
        shown(fragment, text.removeprefix("cannot connect: UnfitServerError: "))

    def test_a_callable_that_is_too_slow(self, fakedb: FakeDB, clock: Clock) -> None:
        """It is named, and not the server."""

        def arguments() -> dict[str, Any]:
            clock.advance(9)
            return {}

        with Database(creator=fakedb.connect, connect_args=arguments, clock=clock) as database:
            shown("cannot connect: the callable of connect_args", f"creator: {refusal(database)}", log=True)
            shown("cannot connect: the callable of connect_args", refusal(database))

    def test_a_closed_database(self, fakedb: FakeDB) -> None:
        """Nobody gets a connection after close()."""
        database = Database(creator=fakedb.connect)
        database.close()
        shown("the Database is closed", refusal(database))

    def test_check(self, fakedb: FakeDB) -> None:
        """The ping of a health page fails."""
        with Database(creator=fakedb.connect) as database:
            fakedb.fail("execute", DOWN)
            with pytest.raises(DatabaseUnavailable) as caught:
                database.check()
            shown("ping failed: <error>", caught.value)

    def test_the_sandbox(self) -> None:
        """An outage() that the test asked for, and a connection that is gone."""
        with SandboxDatabase(creator=FakeDB().connect) as database:
            with database.outage():
                shown("the sandbox is in an outage()", refusal(database))
            with database.connection() as conn:
                conn.driver_connection.close()
            shown("the sandbox has lost its connection", refusal(database).removeprefix("cannot connect: "))


def pour(listener: socket.socket) -> None:
    with listener.accept()[0] as client, contextlib.suppress(OSError):
        client.sendall(b"\xff\xff\xff\x00\x0a")
        while True:
            client.sendall(bytes(1 << 12))


@pytest.mark.server
class TestTLS:
    def test_a_server_without_it(self, mariadb: MariaDB) -> None:
        """PyMySQL and MySQL Connector/Python: wsgidb reads what the server offers."""
        for scheme in ("mysql+pymysql", CONNECTOR):
            url = mariadb.url().replace("mysql+pymysql", scheme)
            shown("the server offers no TLS", said(url, ssl_mode="required"))

    def test_a_driver_that_does_without(
        self, tls_mariadb: MariaDB, postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The connection that came out is looked at. libpq has no TLS on a Unix socket; the others are made to."""
        fragment = "<driver> connected without TLS"
        monkeypatch.delattr(Wire, "_get_server_information")
        shown(fragment, said(tls_mariadb.url(), ssl_mode="required"))
        never = property(lambda self: True, lambda self, value: None)
        monkeypatch.setattr(ConnectorConnection, "_ssl_disabled", never, raising=False)
        shown(fragment, said(tls_mariadb.url().replace("mysql+pymysql", CONNECTOR), ssl_mode="required"))
        client = driver_of(tls_mariadb.url().replace("mysql+pymysql", CLIENT), ssl_mode="required")
        monkeypatch.setattr(client, "_options", lambda arguments: {"autocommit": None, "ssl_mode": "DISABLED"})
        shown(fragment, told(lambda: client.connect(time.monotonic() + 5)))
        url, port = f"postgresql://guest@/test?host={postgresql.directory}", {"port": postgresql.port}
        text = said(url, ssl_mode="required", connect_args=port)
        shown("connected without TLS, but ssl_mode requires it", text, whole=True)

    def test_a_certificate_that_does_not_pass(self, tls_mariadb: MariaDB) -> None:
        """MySQL Connector/Python's own error would not tell why."""
        url = tls_mariadb.url().replace("mysql+pymysql", CONNECTOR)
        shown("no TLS with <address>", said(url, ssl_mode="verify_ca"))


@pytest.mark.server
def test_a_copy_in_init_sql(postgresql: PostgreSQL) -> None:
    """Nobody would read its rows."""
    shown("COPY cannot be used here", said(postgresql.url(), init_sql="COPY (SELECT 1) TO STDOUT"))


class TestExhausted:
    @pytest.fixture
    def database(self, fakedb: FakeDB) -> Iterator[Database]:
        with Database(creator=fakedb.connect, pool_size=1, acquire_timeout=0.05) as made:
            yield made

    def test_others_have_them(self, database: Database) -> None:
        """A request of another thread has the only connection."""
        with database.connection(), pytest.raises(PoolTimeout) as caught:
            Worker(database.lease).outcome()
        shown("other requests waiting: <n>; held by <requests>; raise pool_size", caught.value)

    def test_too_many_wait(self, fakedb: FakeDB) -> None:
        """max_waiting requests wait already."""
        with Database(creator=fakedb.connect, pool_size=1, max_waiting=0) as database:
            with database.connection(), pytest.raises(PoolOverloaded) as caught:
                Worker(database.lease).outcome()
            shown("no connection is free (max_waiting): <n>", caught.value)

    def test_an_overload(self, fakedb: FakeDB, clock: Clock) -> None:
        """All have waited too long, for long enough."""
        with Database(creator=fakedb.connect, pool_size=1, clock=clock) as database, overload(database, clock):
            with pytest.raises(PoolOverloaded) as caught:
                database.lease()
            shown("the pool has been overloaded for <seconds> s (queue_target): <n>", caught.value)

    def test_the_thread_itself_has_one(self, database: Database) -> None:
        """A second connection within a request."""

        def handle(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            with pytest.raises(PoolTimeout) as caught:
                database.lease()
            shown("other requests waiting: <n>; held by <requests>; this thread holds one of them itself", caught.value)
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b"done"]

        assert Call(DatabaseMiddleware(handle, database)).read() == b"done"

    def test_a_second_one_of_the_primary(self, fakedb: FakeDB) -> None:
        """A request that reads from the primary, as no replica could serve it, has the only connection."""
        with Database(creator=fakedb.connect, pool_size=1) as database, closing(database.lease()) as conn:
            with pytest.raises(PoolOverloaded) as caught:
                acquire_beside(database.engine, conn, None)
            shown("no replica has what this request needs, so it reads from the primary", caught.value)

    def test_no_other_can_be_opened(self, fakedb: FakeDB, monkeypatch: pytest.MonkeyPatch) -> None:
        """The server grants one of two. No later attempt is due when the time is over, whose error would be told."""
        for name in ("FIRST", "LAST"):
            monkeypatch.setattr(f"wsgidb.pool.backoff.{name}", 60.0)
        with Database(creator=fakedb.connect, pool_size=2, acquire_timeout=0.5) as database, database.connection():
            fakedb.fail("connect", DOWN)
            with pytest.raises(PoolTimeout) as caught:
                database.lease()
            shown("held by <requests>; no other can be opened", caught.value)

    def test_all_are_being_opened(self, database: Database, fakedb: FakeDB) -> None:
        """Nobody holds a connection, and the place of one is taken."""
        gate = fakedb.block("connect")
        first = Worker(database.lease)
        try:
            until(lambda: fakedb.count("connect") == 1, what="the first to connect")
            with pytest.raises(PoolTimeout) as caught:
                database.lease()
        finally:
            gate.open()
        first.outcome()
        shown("none of them is open yet", caught.value)


def test_a_slow_reply_of_postgresql(postgresql: PostgreSQL, postgresql_proxy: TCPProxy) -> None:
    """read_timeout is wsgidb's own with psycopg."""
    url = postgresql_proxy.url_from(postgresql.url())
    with Database(url, read_timeout=0.2) as database, database.connection() as conn:
        postgresql_proxy.deaf()
        shown("the server did not answer in time", told(lambda: conn.execute("SELECT 1")))
