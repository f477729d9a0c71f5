"""C3: what an application changes by commands of mysqlclient's C library, or by statements, lasts one request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import MySQLdb
import pytest

from drivers.cases import run, session
from drivers.others import Open, soon, url_of, value
from support.mariadb import MariaDB
from support.waiting import until
from wsgidb import Database
from wsgidb.drivers.states import CLEAN, DIRTY

pytestmark = pytest.mark.server

MULTI_STATEMENTS_ON, MULTI_STATEMENTS_OFF = 0, 1


@pytest.fixture(params=["rollback", "session"])
def database(mariadb: MariaDB, request: pytest.FixtureRequest) -> Iterator[Database]:
    url = url_of("mysqlclient", mariadb.url())
    with Database(url, pool_size=1, transaction="autocommit", reset=request.param) as database:
        yield database


def several(conn: Any) -> Any:
    cursor = conn.cursor()
    try:
        cursor.execute("SELECT 1; SELECT 2")
        return cursor.nextset()
    except MySQLdb.MySQLError as error:
        return error.args[0]


def characters(conn: Any) -> Any:
    return conn.character_set_name(), conn.encoding, run(conn, "SELECT @@character_set_client, 'é'")


def collation(conn: Any) -> Any:
    return value(conn, "SELECT @@collation_connection")


@pytest.mark.parametrize(
    ("change", "look"),
    [
        (lambda conn: conn.set_character_set("latin1"), characters),
        (lambda conn: conn.set_character_set("utf8mb4", "utf8mb4_bin"), collation),
        (lambda conn: conn.set_server_option(MULTI_STATEMENTS_OFF), several),
    ],
    ids=["charset", "collation", "option"],
)  # fmt: skip
def test_what_no_statement_changes(
    database: Database, change: Callable[[Any], object], look: Callable[[Any], Any]
) -> None:
    """Neither a rollback nor COM_CHANGE_USER takes it back, so wsgidb does, whatever `reset` is."""
    with database.connection() as conn:
        before = look(conn)
    with database.connection() as conn:
        change(conn)
        assert look(conn) != before
    with database.connection() as conn:
        change(conn)
    with database.connection() as conn:
        assert look(conn) == before
    assert (database.stats().connects, database.stats().discards) == (1, {})


def test_a_server_option_that_the_url_sets(mariadb: MariaDB) -> None:
    """What is taken back is what the connection was made with."""
    url = url_of("mysqlclient", mariadb.url(multi_statements="off"))
    with Database(url, pool_size=1) as database:
        with database.connection() as conn:
            conn.set_server_option(MULTI_STATEMENTS_ON)
            assert several(conn) == 1
        with database.connection() as conn:
            assert several(conn) == 1064


def test_another_database(mariadb: MariaDB, opened: Open) -> None:
    """select_db: the same as USE, which reset=session takes back."""
    driver, conn = opened("mysqlclient", mariadb.url(), transaction="autocommit", reset="session")
    conn.select_db("information_schema")
    assert driver.inspect(conn) is DIRTY
    driver.reset(conn, soon())
    assert value(conn, "SELECT DATABASE()") == "test"


@pytest.mark.parametrize("name", ["ping", "stat", "kill"])
def test_what_touches_no_session(mariadb: MariaDB, opened: Open, name: str) -> None:
    """C4: these cost neither a rollback nor a reset."""
    driver, conn = opened("mysqlclient", mariadb.url(), reset="session")
    _, other = opened("mysqlclient", mariadb.url())
    getattr(conn, name)(*[session(other)] * (name == "kill"))
    assert driver.inspect(conn) is CLEAN


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("ping", ()), ("stat", ()), ("select_db", ("test",)), ("set_server_option", (0,)), ("change_user", ("guest",))],
)
def test_a_command_that_finds_the_connection_lost(
    mariadb: MariaDB, opened: Open, name: str, arguments: tuple[Any, ...]
) -> None:
    """C6: it is known by the command's error, also where the application swallows that."""
    driver, conn = opened("mysqlclient", mariadb.url())
    number = session(conn)
    mariadb.query(f"KILL {number}")
    until(lambda: number not in mariadb.processes("guest"), what="the session to end")
    with suppress(MySQLdb.OperationalError):  # `stat` returns its text
        getattr(conn, name)(*arguments)
    assert isinstance(driver.inspect(conn), str)


