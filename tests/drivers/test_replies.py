"""C7: no command is sent while a reply is pending, by any driver for MySQL.

One list of the ways to leave a reply behind, and one of what may come next. Each next statement gets its own reply, or
an error tells that it was not sent; the next request always gets its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pymysql
import pytest

from drivers.cases import ERRORS, unbuffered
from support.mariadb import MariaDB
from wsgidb import Database, TransactionLost

SCHEMES = {
    "pymysql": "mysql+pymysql",
    "mysqlclient": "mysql+mysqldb",
    "connector": "mysql+mysqlconnector",
}
QUERIES = {"pymysql": f"?client_flag={pymysql.constants.CLIENT.MULTI_STATEMENTS}"}
SETUP = (
    "CREATE OR REPLACE TABLE replies (text VARCHAR(30) PRIMARY KEY)",
    "CREATE OR REPLACE PROCEDURE shows_one() SELECT 42",
    "CREATE OR REPLACE PROCEDURE shows_two() BEGIN SELECT 42; SELECT 43; END",
    "CREATE OR REPLACE PROCEDURE shows_and_fails() BEGIN SELECT 42; SIGNAL SQLSTATE '45000'; END",
)
CLEANUP = (
    *("DROP TABLE replies", "DROP PROCEDURE shows_one", "DROP PROCEDURE shows_two", "DROP PROCEDURE shows_and_fails"),
)
REFUSED = (*ERRORS, TransactionLost)

# -- ways to leave a reply behind


def executed(sql: str, *, close: bool, fetch: bool = True) -> Callable[[Any], Any]:
    """Run a statement, fetch what a program would that knows of one result only, and close the cursor or keep it."""

    def leave(conn: Any) -> Any:
        cursor = conn.cursor()
        cursor.execute(sql)
        if fetch and cursor.description:
            cursor.fetchall()
        if close:
            cursor.close()
        return cursor

    return leave


def half_way(conn: Any) -> Any:
    cursor = conn.cursor()
    cursor.execute("SELECT 42; SELECT 43; SELECT 44")
    cursor.fetchall()
    cursor.nextset()
    cursor.fetchall()
    return cursor


def part_of_the_rows(conn: Any) -> Any:
    cursor = unbuffered(conn)
    cursor.execute("SELECT seq FROM seq_1_to_100")
    cursor.fetchone()
    return cursor


def part_of_many_rows(conn: Any) -> Any:
    cursor = unbuffered(conn)
    cursor.execute("SELECT seq, REPEAT('x', 100) FROM seq_1_to_99999999")
    cursor.fetchone()
    return cursor


def called(conn: Any) -> Any:
    cursor = conn.cursor()
    cursor.callproc("shows_two")
    return cursor


def unbuffered_call(conn: Any) -> Any:
    cursor = unbuffered(conn)
    cursor.execute("CALL shows_two()")
    cursor.fetchall()
    return cursor


def prepared_by_sql(conn: Any) -> Any:
    cursor = conn.cursor()
    cursor.execute("PREPARE called FROM 'CALL shows_two()'")
    cursor.execute("EXECUTE called")
    cursor.fetchall()
    return cursor


WAYS: dict[str, Callable[[Any], Any]] = {
    "CALL": executed("CALL shows_one()", close=True),
    "CALL, cursor open": executed("CALL shows_one()", close=False),
    "CALL, nothing fetched": executed("CALL shows_one()", close=False, fetch=False),
    "CALL of two": executed("CALL shows_two()", close=True),
    "CALL of two, cursor open": executed("CALL shows_two()", close=False),
    "CALL that fails later": executed("CALL shows_and_fails()", close=False),
    "two statements": executed("SELECT 42; SELECT 43", close=True),
    "two statements, cursor open": executed("SELECT 42; SELECT 43", close=False),
    "two statements without rows": executed("SET @a = 1; SET @b = 2", close=False),
    "a comment behind": executed("SELECT 42; -- tag", close=True),
    "a second statement that fails": executed("SELECT 42; SELECT no_such_column", close=False),
    "nextset half-way": half_way,
    "part of the rows": part_of_the_rows,
    "callproc": called,
    "unbuffered CALL": unbuffered_call,
    "prepared by SQL": prepared_by_sql,
}


def connectors_prepared_call(conn: Any) -> Any:
    cursor = conn.cursor(prepared=True)
    cursor.execute("CALL shows_two()")
    cursor.fetchall()
    return cursor


def connectors_iterator(conn: Any) -> Any:
    results = conn.cmd_query_iter("SELECT 42; SELECT 43; SELECT 44")
    next(results)
    conn.get_rows()
    return results


def connectors_unannounced_rows(conn: Any) -> Any:
    prepared = conn.cmd_stmt_prepare(b"SELECT seq FROM seq_1_to_100")
    return conn.cmd_stmt_execute(prepared["statement_id"])


def connectors_unread_flag(conn: Any) -> Any:
    conn.cmd_query("SELECT seq FROM seq_1_to_100")
    conn.unread_result = False


def connectors_statistics(conn: Any) -> Any:
    with suppress(*ERRORS):
        conn.cmd_statistics()


def query_of_its_own(conn: Any) -> Any:
    conn.query("SELECT 42; SELECT 43")


OWN_WAYS: dict[str, dict[str, Callable[[Any], Any]]] = {
    "pymysql": {"query": query_of_its_own},
    "mysqlclient": {"query": query_of_its_own},
    "connector": {
        "prepared CALL": connectors_prepared_call,
        "cmd_query_iter": connectors_iterator,
        "rows of a statement prepared by hand": connectors_unannounced_rows,
        "unread_result set by hand": connectors_unread_flag,
        "cmd_statistics": connectors_statistics,
    },
}

# -- what comes next: None where it was refused, else whether it got its own reply

numbers = count(1)


def select(conn: Any) -> bool:
    number = next(numbers)
    cursor = conn.cursor()
    cursor.execute(f"SELECT 'mine', {number}")
    return [tuple(row) for row in cursor.fetchall()] == [("mine", number)]


def selects(conn: Any) -> bool:
    return all([select(conn), select(conn), select(conn)])


def write(conn: Any) -> bool:
    cursor = conn.cursor()
    cursor.execute("INSERT INTO replies VALUES ('next'), ('another')")
    return bool(cursor.rowcount == 2) and select(conn)


def ping(conn: Any) -> bool:
    conn.ping()
    return select(conn)


def roll_back(conn: Any) -> bool:
    conn.rollback()
    return select(conn)


NEXT: dict[str, Callable[[Any], bool]] = {"selects": selects, "write": write, "ping": ping, "rollback": roll_back}


CASES = [
    pytest.param(driver, leave, id=f"{driver}-{name}")
    for driver in SCHEMES
    for name, leave in {**WAYS, **OWN_WAYS[driver]}.items()
]


@pytest.fixture(scope="module", params=["mariadb", "tls_mariadb"])
def prepared(request: pytest.FixtureRequest) -> Iterator[MariaDB]:
    """A server in plaintext, or with TLS, where a readable socket proves nothing."""
    server: MariaDB = request.getfixturevalue(request.param)
    for sql in SETUP:
        server.query(sql)
    yield server
    for sql in CLEANUP:
        server.query(sql)


@pytest.fixture
def server(prepared: MariaDB) -> MariaDB:
    """The same, with an empty table."""
    prepared.query("DELETE FROM replies")
    return prepared


def database_of(server: MariaDB, driver: str, **options: Any) -> Database:
    url = server.url().replace("mysql+pymysql", SCHEMES[driver]) + QUERIES.get(driver, "")
    return Database(url, pool_size=1, ssl_mode="disabled" if server.ca is None else "required", **options)


def stored(server: MariaDB) -> set[str]:
    return {str(row[0]) for row in server.query("SELECT text FROM replies")}


def next_request_is_its_own(database: Database) -> None:
    with database.connection() as conn:
        assert selects(conn)


pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore:Previous unbuffered result was left incomplete:UserWarning"),
]
each_case = pytest.mark.parametrize(("driver", "leave"), CASES)


@each_case
@pytest.mark.parametrize("following", NEXT)
def test_the_next_statement(server: MariaDB, driver: str, leave: Callable[[Any], Any], following: str) -> None:
    """It gets its own reply, or is refused by an error; so does the next request, without an error."""
    with database_of(server, driver) as database:
        with database.connection() as conn:
            kept = leave(conn)
            with suppress(*REFUSED):
                assert NEXT[following](conn), "another statement's reply"
            del kept
        next_request_is_its_own(database)
    assert stored(server) == set()


@each_case
def test_a_commit(server: MariaDB, driver: str, leave: Callable[[Any], Any]) -> None:
    """What commit() says is so: without an error all is stored, with one nothing is."""
    with database_of(server, driver) as database:
        committed = False
        with database.connection() as conn:
            conn.cursor().execute("INSERT INTO replies VALUES ('first')")
            kept = leave(conn)
            with suppress(*REFUSED):
                conn.commit()
                committed = True
            del kept
        assert stored(server) == ({"first"} if committed else set())
        next_request_is_its_own(database)


@each_case
def test_the_commit_of_a_request(server: MariaDB, driver: str, leave: Callable[[Any], Any]) -> None:
    """With transaction=request, too: its outcome is the commit's own."""
    with database_of(server, driver, transaction="request") as database:
        committed = False
        with suppress(*REFUSED):
            with database.connection() as conn:
                conn.cursor().execute("INSERT INTO replies VALUES ('first')")
                kept = leave(conn)
            committed = True
            del kept
        assert stored(server) == ({"first"} if committed else set())
        next_request_is_its_own(database)


