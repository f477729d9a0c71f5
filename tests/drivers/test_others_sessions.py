"""reset=session, reconnects and options of mysqlclient and MySQL Connector/Python."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import mysql.connector.cursor
import MySQLdb.cursors
import pytest
from MySQLdb.connections import Connection as Library

from drivers.cases import ERRORS, run, session, set_autocommit
from drivers.others import Open, driver_of, each_driver, soon, url_of, value
from support.mariadb import MariaDB
from wsgidb import ConfigError, Database
from wsgidb.drivers.states import CLEAN, DIRTY

BAD = "mysql+pymysql://app:geheim@db.invalid/shop"


@pytest.mark.server
@each_driver
def test_session_reset(mariadb: MariaDB, opened: Open, name: str) -> None:
    """C3: with reset=session a request sees no user variable, temporary table, session setting, database or lock of
    an earlier one, and what was set on connecting is set again."""
    options: dict[str, Any] = {"reset": "session", "transaction": "autocommit", "init_sql": ["SET @mine = 1"]}
    driver, conn = opened(name, mariadb.url() + "?sql_mode=ANSI_QUOTES", **options)
    assert driver.inspect(conn) is CLEAN
    number = session(conn)
    for sql in (
        "SET @a = 1",
        "CREATE TEMPORARY TABLE passing (n INT)",
        "SET SESSION wait_timeout = 77",
        "SET sql_mode = ''",
        "SET NAMES latin1",
        "USE information_schema",
        "BEGIN",
    ):
        run(conn, sql)
    assert value(conn, "SELECT GET_LOCK('held', 0)") == 1
    set_autocommit(conn, False)
    assert driver.inspect(conn) is DIRTY
    driver.reset(conn, soon())
    assert driver.inspect(conn) is CLEAN
    assert session(conn) == number
    found = run(conn, "SELECT @a, @mine, DATABASE(), @@autocommit, @@sql_mode, @@character_set_client, 'é'")
    assert found == [(None, 1, "test", 1, "ANSI_QUOTES", "utf8mb4", "é")]
    assert value(conn, "SELECT @@wait_timeout") != 77
    assert value(conn, "SELECT IS_FREE_LOCK('held')") == 1
    with pytest.raises(ERRORS, match="1146"):
        run(conn, "SELECT * FROM passing")


@pytest.mark.server
@each_driver
def test_localhost_with_a_port_is_that_port(mariadb: MariaDB, name: str) -> None:
    """mysqlclient's library would take its default Unix socket instead, and with it another server."""
    url = url_of(name, mariadb.url()).replace("127.0.0.1", "localhost")
    with Database(url) as database, database.connection() as conn:
        assert value(conn, "SELECT @@port") == mariadb.port


@pytest.mark.server
@each_driver
def test_session_reset_between_requests(mariadb: MariaDB, name: str) -> None:
    """C3: the same through the public face, and only where something ran."""
    with Database(url_of(name, mariadb.url()), reset="session") as database:
        for _ in range(3):
            with database.connection() as conn:
                assert run(conn, "SELECT @a") == [(None,)]
                run(conn, "SET @a = 1")
        assert (database.stats().connects, database.stats().discards) == (1, {})


@pytest.mark.server
@each_driver
def test_another_user_is_for_one_request(mariadb: MariaDB, opened: Open, name: str) -> None:
    """C3, C6: a handler that changes the user keeps that to itself: the connection is not kept."""
    driver, conn = opened(name, mariadb.url())
    change = conn.change_user if name == "mysqlclient" else conn.cmd_change_user
    change("app", "p@ss/w%rd:x", "test")
    assert driver.inspect(conn) == "given to another user by the application"


@pytest.mark.server
def test_mysqlclient_does_not_reconnect(mariadb: MariaDB, opened: Open) -> None:
    """C1: ping(True) would switch the library's silent reconnect on for good: it is refused."""
    driver, conn = opened("mysqlclient", mariadb.url())
    with pytest.raises(MySQLdb.NotSupportedError, match="reconnect"):
        conn.ping(True)
    conn.ping()
    assert driver.inspect(conn) is CLEAN


@pytest.mark.server
@pytest.mark.parametrize("how", ["reconnect", "ping"])
def test_connector_that_was_reconnected(mariadb: MariaDB, opened: Open, how: str) -> None:
    """C6: another socket means another session, without init_sql or TLS mode: a reason to discard."""
    driver, conn = opened("connector", mariadb.url())
    conn.close()
    conn.reconnect() if how == "reconnect" else conn.ping(reconnect=True)
    assert run(conn, "SELECT 1") == [(1,)]
    assert driver.inspect(conn) == "reconnected by the application"


