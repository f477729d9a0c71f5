"""R10: by MySQL Connector/Python no lost transaction is missed and none is invented."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.cases import ERRORS, run
from drivers.others import Open, driver_of, url_of
from drivers.test_mysqlclient_losses import PROCEDURES, Rival, half, lock_row_1, prepared, read_all
from support.mariadb import MariaDB
from wsgidb import Database, TransactionLost

pytestmark = pytest.mark.server

Call = Callable[[Any, str], Any]


@pytest.fixture
def halves(mariadb: MariaDB) -> Iterator[Callable[[], list[str]]]:
    """The tables and procedures; tells which halves of a transaction are stored."""
    yield from prepared(mariadb)


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[Database]:
    """Its connection commits each request as a whole."""
    with Database(url_of("connector", mariadb.url()), pool_size=1, transaction="request") as database:
        yield database


def prepared_call(conn: Any, name: str) -> None:
    with conn.cursor(prepared=True) as cursor:
        cursor.execute(f"CALL {name}()")


CALLS: dict[str, Call] = {
    "execute": lambda conn, name: run(conn, f"CALL {name}()"),
    "comment": lambda conn, name: run(conn, f"/* tag */ CALL {name}()"),
    "callproc": lambda conn, name: conn.cursor().callproc(name),
    "prepared": prepared_call,
    "iterator": lambda conn, name: list(conn.cmd_query_iter(f"CALL {name}()")),
    "behind another": lambda conn, name: conn.cursor().execute(f"SET @a = 1; CALL {name}()"),
    "behind a SELECT": lambda conn, name: run(conn, f"SELECT 1; CALL {name}()"),
}
each_call = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS.keys())


@pytest.mark.parametrize("begin", ["BEGIN", "method"])
def test_a_deadlock_after_begin_in_autocommit(
    mariadb: MariaDB, opened: Open, database: Database, halves: Callable[[], list[str]], begin: str
) -> None:
    """The second half would be committed statement by statement, so it is refused."""
    _, other = opened("connector", mariadb.url())

    def request() -> None:
        with database.connection() as lease:
            conn: Any = lease
            conn.autocommit = True
            conn.start_transaction() if begin == "method" else run(conn, begin)
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


@each_call
def test_a_deadlock_that_a_procedure_swallows(
    mariadb: MariaDB, opened: Open, database: Database, halves: Callable[[], list[str]], call: Call
) -> None:
    """The procedure goes on, and its reply tells nothing: the savepoint before it is gone."""
    _, other = opened("connector", mariadb.url())

    def request() -> None:
        with database.connection() as conn:
            rival = Rival(mariadb, other)
            half(conn, "first")
            lock_row_1(conn)
            rival.ask_first()
            kept = call(conn, "swallows")
            rival.end()
            half(conn, "second")
            del kept

    with pytest.raises(TransactionLost, match="procedure's error"):
        request()
    assert halves() == []


@each_call
@pytest.mark.parametrize("name", sorted(PROCEDURES))
def test_what_a_procedure_does_by_itself_is_no_loss(
    database: Database, halves: Callable[[], list[str]], call: Call, name: str
) -> None:
    """Neither an error that ends one statement, nor a COMMIT of the procedure's own."""
    with database.connection() as conn:
        half(conn, "first")
        kept = call(conn, name)
        half(conn, "second")
        del kept
    assert halves()[-1] == "second"


def test_a_time_limit_among_the_rows(database: Database, halves: Callable[[], list[str]]) -> None:
    """It ends one statement, and the transaction goes on."""
    slow = "SET STATEMENT max_statement_time = 0.2 FOR SELECT seq, SLEEP(0.01), REPEAT('x', 4000) FROM seq_1_to_1000"
    with database.connection() as conn:
        half(conn, "first")
        cursor = conn.cursor()
        with pytest.raises(ERRORS, match="1969"):
            read_all(cursor, slow)
        half(conn, "second")
    assert halves() == ["first", "second"]


@pytest.mark.parametrize("first", [True, False])
def test_a_lock_timeout_in_the_second_of_two(own_mariadb: MariaDB, first: bool) -> None:
    """Where a lock timeout ends the whole transaction, it ends what the same command has done before, too."""
    own_mariadb.options.append("--innodb-rollback-on-timeout=1")
    own_mariadb.restart()
    steps = prepared(own_mariadb)
    halves = next(steps)
    url = url_of("connector", own_mariadb.url())
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


@pytest.mark.parametrize("how", ["reconnect", "connect", "ping"])
@pytest.mark.parametrize("transaction", ["manual", "request", "autocommit"])
@pytest.mark.parametrize("alive", [True, False])
def test_a_reconnect_in_the_middle_of_a_transaction(
    mariadb: MariaDB, halves: Callable[[], list[str]], how: str, transaction: Any, alive: bool
) -> None:
    """C1: the handler is told, in every mode, and a connection that works goes on with its transaction."""
    url = url_of("connector", mariadb.url())
    with Database(url, pool_size=1, transaction=transaction) as database:

        def request() -> None:
            with database.connection() as lease:
                conn: Any = lease
                run(conn, "BEGIN")
                half(conn, "first")
                if not alive:
                    mariadb.query(f"KILL {conn.connection_id}")
                with pytest.raises(TransactionLost, match="cannot reconnect"):
                    conn.ping(reconnect=True) if how == "ping" else getattr(conn, how)()
                half(conn, "second")
                conn.commit()

        if alive and how != "ping":
            request()
        elif not alive:
            with pytest.raises((*ERRORS, TransactionLost)):
                request()
    assert halves() == (["first", "second"] if alive and how != "ping" else [])


def test_a_lost_write_is_told_where_the_connection_goes(
    mariadb: MariaDB, halves: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    """The warning comes also where the application has closed the connection."""
    with Database(url_of("connector", mariadb.url()), pool_size=1) as database, database.connection() as lease:
        conn: Any = lease
        half(conn, "first")
        conn.disconnect()
    assert "rolled back an uncommitted write of 1 row(s)" in caplog.text
    assert halves() == []


def test_refused_commits() -> None:
    """After these errors of a COMMIT the connection is as good as before."""
    import mysql.connector

    driver = driver_of("connector", "mysql+pymysql://guest@127.0.0.1/test")
    Error = mysql.connector.errors.DatabaseError
    assert driver.commit_was_refused(Error(errno=1213, msg="Deadlock found when trying to get lock", sqlstate="40001"))
    assert not driver.commit_was_refused(Error(errno=1180, msg="Error on commit: Not connected"))
    assert not driver.commit_was_refused(Error(errno=2013, msg="Lost connection to server during query"))