def test_a_command_with_a_wrong_argument(mariadb: MariaDB, opened: Open) -> None:
    """It is not sent, so that the connection is as good as before."""
    driver, conn = opened("mysqlclient", mariadb.url())
    with pytest.raises(TypeError):
        conn.select_db(1)
    assert driver.inspect(conn) is CLEAN


@pytest.fixture
def roles(mariadb: MariaDB) -> Iterator[MariaDB]:
    """A server with two roles that the user `guest` may take."""
    for sql in ("CREATE ROLE clerk", "CREATE ROLE payroll", "GRANT clerk TO guest", "GRANT payroll TO guest"):
        mariadb.query(sql)
    yield mariadb
    for sql in ("DROP ROLE clerk", "DROP ROLE payroll"):
        mariadb.query(sql)


TAKE = (
    "SET ROLE payroll",
    "set /* quietly */ role `payroll`",
    "EXECUTE IMMEDIATE 'SET ROLE payroll'",
    "SET @a = 1; SET ROLE payroll",
    "/* first */ SET ROLE payroll",
)


@pytest.mark.parametrize("default", ["NONE", "clerk"])
@pytest.mark.parametrize("sql", TAKE)
def test_a_role(roles: MariaDB, default: str, sql: str) -> None:
    """reset=session: a role gives privileges. MariaDB ends it with COM_CHANGE_USER only for a user who has a default
    role."""
    roles.query(f"SET DEFAULT ROLE {default} FOR guest")
    with Database(url_of("mysqlclient", roles.url()), pool_size=1, reset="session") as database:
        with database.connection() as conn:
            first = value(conn, "SELECT CURRENT_ROLE()")
        with database.connection() as conn, conn.cursor() as cursor:
            cursor.execute(sql)
            cursor.nextset()
            assert value(conn, "SELECT CURRENT_ROLE()") == "payroll"
        with database.connection() as conn:
            assert value(conn, "SELECT CURRENT_ROLE()") == first == (None if default == "NONE" else "clerk")
        assert (database.stats().connects, database.stats().discards) == (1, {})


def test_how_many_rows_an_earlier_request_found(mariadb: MariaDB) -> None:
    """reset=session: FOUND_ROWS() outlives COM_CHANGE_USER."""
    with Database(url_of("mysqlclient", mariadb.url()), pool_size=1, reset="session") as database:
        with database.connection() as conn:
            assert len(run(conn, "SELECT seq FROM seq_1_to_7")) == 7
        with database.connection() as conn:
            assert value(conn, "SELECT FOUND_ROWS()") == 0


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("SET TRANSACTION READ ONLY", "INSERT INTO one_shot VALUES (2)"),
        ("SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", "SELECT * FROM one_shot"),
    ],
)
def test_a_setting_for_one_transaction(mariadb: MariaDB, opened: Open, first: str, then: str) -> None:
    """C3: where no transaction followed, also in autocommit, it is not left for the next request's."""
    mariadb.query("CREATE TABLE one_shot (n INT)")
    try:
        with Database(url_of("mysqlclient", mariadb.url()), pool_size=1, transaction="autocommit") as database:
            with database.connection() as conn:
                run(conn, first)
            _, other = opened("mysqlclient", mariadb.url())
            run(other, "INSERT INTO one_shot VALUES (1)")
            with database.connection() as conn:
                assert run(conn, then) == []
            other.rollback()
            assert database.stats().connects == 1
    finally:
        mariadb.query("DROP TABLE one_shot")


def test_an_init_command_of_several_statements(mariadb: MariaDB) -> None:
    """C7: all of its results are read, also where it is run again."""
    url = url_of("mysqlclient", mariadb.url(init_command="SELECT 1; SET @mine = 2"))
    with Database(url, pool_size=1, reset="session") as database:
        for _ in range(2):
            with database.connection() as conn:
                assert value(conn, "SELECT @mine") == 2
        assert database.stats().connects == 1
