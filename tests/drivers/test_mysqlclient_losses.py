"""R10: by mysqlclient no lost transaction is missed and none is invented, whatever the status that it does not tell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import MySQLdb
import MySQLdb.cursors
import pytest

from drivers.cases import ERRORS, run
from drivers.others import Open, driver_of, url_of
from support.mariadb import MariaDB
from support.waiting import until
from wsgidb import Database, TransactionLost

pytestmark = pytest.mark.server

PROCEDURES = {
    "swallows": "DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; UPDATE contended SET n = 1 WHERE id = 2;",
    "swallows_a_duplicate": "DECLARE CONTINUE HANDLER FOR SQLEXCEPTION BEGIN END; INSERT INTO contended VALUES (1, 1);",
    "commits": "UPDATE contended SET n = 1 WHERE id = 3; COMMIT;",
    "has_its_own": "START TRANSACTION; UPDATE contended SET n = 1 WHERE id = 3; COMMIT;",
    "commits_and_goes_on": "COMMIT; UPDATE contended SET n = 1 WHERE id = 3;",
    "rolls_back": "ROLLBACK;",
    "creates": "CREATE OR REPLACE TABLE by_procedure (n INT);",
    "writes": "INSERT INTO halves VALUES ('by procedure');",
}


@pytest.fixture
def halves(mariadb: MariaDB) -> Iterator[Callable[[], list[str]]]:
    """The tables and procedures; tells which halves of a transaction are stored."""
    yield from prepared(mariadb)


def prepared(server: MariaDB) -> Iterator[Callable[[], list[str]]]:
    server.query("CREATE TABLE contended (id INT PRIMARY KEY, n INT)")
    server.query("INSERT INTO contended SELECT seq, 0 FROM seq_1_to_100")
    server.query("CREATE TABLE halves (name VARCHAR(20))")
    for name, body in PROCEDURES.items():
        server.query(f"CREATE PROCEDURE {name}() BEGIN {body} END")
    yield lambda: [row[0] for row in server.query("SELECT name FROM halves ORDER BY name")]
    for name in PROCEDURES:
        server.query(f"DROP PROCEDURE {name}")
    server.query("DROP TABLE IF EXISTS contended, halves, by_procedure")


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[Database]:
    with Database(url_of("mysqlclient", mariadb.url()), pool_size=1, transaction="request") as database:
        yield database


class Rival:
    """Another session, which holds most rows and then asks for row 1, so that whoever has that and asks for another row
    is the victim of a deadlock."""

    def __init__(self, server: MariaDB, conn: Any) -> None:
        self._server, self._conn = server, conn
        run(conn, "UPDATE contended SET n = n + 1 WHERE id > 1")
        self._thread = threading.Thread(target=self._ask_for_row_1)

    def ask_first(self) -> None:
        """Ask for row 1 now."""
        self._thread.start()
        self._until_waiting()

    def ask_second(self) -> None:
        """Ask for row 1 when somebody waits for a row."""

        def wait_and_ask() -> None:
            self._until_waiting()
            self._ask_for_row_1()

        self._thread = threading.Thread(target=wait_and_ask)
        self._thread.start()

    def _until_waiting(self) -> None:
        until(lambda: self._server.status("Innodb_row_lock_current_waits") == 1, what="a session to wait for a row")

    def _ask_for_row_1(self) -> None:
        run(self._conn, "UPDATE contended SET n = 9 WHERE id = 1")

    def end(self) -> None:
        self._thread.join(10)
        self._conn.rollback()


def lock_row_1(conn: Any) -> None:
    run(conn, "UPDATE contended SET n = 1 WHERE id = 1")


def half(conn: Any, name: str) -> None:
    run(conn, f"INSERT INTO halves VALUES ('{name}')")


@pytest.mark.parametrize("begin", ["BEGIN", "/* a comment */ START TRANSACTION", "method"])
def test_a_deadlock_after_begin_in_autocommit(
    mariadb: MariaDB, opened: Open, database: Database, halves: Callable[[], list[str]], begin: str
) -> None:
    """The second half would be committed statement by statement, so it is refused."""
    _, other = opened("mysqlclient", mariadb.url())

    def request() -> None:
        with database.connection() as conn:
            conn.autocommit(True)
            conn.begin() if begin == "method" else run(conn, begin)
            rival = Rival(mariadb, other)
            half(conn, "first")
            lock_row_1(conn)
            rival.ask_first()
            with pytest.raises(ERRORS, match="1213"):
                run(conn, "UPDATE contended SET n = 1 WHERE id = 2")
            rival.end()
            with pytest.raises(TransactionLost):
                half(conn, "second")

    with pytest.raises(TransactionLost):
        request()
    assert halves() == []


@pytest.mark.parametrize("before", ["SET @a = 1", "UPDATE contended SET n = 2 WHERE id = 1", "BEGIN; COMMIT", ""])
def test_a_deadlock_of_one_statement_in_autocommit(
    mariadb: MariaDB, opened: Open, database: Database, halves: Callable[[], list[str]], before: str
) -> None:
    """There was no transaction to lose: the others have been committed each by itself."""
    _, other = opened("mysqlclient", mariadb.url())
    with database.connection() as conn:
        conn.autocommit(True)
        half(conn, "first")
        for sql in filter(None, before.split("; ")):
            run(conn, sql)
        rival = Rival(mariadb, other)
        rival.ask_second()
        with pytest.raises(ERRORS, match="1213"):
            run(conn, "UPDATE contended SET n = 1 WHERE id IN (1, 2) ORDER BY id")
        rival.end()
        half(conn, "second")
    assert halves() == ["first", "second"]


@pytest.mark.parametrize("first", [True, False])
def test_a_lock_timeout_of_a_later_statement_in_the_same_command(own_mariadb: MariaDB, first: bool) -> None:
    """Where the server rolls back on a lock timeout, what an earlier statement of the command did is lost, too."""
    own_mariadb.options.append("--innodb-rollback-on-timeout")
    own_mariadb.restart()
    steps = prepared(own_mariadb)
    halves = next(steps)
    url = url_of("mysqlclient", own_mariadb.url())
    options: Any = {"transaction": "request", "pool_size": 1, "init_sql": ["SET innodb_lock_wait_timeout = 0"]}
    with Database(url) as others, others.connection() as other, Database(url, **options) as database:
        run(other, "UPDATE contended SET n = 1 WHERE id = 2")

        def request() -> None:
            with database.connection() as conn:
                if first:
                    run(conn, "SELECT 1")
                cursor = conn.cursor()
                cursor.execute("INSERT INTO halves VALUES ('first'); UPDATE contended SET n = 2 WHERE id = 2")
                with pytest.raises(ERRORS, match="1205"):
                    cursor.nextset()
                half(conn, "second")

        with pytest.raises(TransactionLost):
            request()
    assert halves() == []


def test_a_deadlock_that_a_procedure_swallows(
    mariadb: MariaDB, opened: Open, database: Database, halves: Callable[[], list[str]]
) -> None:
    """The procedure goes on, and its reply tells nothing: the server is asked."""
    _, other = opened("mysqlclient", mariadb.url())

    def request() -> None:
        with database.connection() as conn:
            rival = Rival(mariadb, other)
            half(conn, "first")
            lock_row_1(conn)
            rival.ask_first()
            with conn.cursor() as cursor:
                cursor.callproc("swallows")
            rival.end()
            half(conn, "second")

    with pytest.raises(TransactionLost, match="a procedure's error"):
        request()
    assert halves() == []


@pytest.mark.parametrize("name", sorted(PROCEDURES))
@pytest.mark.parametrize("write_before", [True, False])
def test_what_a_procedure_does_by_itself_is_no_loss(
    database: Database, halves: Callable[[], list[str]], name: str, write_before: bool
) -> None:
    """Neither an error that ends one statement, nor the procedure's own end of the transaction."""
    with database.connection() as conn:
        if write_before:
            half(conn, "first")
        with conn.cursor() as cursor:
            cursor.callproc(name)
        half(conn, "second")
    assert halves()[-1] == "second"