@pytest.mark.parametrize("driver", SCHEMES)
def test_the_commit_of_a_request_with_many_rows_unread(server: MariaDB, driver: str) -> None:
    """They are not read for the commit's sake, or for ping_timeout at most; then the request is told."""
    with database_of(server, driver, transaction="request", ping_timeout=0.2) as database:
        committed = False
        began = time.monotonic()
        with suppress(*REFUSED):
            with database.connection() as conn:
                conn.cursor().execute("INSERT INTO replies VALUES ('first')")
                kept = part_of_many_rows(conn)
            committed = True
            del kept
        assert time.monotonic() - began < 5
        assert stored(server) == ({"first"} if committed else set())
        next_request_is_its_own(database)


@each_case
@pytest.mark.parametrize("options", [{}, {"ping_after": 0}, {"reset": "session"}], ids=["", "ping", "session"])
def test_the_next_request(
    server: MariaDB, driver: str, leave: Callable[[Any], Any], options: dict[str, Any]
) -> None:  # fmt: skip
    """It gets its own replies, also where a ping or a reset of the session comes before, and with autocommit."""
    with database_of(server, driver, transaction="autocommit", **options) as database:
        for _ in range(2):
            with database.connection() as conn:
                kept = leave(conn)
            next_request_is_its_own(database)
            del kept


@pytest.mark.parametrize("driver", SCHEMES)
@pytest.mark.parametrize(
    "options",
    [
        {"init_sql": ["CALL shows_two()"]},
        {"init_sql": ["SET @a = 1; SET @b = 2", "SELECT 1"]},
        {"init_sql": ["CALL shows_two()"], "reset": "session"},
        {"ping_query": "CALL shows_two()", "ping_after": 0},
        {"ping_query": "SELECT 1; SELECT 2", "ping_after": 0},
    ],
    ids=str,
)
def test_statements_of_wsgidbs_own(server: MariaDB, driver: str, options: dict[str, Any]) -> None:
    """init_sql and ping_query may have several results; all are read."""
    with database_of(server, driver, transaction="autocommit", **options) as database:
        for _ in range(3):
            next_request_is_its_own(database)
        assert database.stats().connects == 1
