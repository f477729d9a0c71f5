"""Several hosts with each driver that has a network: two servers, of which one is a replica of the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

import mysql.connector
import MySQLdb
import psycopg
import pymysql
import pytest

from drivers.cases import run
from support.mariadb import MariaDB
from support.pgpackets import MessageReader
from support.ports import bind
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from support.replication import Replication, mariadb_replication, postgresql_replication
from support.waiting import until
from wsgidb import Database, DatabaseUnavailable
from wsgidb.drivers import memory
from wsgidb.drivers.activity import Activity

pytestmark = pytest.mark.server

SCHEMES = ("mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector", "postgresql+psycopg")
PORT = {"mysql": "SELECT @@port", "postgresql": "SELECT current_setting('port')"}
SIGN, UNFIT = "server read-only or not ready", "no longer fit"


@pytest.fixture(scope="module")
def mariadbs() -> Iterator[Replication[Any, Any]]:
    with mariadb_replication() as servers:
        yield servers


@pytest.fixture(scope="module")
def postgresqls() -> Iterator[Replication[Any, Any]]:
    with postgresql_replication() as servers:
        yield servers


class Pair(NamedTuple):
    """Two servers behind a network each, for one driver."""

    scheme: str
    primary: TCPProxy
    standby: TCPProxy

    def url(self, *hosts: TCPProxy, **query: str) -> str:
        """Of these hosts, in that order; the primary first if none is given."""
        asked = "&".join(f"{name}={value}" for name, value in query.items())
        where = ",".join(f"127.0.0.1:{each.port}" for each in hosts or (self.primary, self.standby))
        return f"{self.scheme}://guest@{where}/test?{asked}".rstrip("?")

    @property
    def patience(self) -> float:
        """A connect_timeout for two hosts that is short, but not too short for a busy machine, and for a library that
        counts whole seconds."""
        return 4 if self.scheme == "mysql+mysqldb" else 2

    def database(self, *hosts: TCPProxy, query: dict[str, str] | None = None, **options: Any) -> Database:
        options = {"strategy": "per-request", "connect_timeout": 4, "ssl_mode": "disabled", **options}
        return Database(self.url(*hosts, **(query or {})), **options)

    def where(self, database: Database) -> TCPProxy:
        """The server of one more connection."""
        with database.connection() as conn:
            ((port,),) = run(conn, PORT[self.scheme.partition("+")[0]])
        return next(each for each in (self.primary, self.standby) if each.target_port == int(port))

    @property
    def seen(self) -> tuple[int, int]:
        """How many connections each server has got."""
        return self.primary.connections, self.standby.connections


@pytest.fixture(params=SCHEMES)
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    scheme: str = request.param
    mysql = scheme.startswith("mysql")
    servers = request.getfixturevalue("mariadbs" if mysql else "postgresqls")
    with ExitStack() as stack:
        reader = [] if mysql else [MessageReader]
        ports = servers.primary.port, servers.replicas[0].port
        yield Pair(scheme, *(stack.enter_context(TCPProxy(port, *reader)) for port in ports))


def test_first_one_that_answers(pair: Pair) -> None:
    """In the url's order; one that refuses costs one attempt, and then none."""
    with pair.database() as database:
        assert pair.where(database) is pair.primary
        pair.primary.refuse()
        assert [pair.where(database) for _ in range(3)] == [pair.standby] * 3
        assert pair.seen == (1, 3)