def test_a_rollback_after_a_procedure_asks_nothing(mariadb: MariaDB, database: Database, halves: Any) -> None:
    """C4: what is rolled back cannot be lost."""
    with database.connection() as conn:
        half(conn, "first")
        with conn.cursor() as cursor:
            cursor.callproc("writes")
        before = mariadb.status("Com_select")
        conn.rollback()
        assert mariadb.status("Com_select") - before == 1, "which is for asking"
    assert halves() == []


def read_all(cursor: Any, sql: str) -> None:
    """On a very busy machine a time limit may be over before the first rows, and then execute() raises its error."""
    cursor.execute(sql)
    cursor.fetchall()


def test_a_time_limit_among_the_rows(database: Database, halves: Callable[[], list[str]]) -> None:
    """It ends one statement, and the transaction goes on."""
    slow = "SET STATEMENT max_statement_time = 0.2 FOR SELECT seq, SLEEP(0.01), REPEAT('x', 4000) FROM seq_1_to_1000"
    with database.connection() as conn:
        half(conn, "first")
        cursor = conn.cursor(MySQLdb.cursors.SSCursor)
        with pytest.raises(ERRORS, match="1969"):
            read_all(cursor, slow)
        half(conn, "second")
    assert halves() == ["first", "second"]


def test_refused_commits() -> None:
    """After these errors of a COMMIT the connection is as good as before."""
    driver = driver_of("mysqlclient", "mysql+pymysql://guest@127.0.0.1/test")
    assert driver.commit_was_refused(MySQLdb.OperationalError(1213, "Deadlock found when trying to get lock"))
    assert not driver.commit_was_refused(MySQLdb.OperationalError(1180, "Error on commit: Not connected"))
    assert not driver.commit_was_refused(MySQLdb.OperationalError(2013, "Lost connection to server during query"))