@pytest.mark.server
def test_connector_asks_no_more_than_it_must(mariadb: MariaDB, opened: Open) -> None:
    """C4: its cursors would ping the server, and its autocommit would be a statement for each look."""
    driver, conn = opened("connector", mariadb.url())
    before = driver.activity(conn).touched, mariadb.status("Com_admin_commands"), mariadb.status("Com_select")
    for _ in range(3):
        conn.cursor().close()
        assert conn.autocommit is False
        conn.autocommit = False
    after = driver.activity(conn).touched, mariadb.status("Com_admin_commands"), mariadb.status("Com_select")
    assert (after[0], after[1] - before[1], after[2] - before[2]) == (before[0], 0, 2), "2 is for asking"


@pytest.mark.server
def test_mysqlclients_library_is_asked_no_more_than_it_must(mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """For the next result only where one may follow: each time the library lets go of the interpreter lock."""
    of_the_library: Any = Library.next_result
    asked = []

    def next_result(conn: Any) -> Any:
        asked.append(conn)
        return of_the_library(conn)

    monkeypatch.setattr(Library, "next_result", next_result, raising=False)
    found = {}
    with Database(url_of("mysqlclient", mariadb.url()), transaction="autocommit") as database:
        for sql in ("SELECT 1", "DO 1", "SELECT 1; SELECT 2"):
            with database.connection() as conn, closing(conn.cursor()) as cursor:
                cursor.execute(sql)
                cursor.fetchall()
            found[sql] = bool(asked)
    assert found == {"SELECT 1": False, "DO 1": False, "SELECT 1; SELECT 2": True}


@pytest.mark.server
def test_mysqlclients_unread_rows_of_a_query(mariadb: MariaDB, opened: Open) -> None:
    """C6: a result that nobody took, or took row by row and not to its end, is a reason to discard."""
    driver, conn = opened("mysqlclient", mariadb.url())
    conn.query("SELECT 1")
    assert driver.inspect(conn) == "unread rows"
    conn.store_result()
    assert driver.inspect(conn) is DIRTY
    conn.query("SELECT 1; SELECT 2")
    conn.store_result()
    assert driver.inspect(conn) == "unread rows"


@pytest.mark.server
def test_mysqlclients_query_in_two_steps(mariadb: MariaDB, opened: Open) -> None:
    """C3, C6: the library's own way to wait for a reply is seen, too."""
    driver, conn = opened("mysqlclient", mariadb.url(), transaction="autocommit")
    conn.send_query("BEGIN")
    assert driver.inspect(conn) == "in the middle of a statement"
    conn.read_query_result()
    assert driver.inspect(conn) is DIRTY
    driver.rollback(conn, soon())
    assert value(conn, "SELECT @@in_transaction") == 0


@pytest.mark.server
@pytest.mark.parametrize(
    ("sql", "clean"),
    [
        ("SELECT 1", True),
        ("  select 1 ;\n", True),
        ("SHOW TABLES", True),
        ("CREATE TEMPORARY TABLE brief (n INT)", True),
        ("SELECT 1; BEGIN", False),
        ("/* a comment */ SELECT 1", False),
        ("START TRANSACTION", False),
        ("SET @a = 1", False),
        ("EXECUTE IMMEDIATE 'BEGIN'", False),
        ("COMMIT AND CHAIN", False),
    ],
)
def test_mysqlclient_is_clean_only_where_that_is_certain(mariadb: MariaDB, opened: Open, sql: str, clean: bool) -> None:
    """C3, C4: no status tells, so the statement's words must: where they leave a doubt, it is rolled back."""
    driver, conn = opened("mysqlclient", mariadb.url(), transaction="autocommit")
    with conn.cursor() as cursor:
        cursor.execute(sql)
    assert driver.inspect(conn) is (CLEAN if clean else DIRTY)
    driver.rollback(conn, soon())
    assert driver.inspect(conn) is CLEAN
    assert value(conn, "SELECT @@in_transaction") == 0


@pytest.mark.server
@pytest.mark.parametrize("end", ["commit", "rollback", " Commit ;", "rollback work;", "ROLLBACK"])
def test_mysqlclient_sees_a_transaction_end(mariadb: MariaDB, opened: Open, end: str) -> None:
    """C4: what the application has ended itself needs no rollback."""
    driver, conn = opened("mysqlclient", mariadb.url(), transaction="autocommit")
    run(conn, "BEGIN")
    getattr(conn, end)() if hasattr(conn, end) else run(conn, end)
    assert driver.inspect(conn) is CLEAN


@pytest.mark.server
def test_cursor_class_by_name(mariadb: MariaDB, opened: Open) -> None:
    """url: a driver's cursor class is given by its name."""
    _, conn = opened("mysqlclient", mariadb.url() + "?cursorclass=DictCursor")
    assert type(conn.cursor()) is MySQLdb.cursors.DictCursor
    assert run(conn, "SELECT 1 AS one") == [{"one": 1}]
    _, conn = opened("connector", mariadb.url() + "?cursorclass=MySQLCursorDict")
    assert type(conn.cursor()) is mysql.connector.cursor.MySQLCursorDict
    assert run(conn, "SELECT 1 AS one") == [{"one": 1}]
    assert type(conn.cursor(buffered=True)) is mysql.connector.cursor.MySQLCursorBuffered


@pytest.mark.server
@each_driver
def test_queries_values_have_the_drivers_types(mariadb: MariaDB, opened: Open, name: str) -> None:
    """url: a number and a truth value are what the driver wants."""
    query = "?use_unicode=off" if name == "mysqlclient" else "?raise_on_warnings=yes&buffered=on"
    _, conn = opened(name, mariadb.url() + query)
    if name == "mysqlclient":
        assert value(conn, "SELECT 'a'") == b"a"
    else:
        assert (conn.raise_on_warnings, type(conn.cursor())) == (True, mysql.connector.cursor.MySQLCursorBuffered)


@each_driver
@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("autocommit=1", "autocommit: cannot be given in the url or connect_args; use wsgidb's option transaction"),
        ("connect_timeout=3", "connect_timeout: cannot be given in the url or connect_args; use wsgidb's option conn"),
        ("ssl_disabled=1", "ssl_disabled: cannot be given in the url or connect_args; use wsgidb's option ssl_mode"),
        ("charset_=utf8mb4", "charset_: {driver} has no such option (did you mean 'charset'?)"),
        ("compress=perhaps", "compress: takes bool, got 'perhaps'"),
        ("cursorclass=Nope", "cursorclass: {driver} has no cursor class 'Nope'"),
        ("password=x", "password: belongs before the url's question mark"),
    ],
)
def test_bad_options(name: str, query: str, message: str) -> None:
    """url: what the driver does not know, or wsgidb owns, is refused by name."""
    with pytest.raises(ConfigError) as caught:
        driver_of(name, f"{BAD}?{query}")
    driver = {"mysqlclient": "mysqlclient", "connector": "mysql-connector-python"}[name]
    assert str(caught.value).startswith(message.format(driver=driver))
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "option"),
    [("mysqlclient", "read_default_file"), ("connector", "use_pure"), ("connector", "connection_timeout")],
)
def test_owned_options_of_one_driver(name: str, option: str) -> None:
    """connect_args: what wsgidb's own promises rest on is not the application's to set."""
    with pytest.raises(ConfigError, match=f"^{option}: cannot be given in the url or connect_args"):
        driver_of(name, BAD, connect_args={option: "x"})


