"""C3, the session half: with reset=session a request notices nothing of an earlier one's session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pymysql
import pytest

from strategies.kit import run
from support.client import connect
from support.mariadb import MariaDB
from wsgidb import Database

pytestmark = pytest.mark.server


@pytest.fixture(params=["pooled", "thread-local"])
def keeping(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def table(mariadb: MariaDB) -> Iterator[None]:
    mariadb.execute("CREATE TABLE item (n INT)")
    yield
    mariadb.execute("DROP TABLE item")


def one(conn: Any, sql: str) -> Any:
    [[value]] = run(conn, sql)
    return value


def says(*statements: str) -> Callable[[Any], object]:
    return lambda conn: [run(conn, sql) for sql in statements]


def absent(sql: str, number: int) -> Callable[[Any], object]:
    """What fails with this error number, as there is no such thing."""

    def look(conn: Any) -> object:
        with pytest.raises(pymysql.err.Error) as caught:
            run(conn, sql)
        return caught.value.args[0] == number

    return look


def value(sql: str) -> Callable[[Any], object]:
    return lambda conn: one(conn, sql)


def charset(conn: Any) -> object:
    return conn.character_set_name(), conn.encoding, one(conn, "SELECT @@character_set_client"), one(conn, "SELECT 'é'")


CHANGES: dict[str, tuple[Callable[[Any], object], Callable[[Any], object]]] = {
    "user variable": (says("SET @mine = 7"), value("SELECT @mine")),
    "sql_mode": (says("SET sql_mode = 'ANSI_QUOTES'"), value("SELECT @@sql_mode")),
    "time_zone": (says("SET time_zone = '+05:00'"), value("SELECT @@time_zone")),
    "isolation level": (
        says("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE"),
        value("SELECT @@tx_isolation"),
    ),
    "isolation level of the next transaction": (
        says("COMMIT", "SET TRANSACTION READ ONLY"),
        lambda conn: run(conn, "INSERT INTO test.item VALUES (1)"),
    ),
    "lock timeout": (says("SET innodb_lock_wait_timeout = 7"), value("SELECT @@innodb_lock_wait_timeout")),
    "autocommit by SQL": (says("SET autocommit = 1 - @@autocommit"), value("SELECT @@autocommit")),
    "autocommit by method": (lambda conn: conn.autocommit(not conn.get_autocommit()), value("SELECT @@autocommit")),
    "SET NAMES": (says("SET NAMES latin1"), charset),
    "set_character_set()": (lambda conn: conn.set_character_set("latin1"), charset),
    "collation": (
        says("SET collation_connection = 'utf8mb4_bin'"),
        value("SELECT @@collation_connection"),
    ),
    "database by SQL": (says("USE information_schema"), value("SELECT DATABASE()")),
    "database by method": (lambda conn: conn.select_db("information_schema"), value("SELECT DATABASE()")),
    "last insert id": (says("DO LAST_INSERT_ID(7)"), value("SELECT LAST_INSERT_ID()")),
}
"""What to change, and what to ask for it: the answer must be the same before and after."""

OBJECTS: dict[str, tuple[Callable[[Any], object], Callable[[Any], object]]] = {
    "temporary table": (says("CREATE TEMPORARY TABLE mine (n INT)"), absent("SELECT * FROM mine", 1146)),
    "temporary table in the way": (
        says("CREATE TEMPORARY TABLE item SELECT 7 AS n"),
        lambda conn: run(conn, "SELECT * FROM item") == [],
    ),
    "prepared statement": (says("PREPARE mine FROM 'SELECT 7'"), absent("EXECUTE mine", 1243)),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("transaction", ["manual", "autocommit", "request"])
@pytest.mark.parametrize("database", ["test", ""], ids=["with a database", "without"])
def test_the_next_request_finds_what_the_first_one_found(
    mariadb: MariaDB, table: None, keeping: str, transaction: str, database: str, change: str
) -> None:
    """C3: each setting is again what it was on a new connection, in every transaction mode."""
    do, look = CHANGES[change]
    options: Any = {"strategy": keeping, "transaction": transaction, "reset": "session"}
    with Database(mariadb.url(database=database), **options) as source:
        with source.connection() as conn:
            first = look(conn)
        with source.connection() as conn:
            do(conn)
        with source.connection() as conn:
            assert look(conn) == first
        assert source.stats().connects == (2 if not database and "database" in change else 1)


@pytest.mark.parametrize("change", OBJECTS)
def test_the_next_request_finds_nothing_that_was_made(mariadb: MariaDB, table: None, keeping: Any, change: str) -> None:
    """C3: temporary tables and prepared statements are gone."""
    do, look = OBJECTS[change]
    with Database(mariadb.url(), strategy=keeping, reset="session") as source:
        with source.connection() as conn:
            do(conn)
        with source.connection() as conn:
            assert look(conn)
        assert source.stats().connects == 1


LOCKS = {"LOCK TABLES": "LOCK TABLES item WRITE", "GET_LOCK": "SELECT GET_LOCK('mine', 10)"}
"""An earlier test's session may have a lock until the server has noted its end."""


