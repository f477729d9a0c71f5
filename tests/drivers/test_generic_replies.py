"""C7, R12, R13 with a creator's driver on real servers: replies that are left behind, and what cursors hand out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import mysql.connector
import MySQLdb
import psycopg
import pymysql
import pytest
from pymysql.constants import CLIENT

from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from wsgidb import ConnectionReturned, Database
from wsgidb.lease.classes import KEPT
from wsgidb.lease.proxy import settle

pytestmark = pytest.mark.server

Create = Callable[[], Any]
CONNECT: dict[str, Callable[..., Any]] = {
    "PyMySQL": lambda **where: pymysql.connect(**where, client_flag=CLIENT.MULTI_STATEMENTS),
    "mysqlclient": MySQLdb.connect,
    "MySQL Connector": lambda **where: mysql.connector.connect(**where, use_pure=True),
}
TWO_RESULTS = ("CALL two_results()", "SELECT 1; SELECT 2")


@pytest.fixture
def procedure(mariadb: MariaDB) -> Iterator[MariaDB]:
    mariadb.execute("CREATE PROCEDURE two_results() BEGIN SELECT 1 UNION SELECT 2; SELECT 3; END")
    mariadb.execute("CREATE TABLE stored (n INT)")
    yield mariadb
    mariadb.execute("DROP PROCEDURE two_results")
    mariadb.execute("DROP TABLE stored")


@pytest.fixture(params=CONNECT)
def create(request: pytest.FixtureRequest, procedure: MariaDB) -> Create:
    where = {"host": "127.0.0.1", "port": procedure.port, "user": "guest", "password": "", "database": "test"}
    return lambda: CONNECT[request.param](**where)


@pytest.fixture
def create_psycopg(postgresql: PostgreSQL) -> Create:
    return lambda: psycopg.connect(host="127.0.0.1", port=postgresql.port, user="root", dbname="test")


def rows(conn: Any, sql: str) -> list[Any]:
    cursor = conn.cursor()
    cursor.execute(sql)
    found = list(cursor.fetchall())
    cursor.close()
    return found


@pytest.mark.parametrize("sql", ["SELECT 1", *TWO_RESULTS])
def test_pings_and_init_sql_with_results(create: Create, sql: str) -> None:
    """MySQL Connector closes no cursor before its rows are read, and sends commands while others are to come."""
    with Database(creator=create, pool_size=1, init_sql=[sql, sql], ping_query=sql, ping_after=0) as database:
        for n in (7, 8, 9):
            with database.connection() as conn:
                assert rows(conn, f"SELECT {n}") == [(n,)]
        assert (database.stats().connects, database.stats().pings) == (1, 2)


def test_a_further_result_that_is_an_error(create: Create) -> None:
    """It fails the ping; it is not left for the request."""
    with Database(creator=create, pool_size=1, ping_query="SELECT 1; SELECT nothing", ping_after=0) as database:
        for n in (7, 8):
            with database.connection() as conn:
                assert rows(conn, f"SELECT {n}") == [(n,)]
        assert database.stats().pings_failed == 1


@pytest.mark.parametrize("sql", ["SELECT 1 UNION SELECT 2", *TWO_RESULTS])
@pytest.mark.parametrize("fetched", ["nothing", "one row", "one result"])
def test_what_is_left_unread_does_not_decide_the_commit(
    procedure: MariaDB, create: Create, sql: str, fetched: str
) -> None:
    """R13: with each driver the work is committed, and the COMMIT's reply is its own."""
    with Database(creator=create, pool_size=1, transaction="request") as database:
        with database.connection() as conn:
            cursor = conn.cursor()
            cursor.execute("INSERT INTO stored VALUES (1)")
            cursor.execute(sql)
            if fetched != "nothing":
                assert cursor.fetchone() if fetched == "one row" else cursor.fetchall()
        assert procedure.query("SELECT n FROM stored") == [(1,)]
        with database.connection() as conn:
            assert rows(conn, "SELECT 7") == [(7,)]
        assert database.stats().discards == {}


