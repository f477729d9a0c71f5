"""HAProxy between the application and two servers: idle time-outs, failover, and the way back."""

from __future__ import annotations

from collections.abc import Iterator

import pymysql
import pytest

from support.haproxy import HAProxy
from support.mariadb import MariaDB
from support.ports import connected
from support.waiting import until
from wsgidb import Database

pytestmark = [pytest.mark.slow, pytest.mark.server]
IDLE = "2s"
"""The time-out of the tests that wait for it. No connection that is in use may be silent for that long."""


@pytest.fixture
def servers() -> Iterator[list[MariaDB]]:
    with MariaDB() as first, MariaDB() as second:
        yield [first, second]


def port(database: Database) -> int:
    """Of the server that a request gets to."""
    with database.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT @@port")
        return int(cursor.fetchone()[0])


def until_closed(proxy: HAProxy) -> None:
    """Wait until the client has heard that HAProxy has closed its connection, which the servers may know earlier."""
    until(lambda: not connected(proxy.port), 30, "HAProxy to close the connection")


def test_idle_time_out_is_no_error(servers: list[MariaDB]) -> None:
    """C2: a connection that HAProxy has closed while it was idle is replaced, and no request is told of it."""
    first, _ = servers
    with HAProxy(servers, idle=IDLE) as proxy, Database(proxy.url(), ping_after=None, pool_size=1) as database:
        for _ in range(2):
            assert port(database) == first.port
            until_closed(proxy)
        assert port(database) == first.port
        assert database.stats().discards == {"check failed": 2}


def test_a_statement_slower_than_the_time_out_is_an_error(servers: list[MariaDB]) -> None:
    """HAProxy cannot tell a slow statement from an idle connection; the handler gets error 2013."""
    with HAProxy(servers, idle=IDLE) as proxy, Database(proxy.url(), pool_size=1) as database:
        with database.connection() as conn, pytest.raises(pymysql.OperationalError) as caught:
            conn.cursor().execute("SELECT SLEEP(30)")
        assert caught.value.args[0] == 2013
        assert port(database) == servers[0].port


@pytest.mark.parametrize("how", ["kill", "freeze"])
def test_failover_and_the_way_back(servers: list[MariaDB], how: str) -> None:
    """C2: what HAProxy has led to another server meanwhile fails no request. When the first one is back, open
    connections stay where they are; drain() takes them back."""
    first, second = servers
    with HAProxy(servers) as proxy, Database(proxy.url(), ping_after=None, pool_size=1) as database:
        assert port(database) == first.port
        proxy.wait("n2", "UP")
        getattr(first, how)()
        proxy.wait("n1", "DOWN")
        until_closed(proxy)
        assert port(database) == second.port
        first.thaw()
        first.start()
        proxy.wait("n1", "UP")
        assert [port(database) for _ in range(3)] == [second.port] * 3
        database.drain(over=0)
        assert port(database) == first.port
        assert database.stats().connects == 3
        assert database.stats().connect_failures == 0
