"""Lost transactions, and what is used after its request: the sentences of docs/troubleshooting.md, provoked."""

from __future__ import annotations

import copy
import socket
import sqlite3
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import MySQLdb
import MySQLdb.cursors
import psycopg
import pymysql
import pymysql.cursors
import pytest
from pymysql.constants import COMMAND

from drivers.cases import ERRORS, run
from drivers.test_mysqlclient_losses import Rival, half, lock_row_1, prepared
from drivers.test_mysqlclient_replies import Interrupted
from strategies.kit import in_child
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.quoted import shown
from support.wsgi import Call
from wsgidb import ConnectionReturned, Database, DatabaseMiddleware, TransactionLost
from wsgidb.lease.proxy import settle

CLIENT, CONNECTOR = "mysql+mysqldb", "mysql+mysqlconnector"
DRIVERS = ("mysql+pymysql", CLIENT, CONNECTOR)
SLOW = "SELECT SLEEP(0.02), REPEAT('x', 9999) FROM seq_1_to_9999"
Work = Callable[[Any], object]


def lost(database: Database, work: Work) -> str:
    """What the end of a request says that did this work and went on."""
    with pytest.raises(TransactionLost) as caught, database.connection() as conn:
        work(conn)
    return str(caught.value)


@pytest.fixture(params=DRIVERS)
def mysql(mariadb: MariaDB, request: pytest.FixtureRequest) -> Iterator[Database]:
    url = mariadb.url().replace("mysql+pymysql", request.param)
    for _ in prepared(mariadb):
        with Database(url, transaction="request", ping_timeout=0.3, pool_size=2) as database:
            yield database


@pytest.fixture
def postgres(postgresql: PostgreSQL) -> Iterator[Database]:
    with Database(postgresql.url(), transaction="request", ping_timeout=0.3) as database:
        yield database


@pytest.mark.server
class TestMySQL:
    def test_a_deadlock(self, mysql: Database, mariadb: MariaDB) -> None:
        """The handler has caught the error, or a procedure has."""

        def swallow(conn: Any) -> None:
            with pytest.raises(ERRORS, match="1213"):
                run(conn, "UPDATE contended SET n = 1 WHERE id = 2")

        def work(conn: Any, victim: Work) -> None:
            with mysql.connection() as other:
                rival = Rival(mariadb, other)
                half(conn, "first")
                lock_row_1(conn)
                rival.ask_first()
                victim(conn)
                rival.end()
                half(conn, "second")

        shown("the server rolled the transaction back with error", lost(mysql, partial(work, victim=swallow)))
        calls: Work = lambda conn: conn.cursor().callproc("swallows")  # noqa: E731
        shown("a procedure's error rolled", lost(mysql, partial(work, victim=calls)))

    def test_a_lost_connection(self, mysql: Database, mariadb: MariaDB) -> None:
        """The session is gone, and the handler does not notice."""

        def work(conn: Any) -> None:
            half(conn, "first")
            mariadb.kill_connections("guest")
            for _ in range(2):
                with pytest.raises((*ERRORS, TransactionLost)):
                    half(conn, "second")

        text = lost(mysql, work)
        if text.startswith("cannot commit"):
            shown("cannot commit: <reason>", text, whole=True)
        else:
            shown("the connection was lost, and", text)

    def test_closed_by_the_handler(self, mysql: Database) -> None:
        """It cannot be committed any more, for a reason of a discard."""

        def work(conn: Any) -> None:
            half(conn, "first")
            conn.driver_connection.close()

        shown("cannot commit: <reason>", lost(mysql, work), whole=True)

    def test_a_reconnect(self, mysql: Database, mariadb: MariaDB) -> None:
        """Each driver has its own way to refuse it."""
        scheme = mysql.settings.url.scheme if mysql.settings.url else ""

        def work(conn: Any) -> None:
            half(conn, "first")
            if scheme == CLIENT:
                with pytest.raises(MySQLdb.NotSupportedError) as caught:
                    conn.ping(True)
                shown("ping(reconnect=True) would go on", caught.value)
            elif scheme == CONNECTOR:
                mariadb.kill_connections("guest")
                with pytest.raises(TransactionLost) as refused:
                    conn.ping(reconnect=True)
                shown("cannot reconnect", refused.value)
            else:
                with pytest.raises(TransactionLost) as refused:
                    conn.connect()
                shown("the connection was lost, and", refused.value)
            raise KeyError

        with pytest.raises(KeyError), mysql.connection() as conn:
            work(conn)

    def test_rows_that_take_too_long(self, mysql: Database) -> None:
        """The rest of a large result must be read before the COMMIT."""
        scheme = mysql.settings.url.scheme if mysql.settings.url else ""
        cursors: dict[str, Any] = {"mysql+pymysql": pymysql.cursors.SSCursor, CLIENT: MySQLdb.cursors.SSCursor}
        parts = {"mysql+pymysql": "and reading them failed", CLIENT: "reading what", CONNECTOR: "the rest of a"}
        kept = []

        def work(conn: Any) -> None:
            half(conn, "first")
            cursor = conn.cursor(cursors[scheme]) if scheme in cursors else conn.cursor()
            cursor.execute(SLOW)
            kept.append((cursor, cursor.fetchone()))

        shown(parts[scheme], lost(mysql, work))


