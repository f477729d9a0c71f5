"""C7, R9: what mysqlclient's handlers leave unread is read before the commit, up to a bound."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import MySQLdb.cursors
import pytest

from drivers.cases import session
from drivers.others import url_of
from strategies.kit import limited
from support.mariadb import MariaDB
from support.waiting import until
from wsgidb import Database, TransactionLost

pytestmark = pytest.mark.server

BOUND = 0.3
MANY = "SELECT seq, REPEAT('x', 1000) FROM seq_1_to_99999999"


@pytest.fixture
def stored(mariadb: MariaDB) -> Iterator[Callable[[], list[int]]]:
    """What is in the table `unread`."""
    mariadb.query("CREATE TABLE unread (n INT PRIMARY KEY)")
    yield lambda: [row[0] for row in mariadb.query("SELECT n FROM unread ORDER BY n")]
    mariadb.query("DROP TABLE unread")


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[Database]:
    url = url_of("mysqlclient", mariadb.url())
    with Database(url, pool_size=1, transaction="request") as database:
        yield database


def unbuffered(conn: Any, sql: str) -> Any:
    cursor = conn.cursor(MySQLdb.cursors.SSCursor)
    cursor.execute(sql)
    cursor.fetchone()
    return cursor


def untaken(conn: Any, sql: str) -> Any:
    conn.query(sql)


def converted(conn: Any, sql: str) -> Any:
    conn.converter = {**conn.converter, MySQLdb.constants.FIELD_TYPE.LONGLONG: lambda text: {b"1": 1}[text]}
    return unbuffered(conn, sql)


@pytest.mark.parametrize("leave", [unbuffered, untaken, converted])
@pytest.mark.parametrize(
    "sql", ["SELECT seq FROM seq_1_to_1000", "SELECT seq FROM seq_1_to_1000; SELECT seq FROM seq_1_to_1000"]
)
def test_what_is_left_does_not_decide(
    database: Database, stored: Callable[[], list[int]], leave: Callable[[Any, str], Any], sql: str
) -> None:  # fmt: skip
    """R13: the work is committed, and the connection is kept."""
    with database.connection() as conn:
        conn.cursor().execute("INSERT INTO unread VALUES (1)")
        kept = leave(conn, sql)
    assert stored() == [1]
    with database.connection() as conn:
        conn.cursor().execute("INSERT INTO unread VALUES (2)")
    del kept
    assert stored() == [1, 2]
    assert (database.stats().connects, database.stats().discards) == (1, {})


@pytest.mark.parametrize("leave", [unbuffered, untaken])
def test_more_than_can_be_read_in_time(
    mariadb: MariaDB, database: Database, stored: Callable[[], list[int]], leave: Callable[[Any, str], Any]
) -> None:
    """The rows are not read for longer than ping_timeout: the connection goes, and the request is told."""
    began = time.monotonic()
    kept, sessions = [], []

    def request() -> None:
        with database.connection() as conn:
            sessions.append(session(conn))
            conn.cursor().execute("INSERT INTO unread VALUES (1)")
            kept.append(leave(conn, MANY))

    lost = pytest.raises(TransactionLost, match=r"what is left of a result takes more than 0\.3 s")
    with limited(database, ping_timeout=BOUND), lost:
        request()
    kept.clear()
    assert BOUND <= time.monotonic() - began < BOUND + 10, "to read all of them takes minutes"
    until(lambda: sessions[0] not in mariadb.processes("guest"), what="the session to end, which holds locks")
    assert stored() == []
    assert database.stats().discards == {"commit failed": 1}


@pytest.mark.parametrize("sql", ["SELECT 1; INSERT INTO unread VALUES (1)", "SELECT 1; SELECT no_such_column"])
def test_an_error_that_nobody_has_read(database: Database, stored: Callable[[], list[int]], sql: str) -> None:
    """A statement that failed is not passed over, though the handler has not asked how it went."""

    def request() -> None:
        with database.connection() as conn:
            conn.cursor().execute("INSERT INTO unread VALUES (1)")
            cursor = conn.cursor()
            cursor.execute(sql)

    with pytest.raises(MySQLdb.MySQLError, match=r"1062|1054"):
        request()
    assert stored() == []


_Cursor: Any = MySQLdb.cursors.Cursor


class Interrupted(_Cursor):  # type: ignore[misc]
    """A cursor that is interrupted after the first of several results."""

    executemany_fallback = "multi"
    results = 0

    def _post_get_result(self) -> None:
        self.results += 1
        if self.results == 2:
            raise RuntimeError("interrupted")
        super()._post_get_result()


@pytest.mark.skipif(not hasattr(MySQLdb.cursors.Cursor, "_close_connection"), reason="not in this version")
@pytest.mark.parametrize("transaction", ["manual", "request"])
def test_a_connection_that_the_driver_closes(
    mariadb: MariaDB, stored: Callable[[], list[int]], transaction: Any
) -> None:
    """R10: where executemany() fails half-way mysqlclient closes the connection, so that nothing of the transaction is
    committed; that holds for the lease, too, also where the application swallows the error."""
    with Database(url_of("mysqlclient", mariadb.url()), pool_size=1, transaction=transaction) as database:
        lost = False
        try:
            with database.connection() as conn:
                conn.cursor().execute("INSERT INTO unread VALUES (1)")
                cursor: Any = conn.cursor(Interrupted)
                with pytest.raises(RuntimeError):
                    cursor.executemany("UPDATE unread SET n = n + %s", [(1,), (1,), (1,)])
        except TransactionLost as error:
            lost = "executemany" in str(error)
        assert lost is (transaction == "request")
        assert stored() == []
        assert sum(database.stats().discards.values()) == 1
