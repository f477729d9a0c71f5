"""C3: what a request changes about MySQL Connector/Python's session or objects ends with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import copy
from typing import Any

import mysql.connector
import pytest
from mysql.connector.constants import ClientFlag
from mysql.connector.conversion import MySQLConverter

from drivers.cases import run
from drivers.others import url_of
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from wsgidb import Database

pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore:Call to deprecated function:DeprecationWarning"),
]

Open = Callable[..., Database]


class Shouting(MySQLConverter):
    """A converter of a request's own."""

    def row_to_python(self, row: Any, fields: Any) -> Any:
        return tuple("converted" for _ in row)


@pytest.fixture
def open_database(mariadb: MariaDB) -> Iterator[Open]:
    """Opens a Database of one connection, beside a table `kept`."""
    mariadb.query("CREATE OR REPLACE TABLE kept (n INT PRIMARY KEY)")
    mariadb.query("CREATE OR REPLACE PROCEDURE reads_only() SET TRANSACTION READ ONLY")
    mariadb.query("CREATE OR REPLACE PROCEDURE shows() SELECT 1")
    opened: list[Database] = []

    def open_(**options: Any) -> Database:
        opened.append(Database(url_of("connector", mariadb.url()), pool_size=1, **options))
        return opened[-1]

    yield open_
    for database in opened:
        database.close()
    mariadb.query("DROP TABLE kept")
    mariadb.query("DROP PROCEDURE reads_only")
    mariadb.query("DROP PROCEDURE shows")


# -- the characteristics of the next transaction only

ONE_SHOTS: dict[str, Callable[[Any], Any]] = {
    "statement": lambda conn: run(conn, "SET TRANSACTION READ ONLY"),
    "behind a comment": lambda conn: run(conn, "/* tag */ set transaction read only"),
    "in a comment for servers": lambda conn: run(conn, "/*!50003 SET TRANSACTION READ ONLY */"),
    "behind another": lambda conn: conn.cursor().execute("DO 1; SET TRANSACTION READ ONLY"),
    "behind a SELECT": lambda conn: run(conn, "SELECT 1; SET TRANSACTION READ ONLY"),
    "iterator": lambda conn: list(conn.cmd_query_iter("SET TRANSACTION READ ONLY")),
    "procedure": lambda conn: run(conn, "CALL reads_only()"),
    "procedure behind a comment": lambda conn: run(conn, "/* tag */ CALL reads_only()"),
    "callproc": lambda conn: conn.cursor().callproc("reads_only"),
    "prepared": lambda conn: conn.cursor(prepared=True).execute("SET TRANSACTION READ ONLY"),
    "prepared by SQL": lambda conn: [
        run(conn, "SET @sql = CONCAT('SET TRANS', 'ACTION READ ONLY')"),
        run(conn, "PREPARE it FROM @sql"),
        run(conn, "EXECUTE it"),
    ],
    "at once": lambda conn: run(conn, "EXECUTE IMMEDIATE CONCAT('SET TRANS', 'ACTION READ ONLY')"),
    "after a transaction": lambda conn: [
        conn.start_transaction(), conn.commit(), run(conn, "SET TRANSACTION READ ONLY")
    ],
}  # fmt: skip


@pytest.mark.parametrize("change", ONE_SHOTS.values(), ids=ONE_SHOTS.keys())
@pytest.mark.parametrize("transaction", ["autocommit", "manual", "request"])
def test_the_next_transactions_characteristics(open_database: Open, transaction: Any, change: Any) -> None:
    """No status flag shows them; they must not reach the next request."""
    database = open_database(transaction=transaction)
    with database.connection() as conn:
        change(conn)
    with database.connection() as conn:
        run(conn, "INSERT INTO kept VALUES (1)")


@pytest.mark.parametrize(
    "sql", ["SELECT 1", "INSERT INTO kept VALUES (1)", "SET @a = 1", "/* tag */ SELECT 1", "START TRANSACTION"]
)  # fmt: skip
def test_other_statements_cost_no_rollback(mariadb: MariaDB, proxy: TCPProxy, open_database: Open, sql: str) -> None:
    """C4: with autocommit, a hot request costs its own statements only."""
    url = url_of("connector", mariadb.url()).replace(str(mariadb.port), str(proxy.port))
    options: Any = {"transaction": "autocommit", "pool_size": 1, "init_sql": ["CALL shows()"]}
    with Database(url, ssl_mode="disabled", **options) as database:
        with database.connection() as conn:
            pass
        with proxy.counting() as said, database.connection() as conn:
            run(conn, sql)
            if sql.startswith("START"):
                conn.commit()
        assert said == [f"QUERY {sql}", *(["QUERY COMMIT"] * sql.startswith("START"))]


# -- the driver's objects


def in_place(conn: Any) -> None:
    conn.converter.row_to_python = Shouting("utf8").row_to_python