@pytest.mark.server
@pytest.mark.skipif(not hasattr(MySQLdb.cursors.Cursor, "_close_connection"), reason="not in this version")
@pytest.mark.parametrize("mysql", [CLIENT], indirect=True)
def test_an_executemany_that_failed(mysql: Database) -> None:
    """mysqlclient closes the connection in the middle of several statements."""

    def work(conn: Any) -> None:
        with pytest.raises(RuntimeError):
            conn.cursor(Interrupted).executemany("UPDATE contended SET n = n + %s", [(1,), (1,), (1,)])

    shown("mysqlclient closed the connection", lost(mysql, work))


@pytest.mark.server
class TestPostgreSQL:
    def test_an_error(self, postgres: Database) -> None:
        """Any error ends the transaction."""

        def work(conn: Any) -> None:
            with pytest.raises(psycopg.Error):
                conn.execute("SELECT 1 / 0")

        shown("an error has ended the transaction", lost(postgres, work))

    def test_a_reset(self, postgres: Database) -> None:
        """libpq's own way to reconnect."""

        def work(conn: Any) -> None:
            conn.execute("CREATE TEMPORARY TABLE t (n INT)")
            conn.pgconn.reset()
            conn.execute("SELECT 1")

        shown("the connection was reset in the middle", lost(postgres, work))

    def test_rows_that_take_too_long(self, postgres: Database) -> None:
        """The rest of a stream() must be read before the COMMIT; and a COPY may wait for more rows."""
        kept = []

        def stream(conn: Any) -> None:
            conn.execute("CREATE TEMPORARY TABLE t (n INT)")
            rows = conn.cursor().stream("SELECT pg_sleep(0.02), repeat('x', 9999) FROM generate_series(1, 9999)")
            kept.append((rows, next(rows)))

        def waiting(conn: Any) -> None:
            conn.execute("CREATE TEMPORARY TABLE t (n INT)")
            manager = conn.cursor().copy("COPY t FROM STDIN")
            kept.append((manager, manager.__enter__()))

        shown("rows were left unread (<error>)", lost(postgres, stream))
        with pytest.raises(TransactionLost) as caught, postgres.connection() as conn:
            waiting(conn)
        shown("a COPY FROM was not ended", caught.value.__cause__)


def test_sqlite_rolls_back(tmp_path: Path) -> None:
    """ON CONFLICT ROLLBACK."""

    def work(conn: Any) -> None:
        conn.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(sqlite3.IntegrityError):
            conn.execute("INSERT OR ROLLBACK INTO t VALUES (1)")

    url = f"sqlite:///{tmp_path}/t.db"
    with Database(url, transaction="request", init_sql="CREATE TABLE t (n INT UNIQUE)") as database:
        shown("SQLite rolled the transaction back with", lost(database, work))