@pytest.fixture
def long_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that has failed comes last for as long as the test takes, however busy the machine is."""
    monkeypatch.setattr(memory, "FIRST", 60.0)
    monkeypatch.setattr(memory, "LAST", 60.0)


def test_frozen_host_is_waited_for_once(pair: Pair, long_memory: None) -> None:
    """A host that accepts and says nothing has cost its share of the time once, and is then the last to be asked."""
    pair.primary.deaf()
    with pair.database(connect_timeout=pair.patience) as database:
        assert [pair.where(database) for _ in range(4)] == [pair.standby] * 4
        assert pair.seen == (1, 4)


WANTED = {"any": 0, "read-write": 1, "primary": 1, "read-only": -1, "standby": -1, "prefer-standby": -1}


@pytest.mark.parametrize("target", WANTED)
@pytest.mark.parametrize("primary_first", [True, False])
def test_what_is_asked_for(pair: Pair, target: str, primary_first: bool) -> None:
    """target_session_attrs, whichever host is named first: the other one is asked once at most."""
    order = (pair.primary, pair.standby) if primary_first else (pair.standby, pair.primary)
    wanted = {0: order[0], 1: pair.primary, -1: pair.standby}[WANTED[target]]
    with pair.database(*order, query={"target_session_attrs": target}) as database:
        assert [pair.where(database) for _ in range(3)] == [wanted] * 3
    other = pair.standby if wanted is pair.primary else pair.primary
    assert (wanted.connections, other.connections) == (3, int(wanted is not order[0]))


def test_no_server_is_fit(pair: Pair) -> None:
    """A clear DatabaseUnavailable, be it of one host or of several, and no connection is left open."""
    for hosts in ((pair.standby,), (pair.primary, pair.standby)):
        pair.primary.refuse()
        with pair.database(*hosts, query={"target_session_attrs": "read-write"}) as database:
            with pytest.raises(DatabaseUnavailable) as caught:
                pair.where(database)
            text = str(caught.value)
            assert "UnfitServerError: " in text
            assert "the server is read-only (target_session_attrs=read-write)" in text
            assert f"127.0.0.1:{pair.standby.port}: " in text
            assert (f"NoHostError: 127.0.0.1:{pair.primary.port}: " in text) is (len(hosts) > 1)
    until(lambda: not pair.standby.open_connections, what="the end of what was not fit")


def test_prefer_standby_takes_what_there_is(pair: Pair, long_memory: None) -> None:
    """Without a standby that answers, the primary will do; the frozen standby is waited for once."""
    pair.standby.deaf()
    with pair.database(query={"target_session_attrs": "prefer-standby"}, connect_timeout=pair.patience) as database:
        assert [pair.where(database) for _ in range(3)] == [pair.primary] * 3
        assert pair.seen == (3, 1)


def test_round_trips(pair: Pair) -> None:
    """What is asked costs one round trip at most. PostgreSQL tells it at the login; and a Galera node that accepts a
    login may still not be ready, so of several hosts each MySQL server is asked."""

    def cost(*hosts: TCPProxy, **query: str) -> int:
        with pair.database(*hosts, query=query) as database, pair.primary.counting() as commands, database.connection():
            pass
        return len(commands)

    usual = cost(pair.primary)
    asked = int(pair.scheme.startswith("mysql"))
    assert cost(pair.primary, target_session_attrs="any") == usual
    assert cost(pair.primary, target_session_attrs="prefer-standby") == usual
    assert cost(pair.primary, target_session_attrs="read-write") == usual + asked
    assert cost(pair.primary, pair.standby) == usual + asked
    assert cost(pair.primary, pair.standby, target_session_attrs="primary") == usual + asked


def test_ipv6_and_a_name(pair: Pair) -> None:
    """Hosts of all kinds in one url; nobody listens on the first one."""
    with bind() as unused:
        port = unused.getsockname()[1]
        url = f"{pair.scheme}://guest@[::1]:{port},localhost:{pair.standby.port}/test"
        with Database(url, ssl_mode="disabled") as database:
            assert pair.where(database) is pair.standby


def test_unix_sockets(pair: Pair, mariadbs: Replication[Any, Any], postgresqls: Replication[Any, Any]) -> None:
    """A socket's path (its directory, for PostgreSQL) is a host as well, with %2F for each slash."""
    mysql = pair.scheme.startswith("mysql")
    path = mariadbs.primary.socket if mysql else f"{postgresqls.primary.directory}:{postgresqls.primary.port}"
    nobody = "/nowhere/s"
    coded, nobody = path.replace("/", "%2F"), nobody.replace("/", "%2F")
    for hosts in (coded, f"{nobody},{coded}", f"{coded},127.0.0.1:{pair.standby.port}"):
        with Database(f"{pair.scheme}://guest@{hosts}/test", ssl_mode="disabled") as database:
            assert pair.where(database) is pair.primary
    assert pair.seen == (0, 0)


def test_lists_in_connect_args(pair: Pair) -> None:
    """connect_args has such lists, too, and may have the ports of the url's hosts; PostgreSQL's url also behind the
    question mark."""
    ports = f"{pair.standby.port},{pair.primary.port}"
    host, listed, query = "127.0.0.1", "127.0.0.1,127.0.0.1", "target_session_attrs=primary"
    given: list[tuple[str, dict[str, Any]]] = [
        (f"guest@elsewhere.invalid/test?{query}", {"host": listed, "port": ports}),
        (f"guest@{listed}/test?{query}", {"port": ports}),
        (f"guest@{host}/test", {"host": listed, "port": ports, "target_session_attrs": "primary"}),
    ]
    if pair.scheme.startswith("postgresql"):
        given.append((f"guest@/test?host={listed}&port={ports}&{query}", {}))
    for address, arguments in given:
        with Database(f"{pair.scheme}://{address}", connect_args=arguments, ssl_mode="disabled") as database:
            assert pair.where(database) is pair.primary