ALTERATIONS: dict[str, Callable[[Any], Any]] = {
    "set_converter_class": lambda conn: conn.set_converter_class(Shouting),
    "converter in place": in_place,
    "set_unicode": lambda conn: conn.set_unicode(False),
    "converter's set_unicode": lambda conn: conn.converter.set_unicode(False),
    "set_login": lambda conn: conn.set_login("app", "another"),
    "set_client_flags": lambda conn: conn.set_client_flags([ClientFlag.FOUND_ROWS]),
    "query_attrs_append": lambda conn: conn.query_attrs_append(("a", "1")),
    "add_attribute": lambda conn: conn.cursor().add_attribute("a", "1"),
    "set_allow_local_infile_in_path": lambda conn: conn.set_allow_local_infile_in_path("/"),
    "config": lambda conn: conn.config(raise_on_warnings=True, get_warnings=True),
    "can_consume_results": lambda conn: setattr(conn, "can_consume_results", True),
    "charset": lambda conn: conn.set_charset_collation("latin1"),
}


def held(raw: Any) -> dict[str, Any]:
    """What a connection's object holds, but for what each statement changes."""
    names = vars(mysql.connector.MySQLConnection()).keys() - {"_columns_desc", "_query", "converter", "_character_set"}
    values = {name: copy(getattr(raw, name)) for name in names - {"_socket", "_protocol", "_authenticator"}}
    return {**values, "type": type(raw.converter), **vars(raw.converter), "_cache_field_types": None}


@pytest.mark.parametrize("change", ALTERATIONS.values(), ids=ALTERATIONS.keys())
@pytest.mark.parametrize(
    ("transaction", "reset"), [("autocommit", "rollback"), ("manual", "rollback"), ("autocommit", "session")]
)
def test_the_drivers_objects(open_database: Open, transaction: Any, reset: Any, change: Any) -> None:
    """What a method has changed in them is as it was, whether or not a statement was run; or the connection is new."""
    database = open_database(transaction=transaction, reset=reset)
    with database.connection() as lease:
        run(lease, "SELECT 'ä'")
        raw: Any = lease.driver_connection
        before = held(raw)
    with database.connection() as conn:
        change(conn)
    with database.connection() as lease:
        assert run(lease, "SELECT 'ä'") == [("ä",)]
        again: Any = lease.driver_connection
        if again is not raw:
            assert database.stats().discards == {"configured anew by the application": 1}
        elif "set_charset_collation" not in change.__code__.co_names or reset == "session":
            assert held(again) == before


def test_a_character_set_goes_on_as_the_session_has_it(open_database: Open) -> None:
    """With reset=rollback a session's settings stay; the driver's object must agree with them."""
    database = open_database()
    with database.connection() as lease:
        conn: Any = lease
        conn.set_charset_collation("latin1")
        conn.set_converter_class(Shouting)
    with database.connection() as lease:
        assert run(lease, "SELECT 'ä', @@character_set_client") == [("ä", "latin1")]


def test_an_attribute_that_the_driver_refuses(open_database: Open) -> None:
    """It costs the connection nothing, as nothing was changed."""
    database = open_database()
    with database.connection() as lease:
        conn: Any = lease
        with pytest.raises(AttributeError):
            conn.in_transaction = True
        with pytest.raises((mysql.connector.Error, TypeError)):
            conn.read_timeout = "soon"
        with pytest.raises(TypeError):
            conn.set_converter_class(int)
    with database.connection() as conn:
        run(conn, "SELECT 1")
    assert (database.stats().connects, database.stats().discards) == (1, {})


# -- reset=session


@pytest.fixture
def payroll(mariadb: MariaDB) -> Iterator[str]:
    """A user that may take a role."""
    mariadb.query("CREATE OR REPLACE ROLE payroll")
    mariadb.query("CREATE OR REPLACE USER clerk@'127.0.0.1'")
    mariadb.query("GRANT payroll TO clerk@'127.0.0.1'")
    mariadb.query("GRANT ALL ON test.* TO clerk@'127.0.0.1'")
    yield "clerk"
    mariadb.query("DROP USER clerk@'127.0.0.1'")
    mariadb.query("DROP ROLE payroll")


@pytest.mark.parametrize("init_sql", [[], ["SET ROLE payroll"]])
def test_a_role_ends_with_the_session(open_database: Open, payroll: str, init_sql: list[str]) -> None:
    """Its privileges are not the next request's, and one that init_sql set is each request's."""
    database = open_database(reset="session", connect_args={"user": payroll}, init_sql=init_sql)
    own = "payroll" if init_sql else None
    for sql in ("SELECT 1", f"SET ROLE {'NONE' if init_sql else 'payroll'}"):
        with database.connection() as conn:
            assert run(conn, "SELECT CURRENT_ROLE()") == [(own,)]
            run(conn, sql)
    with database.connection() as conn:
        assert run(conn, "SELECT CURRENT_ROLE()") == [(own,)]
    assert (database.stats().connects, database.stats().discards) == (2, {"reset failed": 1})


def test_found_rows_end_with_the_session(open_database: Open) -> None:
    """FOUND_ROWS() of the next request tells nothing of this one's."""
    database = open_database(reset="session")
    with database.connection() as conn:
        run(conn, "SELECT 1 UNION SELECT 2 UNION SELECT 3")
    with database.connection() as conn:
        assert run(conn, "SELECT FOUND_ROWS()") == [(1,)]
    assert database.stats().connects == 1