def is_free(mariadb: MariaDB, lock: str) -> bool:
    """Whether somebody else can have it at once."""
    with closing(connect(mariadb.url(), autocommit=True, init_command="SET lock_wait_timeout = 0")) as other:
        if lock == "GET_LOCK":
            return bool(one(other, "SELECT IS_FREE_LOCK('mine')"))
        try:
            run(other, "INSERT INTO item VALUES (1)")
        except pymysql.err.OperationalError as error:
            if error.args[0] != 1205:  # lock wait timeout
                raise
            return False
        return True


@pytest.mark.parametrize("lock", LOCKS)
def test_locks_are_free_when_the_request_is_over(mariadb: MariaDB, table: None, keeping: Any, lock: str) -> None:
    """C3: nobody waits for a table lock or a named lock of a request that is over."""
    with Database(mariadb.url(), strategy=keeping, reset="session") as source:
        with source.connection() as conn:
            run(conn, LOCKS[lock])
            assert not is_free(mariadb, lock)
        assert is_free(mariadb, lock)
        assert source.stats().connects == 1


def test_a_rollback_leaves_the_rest_of_the_session(mariadb: MariaDB, table: None, keeping: Any) -> None:
    """reset=rollback (the default) leaves variables, settings, the database, temporary tables and locks in place."""
    with Database(mariadb.url(), strategy=keeping) as source:
        with source.connection() as conn:
            for sql in ("SET @mine = 7", "SET time_zone = '+05:00'", "CREATE TEMPORARY TABLE mine SELECT 7 AS n"):
                run(conn, sql)
            run(conn, "PREPARE mine FROM 'SELECT 7'")
            run(conn, LOCKS["GET_LOCK"])
            run(conn, LOCKS["LOCK TABLES"])
        assert not is_free(mariadb, "GET_LOCK")
        assert not is_free(mariadb, "LOCK TABLES")
        with source.connection() as conn:
            run(conn, "UNLOCK TABLES")
            assert run(conn, "SELECT @mine, @@time_zone, mine.n FROM mine") == [(7, "+05:00", 7)]
            assert run(conn, "EXECUTE mine") == [(7,)]
            run(conn, "SET autocommit = 1")
            run(conn, "SET NAMES latin1")
            conn.select_db("information_schema")
        with source.connection() as conn:
            found = run(conn, "SELECT @@autocommit, @@character_set_client, DATABASE()")
            assert found == [(0, "latin1", "information_schema")], "only autocommit is restored"


@pytest.mark.parametrize("collation", ["", "utf8mb4_bin"])
def test_what_the_connection_was_opened_with_is_applied_again(mariadb: MariaDB, keeping: Any, collation: str) -> None:
    """C3: charset, collation, sql_mode, init_command and init_sql hold for every request."""
    query = {"charset": "latin1", "sql_mode": "ANSI", "init_command": "SET @command = 1"}
    query |= {"charset": "utf8mb4", "collation": collation} if collation else {}
    init = ["SET @init = 'it''s'", "CREATE TEMPORARY TABLE mine SELECT 7 AS n"]
    ask = (
        "SELECT @@character_set_client, @@collation_connection, @@sql_mode, @command, @init, n, @@autocommit FROM mine"
    )
    with Database(mariadb.url(**query), strategy=keeping, reset="session", init_sql=init) as source:
        with source.connection() as conn:
            first = run(conn, ask)
        with source.connection() as conn:
            run(conn, "SET NAMES utf8mb3")
            run(conn, "SET sql_mode = '', @command = 2, @init = 2")
            run(conn, "DROP TEMPORARY TABLE mine")
        with source.connection() as conn:
            assert run(conn, ask) == first
        assert source.stats().connects == 1
    assert first[0][0] == query["charset"]
    assert "ANSI_QUOTES" in first[0][2]
    assert first[0][3:] == (1, "it's", 7, 0)