def test_more_than_can_be_read_in_time(procedure: MariaDB) -> None:
    """MySQL Connector needs all rows read before the COMMIT: nothing is committed then, and the request is told."""
    where = {"host": "127.0.0.1", "port": procedure.port, "user": "guest", "database": "test"}
    with Database(
        creator=lambda: CONNECT["MySQL Connector"](**where), pool_size=1, transaction="request", ping_timeout=0.2
    ) as database:
        conn: Any = database.lease()
        cursor = conn.cursor()
        cursor.execute("INSERT INTO stored VALUES (1)")
        cursor.execute("SELECT seq, REPEAT('x', 200) FROM seq_1_to_3000000")
        with pytest.raises(mysql.connector.Error, match="Unread result"):
            settle(conn, success=True)
        assert procedure.query("SELECT n FROM stored") == []
        assert database.stats().discards == {"commit failed": 1}


@pytest.mark.filterwarnings("ignore:.*stored_results:DeprecationWarning")  # of newer versions
def test_cursors_that_a_cursor_hands_out(procedure: MariaDB) -> None:
    """R12: those of MySQL Connector's callproc() end with the lease, too."""
    where = {"host": "127.0.0.1", "port": procedure.port, "user": "guest", "database": "test"}
    with Database(creator=lambda: CONNECT["MySQL Connector"](**where), pool_size=1) as database:
        with database.connection() as conn:
            cursor = conn.cursor()
            cursor.callproc("two_results")
            kept = list(cursor.stored_results())
            assert [found.fetchall() for found in kept] == [[(1,), (2,)], [(3,)]]
        with database.connection():
            for found in kept:
                with pytest.raises(ConnectionReturned):
                    found.execute("INSERT INTO stored VALUES (1)")


@pytest.mark.parametrize("transaction", ["manual", "request"])
def test_rows_that_are_streamed(create_psycopg: Create, transaction: Any) -> None:
    """psycopg's stream() holds a lock of its connection until it ends: it ends before the COMMIT or ROLLBACK."""
    with Database(creator=create_psycopg, pool_size=1, transaction=transaction) as database:
        with database.connection() as conn:
            cursor = conn.cursor()
            kept = cursor.stream("SELECT generate_series(1, 3)")
            assert next(kept) == (1,)
        with pytest.raises(ConnectionReturned):
            next(kept)
        with database.connection() as conn:
            assert list(conn.cursor().stream("SELECT 7")) == [(7,)]


def test_a_named_cursor_is_not_read_to_its_end(create_psycopg: Create) -> None:
    """Its rows are at the server, and disturb no commit."""
    with (
        Database(creator=create_psycopg, transaction="request", ping_timeout=60) as database,
        database.connection() as conn,
    ):
        cursor = conn.cursor("kept")
        cursor.execute("SELECT generate_series(1, 1000000000)")
        assert cursor.fetchone() == (1,)


ASK: dict[str, Callable[[Any], object]] = {
    "PyMySQL": lambda conn: conn.open,
    "mysqlclient": lambda conn: conn.open,
    "MySQL Connector": lambda conn: conn.is_connected(),
}


def test_the_lease_tells_that_it_is_closed(request: pytest.FixtureRequest, create: Create) -> None:
    """As every clean-up idiom asks."""
    ask = ASK[request.node.callspec.params["create"]]
    with Database(creator=create) as database:
        with database.connection() as conn:
            assert ask(conn)
            conn.close()
            assert not ask(conn)
        assert not ask(conn)


def test_the_lease_tells_that_it_is_closed_as_psycopg_does(create_psycopg: Create) -> None:
    with Database(creator=create_psycopg) as database:
        with database.connection() as conn:
            assert not conn.closed
        assert conn.closed
        with pytest.raises(ConnectionReturned):
            conn.open  # noqa: B018 - psycopg has no such attribute


def test_classes_that_a_creator_makes_do_not_add_up(create_psycopg: Create) -> None:
    """A class for each connection is garbage with it."""

    def create() -> Any:
        conn = create_psycopg()
        conn.__class__ = type("Own", (psycopg.Connection,), {})
        return conn

    with Database(creator=create, strategy="per-request") as database:
        for _ in range(KEPT + 5):
            with database.connection() as conn:
                conn.execute("SELECT 1")
        assert len(database._proxies) <= KEPT