@pytest.mark.server
@each_driver
def test_credential_rotation(mariadb: MariaDB, opened: Open, name: str) -> None:
    """connect_args: a callable's password counts, in a url that has none, and for a session reset, too."""
    rotated = {"user": "app", "password": "p@ss/w%rd:x"}
    driver, conn = opened(name, mariadb.url(), connect_args=lambda: rotated, reset="session")
    assert value(conn, "SELECT CURRENT_USER()").startswith("app@")
    driver.reset(conn, soon())
    assert value(conn, "SELECT CURRENT_USER()").startswith("app@")


@pytest.mark.server
@each_driver
def test_wrong_password(mariadb: MariaDB, name: str) -> None:
    """The server's answer comes through, without the password."""
    driver = driver_of(name, mariadb.url("app", password="geheim"))
    with pytest.raises(ERRORS, match="1045") as caught:
        driver.connect(soon())
    assert not driver.is_disconnect(caught.value)
    assert "geheim" not in str(caught.value)


@each_driver
def test_unreachable(name: str) -> None:
    """2002, 2003: there was no connection to lose."""
    driver = driver_of(name, "mysql+pymysql://guest@127.0.0.1:1/test")
    with pytest.raises(ERRORS) as caught:
        driver.connect(soon())
    assert caught.value.args[0] in (2002, 2003)
    assert not driver.is_disconnect(caught.value)