def test_random_order(pair: Pair) -> None:
    """load_balance_hosts=random: both are used."""
    with pair.database(query={"load_balance_hosts": "random"}) as database:
        assert {id(pair.where(database)) for _ in range(40)} == {id(pair.primary), id(pair.standby)}


# -- one sign speaks for all


@pytest.fixture
def switched(pair: Pair, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server of the test's own, and what makes it read-only and leads its address to another server."""
    mysql = pair.scheme.startswith("mysql")
    server: MariaDB | PostgreSQL = request.getfixturevalue("own_mariadb" if mysql else "own_postgresql")
    with TCPProxy(server.port, *([] if mysql else [MessageReader])) as proxy:

        def switch() -> None:
            if isinstance(server, MariaDB):
                server.execute("SET GLOBAL read_only = 1")
            else:
                server.execute("ALTER SYSTEM SET default_transaction_read_only = on")
                server.query("SELECT pg_reload_conf()")
                until(lambda: server.query("SHOW default_transaction_read_only") == [("on",)], what="the change")
            proxy.retarget(pair.primary.target_port)

        yield proxy, switch


READ_ONLY = (pymysql.err.OperationalError, MySQLdb.OperationalError, mysql.connector.Error, psycopg.Error)
WRITE = "CREATE TABLE IF NOT EXISTS written (n INT)"


@pytest.mark.parametrize("query", [{}, {"target_session_attrs": "read-write"}])
def test_one_write_fails_after_a_failover(pair: Pair, switched: Any, query: dict[str, str]) -> None:
    """The address of a pool of five leads to another server: one write fails. The four others are asked once, by one
    round trip, and left."""
    proxy, switch = switched
    options: dict[str, Any] = {"strategy": "pooled", "transaction": "autocommit", "ping_after": None}
    with pair.database(proxy, query=query, **options) as database:
        with ExitStack() as stack:
            for _ in range(5):
                run(stack.enter_context(database.connection()), "SELECT 1")
        switch()
        failed = 0
        with proxy.counting() as commands:
            for _ in range(20):
                try:
                    with database.connection() as conn:
                        run(conn, WRITE)
                except READ_ONLY:
                    failed += 1
        assert failed == 1
        stats = database.stats()
        assert stats.discards[SIGN] == 1
        assert set(stats.discards) <= {SIGN, UNFIT}
        assert stats.pings == stats.discards.get(UNFIT, 0)
        if pair.scheme.startswith("mysql"):
            new = stats.connects - 5 if query else 1  # with `any` the first new connection is asked, too
            assert len([each for each in commands if "read_only" in each]) == stats.pings + new


def test_fit_connections_stay(pair: Pair) -> None:
    """A read-only transaction looks the same to MySQL's error 1290 only: here the server's answer is what counts."""
    with pair.database(strategy="pooled", transaction="autocommit", ping_after=None) as database:
        with ExitStack() as stack:
            leases = [stack.enter_context(database.connection()) for _ in range(3)]
            for lease in leases:
                run(lease, "SELECT 1")
        database._engine.process.doubt(Activity())
        with ExitStack() as stack, pair.primary.counting() as commands:
            for _ in range(3):
                stack.enter_context(database.connection())
        assert len(commands) == 3
        with ExitStack() as stack, pair.primary.counting() as commands:
            for _ in range(3):
                stack.enter_context(database.connection())
        assert commands == []
        assert database.stats().connects == 3


def test_killed_in_the_middle(pair: Pair) -> None:
    """The primary goes away, with all connections to it: the next request is served by the other host."""
    with pair.database(strategy="pooled") as database:
        with ExitStack() as stack:
            for _ in range(3):
                run(stack.enter_context(database.connection()), "SELECT 1")
        pair.primary.refuse()
        pair.primary.cut()
        with ExitStack() as stack:
            for _ in range(3):
                with suppress(Exception):
                    run(stack.enter_context(database.connection()), "SELECT 1")
        assert pair.where(database) is pair.standby
        assert database.stats().discards == {"check failed": 3}
        assert database.stats().connect_failures == 0