class TestAfterTheRequest:
    def test_the_connection_and_its_cursor(self, tmp_path: Path) -> None:
        """Both are refused; a cursor's attribute is named."""
        with Database(f"sqlite:///{tmp_path}/t.db") as database:
            with database.connection() as conn:
                cursor = conn.cursor()
            with pytest.raises(ConnectionReturned) as caught:
                conn.cursor()
            shown("the connection has gone back: its request is over, or it was closed", caught.value, whole=True)
            with pytest.raises(ConnectionReturned) as caught:
                cursor.execute("SELECT 1")
            shown("or it was closed (.<attribute>)", caught.value)

    def test_a_forked_child(self, fakedb: FakeDB) -> None:
        """It can neither use the connection nor commit."""
        with Database(creator=fakedb.connect, transaction="request") as database, database.connection() as conn:

            def child() -> list[str]:
                with pytest.raises(ConnectionReturned) as used:
                    conn.cursor()
                with pytest.raises(TransactionLost) as committed:
                    settle(conn, success=True)  # type: ignore[arg-type]
                return [str(used.value), str(committed.value)]

            used, committed = in_child(child)
        shown("is that of this process's parent", used)
        shown("the transaction is another process's", committed)

    def test_copies(self, tmp_path: Path) -> None:
        """A lease is one request's alone."""
        with Database(f"sqlite:///{tmp_path}/t.db") as database, database.connection() as conn:
            with pytest.raises(TypeError) as caught:
                copy.copy(conn)
            shown("cannot be copied or pickled", caught.value)
            with pytest.raises(TypeError) as caught:
                conn.cursor(lambda conn: sqlite3.Cursor(conn))
            shown("cursor() takes a class here", caught.value)

    def test_what_breaks_pep_3333(self, fakedb: FakeDB) -> None:
        """A second start_response, and a body that goes on and on after its end."""

        def twice(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            for _ in range(2):
                start_response("200 OK", [("Content-Type", "text/plain")])
            return [b""]

        def endless(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
            start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "1")])
            while True:
                yield b"x" * 1000

        with Database(creator=fakedb.connect, transaction="request") as database:
            with pytest.raises(AssertionError) as caught:
                Call(DatabaseMiddleware(twice, database))
            shown("start_response was called twice", caught.value)
            with pytest.raises(AssertionError) as caught:
                Call(DatabaseMiddleware(endless, database)).read()
            shown("is longer than its Content", caught.value)


@pytest.mark.server
class TestDriversTexts:
    """wsgidb's own texts in PyMySQL's classes."""

    @pytest.fixture
    def raw(self, mariadb: MariaDB) -> Iterator[Any]:
        with Database(mariadb.url()) as database, database.connection() as conn:
            yield conn.driver_connection

    def error(self, raw: Any) -> str:
        with pytest.raises(pymysql.Error) as caught:
            run(raw, "SELECT 1")
        number, text = caught.value.args
        assert number in (2006, 2013, 2014)
        return str(text)

    def test_what_cannot_be_sent(self, raw: Any) -> None:
        """2006."""
        raw._sock.shutdown(socket.SHUT_WR)
        shown("MySQL server has gone away (<error>)", self.error(raw), whole=True)

    def test_closed_by_another_thread(self, raw: Any) -> None:
        """2013, in place of PyMySQL's AttributeError."""
        raw._force_close()
        with pytest.raises(pymysql.OperationalError) as caught:
            raw._failed(AttributeError("'NoneType' object has no attribute 'sendall'"))
        shown("Lost connection: it was closed meanwhile", caught.value.args[1])

    def test_a_second_command(self, raw: Any) -> None:
        """2014: the reply to the first one was not read."""
        raw._execute_command(COMMAND.COM_QUERY, "SELECT 1")
        shown("Commands out of sync: <what is not finished>", self.error(raw), whole=True)

    def test_rows_left_unread(self, raw: Any) -> None:
        """PyMySQL's own warning."""
        cursor = raw.cursor(pymysql.cursors.SSCursor)
        cursor.execute("SELECT 1 UNION SELECT 2")
        with pytest.warns(UserWarning, match="left incomplete") as caught:
            run(raw, "SELECT 1")
        (warning,) = [each.message for each in caught if isinstance(each.message, UserWarning)]
        shown("Previous unbuffered result was left incomplete", warning)
