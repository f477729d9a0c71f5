"""C3 for PyMySQL: what a request changes unseen by any status flag, or in the driver's objects, ends with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import pymysql
import pytest
from pymysql.constants import CLIENT, FIELD_TYPE

from drivers.cases import run
from drivers.others import value
from support.client import connect
from support.mariadb import MariaDB
from wsgidb import Database

pytestmark = pytest.mark.server

SEVERAL: Any = {"connect_args": {"client_flag": CLIENT.MULTI_STATEMENTS}}
"""Options with which a statement may be several."""


@pytest.fixture
def one_shot(mariadb: MariaDB) -> Iterator[MariaDB]:
    """A server with a table, and with a procedure that sets the next transaction's isolation level."""
    mariadb.query("CREATE TABLE one_shot (n INT)")
    mariadb.query("CREATE PROCEDURE sets() SET TRANSACTION READ ONLY")
    yield mariadb
    mariadb.query("DROP PROCEDURE sets")
    mariadb.query("DROP TABLE one_shot")


READ_ONLY = (
    "SET TRANSACTION READ ONLY",
    "  set\ntransaction read only",
    "/* quietly */ SET TRANSACTION READ ONLY",
    "EXECUTE IMMEDIATE 'SET TRANSACTION READ ONLY'",
    "SET @a = 1; SET TRANSACTION READ ONLY",
    "SELECT 1; SET TRANSACTION READ ONLY",
    "CALL sets()",
)


@pytest.mark.parametrize("transaction", ["autocommit", "manual"])
@pytest.mark.parametrize("sql", READ_ONLY)
def test_an_access_mode_for_one_transaction(one_shot: MariaDB, transaction: Any, sql: str) -> None:
    """Where no transaction followed, also in autocommit, a request's SET TRANSACTION is not left for the next one's."""
    with Database(one_shot.url(), pool_size=1, transaction=transaction, **SEVERAL) as database:
        with database.connection() as conn:
            run(conn, sql)
        with database.connection() as conn:
            run(conn, "INSERT INTO one_shot VALUES (1)")
            conn.commit()
        assert database.stats().connects == 1
    assert one_shot.query("SELECT n FROM one_shot") == [(1,)]


@pytest.mark.parametrize(
    "sql",
    ["SET TRANSACTION ISOLATION LEVEL READ UNCOMMITTED", "SET @@tx_isolation = 'READ-UNCOMMITTED'"],
)
def test_an_isolation_level_for_one_transaction(one_shot: MariaDB, sql: str) -> None:
    """The next request makes no dirty read."""
    with Database(one_shot.url(), pool_size=1, transaction="autocommit") as database:
        with database.connection() as conn:
            run(conn, sql)
        with closing(connect(one_shot.url())) as other:
            run(other, "INSERT INTO one_shot VALUES (1)")
            with database.connection() as conn:
                assert run(conn, "SELECT * FROM one_shot") == []


@pytest.mark.parametrize("sql", ["SELECT 'SET TRANSACTION'", "START TRANSACTION; COMMIT", "SET @a = 1"])
def test_a_statement_that_sets_nothing_costs_nothing(one_shot: MariaDB, sql: str) -> None:
    """C4: in autocommit no rollback is sent for it."""
    with Database(one_shot.url(), pool_size=1, transaction="autocommit") as database:
        for _ in range(2):
            with database.connection() as conn:
                for each in sql.split("; "):
                    run(conn, each)
                before = one_shot.status("Com_rollback")
        assert one_shot.status("Com_rollback") == before


@pytest.fixture
def roles(mariadb: MariaDB) -> Iterator[MariaDB]:
    """A server with two roles that the user `guest` may take, and with a procedure that takes one."""
    for sql in ("CREATE ROLE clerk", "CREATE ROLE payroll", "GRANT clerk TO guest", "GRANT payroll TO guest"):
        mariadb.query(sql)
    mariadb.query("CREATE DEFINER=guest PROCEDURE takes() SQL SECURITY INVOKER SET ROLE payroll")
    yield mariadb
    for sql in ("DROP PROCEDURE takes", "DROP ROLE clerk", "DROP ROLE payroll"):
        mariadb.query(sql)


TAKE = (
    "SET ROLE payroll",
    "set /* quietly */ role `payroll`",
    "EXECUTE IMMEDIATE 'SET ROLE payroll'",
    "SELECT 1; SET ROLE payroll",
    "CALL takes()",
)


@pytest.mark.parametrize("default", ["NONE", "clerk"])
@pytest.mark.parametrize("sql", TAKE)
def test_a_role(roles: MariaDB, default: str, sql: str) -> None:
    """reset=session: a role gives privileges, and on MariaDB COM_RESET_CONNECTION does not end it."""
    roles.query(f"SET DEFAULT ROLE {default} FOR guest")
    try:
        with Database(roles.url(), pool_size=1, reset="session", **SEVERAL) as database:
            with database.connection() as conn:
                first = value(conn, "SELECT CURRENT_ROLE()")
            with database.connection() as conn:
                run(conn, sql)
                assert value(conn, "SELECT CURRENT_ROLE()") == "payroll"
            with database.connection() as conn:
                assert value(conn, "SELECT CURRENT_ROLE()") == first == (None if default == "NONE" else "clerk")
                run(conn, "SET ROLE NONE")
            with database.connection() as conn:
                assert value(conn, "SELECT CURRENT_ROLE()") == first
            assert (database.stats().connects, database.stats().discards) == (1, {})
    finally:
        roles.query("SET DEFAULT ROLE NONE FOR guest")


def test_a_role_that_is_gone_costs_the_connection(roles: MariaDB) -> None:
    """reset=session: a session that cannot go back to its own role is not given to another request."""
    roles.query("SET DEFAULT ROLE clerk FOR guest")
    try:
        with Database(roles.url(), pool_size=1, reset="session") as database:
            with database.connection() as conn:
                run(conn, "SET ROLE payroll")
                roles.query("REVOKE clerk FROM guest")
            assert database.stats().discards == {"reset failed": 1}
    finally:
        roles.query("SET DEFAULT ROLE NONE FOR guest")


def test_how_many_rows_an_earlier_request_found(mariadb: MariaDB) -> None:
    """reset=session: FOUND_ROWS() outlives COM_RESET_CONNECTION."""
    with Database(mariadb.url(), pool_size=1, reset="session") as database:
        with database.connection() as conn:
            assert value(conn, "SELECT FOUND_ROWS()") == 0
            assert len(run(conn, "SELECT seq FROM seq_1_to_7")) == 7
        with database.connection() as conn:
            assert value(conn, "SELECT FOUND_ROWS()") == 0
        assert database.stats().connects == 1


CHANGES: dict[str, Callable[[Any], object]] = {
    "encoders[int] = …": lambda conn: conn.encoders.__setitem__(int, lambda number, mapping=None: "666"),
    "encoders.clear()": lambda conn: conn.encoders.clear(),
    "decoders[LONGLONG] = …": lambda conn: conn.decoders.__setitem__(FIELD_TYPE.LONGLONG, lambda text: "mine"),
    "decoders.clear()": lambda conn: conn.decoders.clear(),
    "encoders = {}": lambda conn: setattr(conn, "encoders", {}),
    "cursorclass": lambda conn: setattr(conn, "cursorclass", pymysql.cursors.DictCursor),
    "kept": lambda conn: KEPT.append(conn.encoders),
}
KEPT: list[Any] = []


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("reset", ["rollback", "session"])
def test_what_a_request_changes_in_the_drivers_objects(mariadb: MariaDB, reset: Any, change: str) -> None:
    """Converters that are changed in place, or later by who has kept them, are not those of the next request."""
    KEPT.clear()
    with Database(mariadb.url(), pool_size=1, reset=reset) as database:
        with database.connection() as conn:
            CHANGES[change](conn)
        for mapping in KEPT:
            mapping.clear()
        with database.connection() as conn:
            cursor = conn.cursor()
            cursor.execute("SELECT %s + 0", (1,))
            assert cursor.fetchall() == ((1,),)
        assert database.stats().connects == 1


@pytest.mark.parametrize("name", ["open", "no_such_class"])
def test_an_attribute_that_is_refused_costs_nothing(mariadb: MariaDB, name: str) -> None:
    """What PyMySQL refuses to set or to delete, there is nothing to put back of."""
    with Database(mariadb.url(), pool_size=1) as database:
        with database.connection() as conn, pytest.raises(AttributeError):
            setattr(conn, "open", 1) if name == "open" else delattr(conn, name)
        with database.connection() as conn:
            assert run(conn, "SELECT 1") == [(1,)]
        assert database.stats().connects == 1


def test_an_init_command_of_several_statements(mariadb: MariaDB) -> None:
    """C7: all of its results are read, also where it is run again."""
    url = mariadb.url(init_command="SELECT 1; SET @mine = 2", client_flag=CLIENT.MULTI_STATEMENTS)
    with Database(url, pool_size=1, reset="session", transaction="autocommit") as database:
        for _ in range(3):
            with database.connection() as conn:
                assert value(conn, "SELECT @mine") == 2
        assert database.stats().connects == 1
