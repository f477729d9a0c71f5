"""The drivers' own errors that docs/troubleshooting.md explains: each is provoked on a real server. The numbers are the
servers', and so is what wsgidb does with the connection."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import pytest

from drivers.cases import run
from drivers.test_mysqlclient_losses import Rival, lock_row_1, prepared
from strategies.kit import Worker
from support import quoted
from support.client import connect
from support.mariadb import MariaDB
from support.ports import bind
from support.postgresql import PostgreSQL
from support.quoted import shown
from support.waiting import until
from wsgidb import Database, DatabaseUnavailable

CONSUMING = "consuming input failed: "
"""psycopg puts this before what libpq says, depending on the version."""


class Request:
    """One request on a new Database, whose statement fails."""

    def __init__(self, url: str, **options: Any) -> None:
        self.url, self.options = url, options
        self.discards: dict[str, int] = {}

    def fails(self, *statements: str, before: Any = None) -> str:
        """The number and text of the error of the last statement."""
        with Database(self.url, **self.options) as database:
            with database.connection() as conn:
                for sql in statements[:-1]:
                    run(conn, sql)
                if before is not None:
                    before(conn)
                with pytest.raises((pymysql.Error, psycopg.Error, sqlite3.Error)) as caught:
                    run(conn, statements[-1])
                text = told(caught.value)
            self.discards = dict(database.stats().discards)
        return text

    def is_refused(self) -> str:
        """The number and text of the error of connecting."""
        with Database(self.url, **self.options) as database, pytest.raises(DatabaseUnavailable) as caught:
            database.lease()
        assert caught.value.__cause__ is not None
        return told(caught.value.__cause__)


def connected(url: str) -> Any:
    """A connection to a server that may still count sessions which have just ended."""

    def attempt() -> Any:
        try:
            return connect(url)
        except pymysql.OperationalError as error:
            if error.args[0] != 1040:
                raise
            return None

    return until(attempt, what="the server to forget sessions that have ended")


def told(error: BaseException) -> str:
    return " ".join(map(str, error.args)).strip() if isinstance(error, pymysql.Error) else str(error).strip()


def row(fragment: str) -> str:
    """What the page says about the error."""
    (found,) = [line for line in quoted.section("troubleshooting.md", "## Errors of the driver").splitlines()
                if line.startswith("| `") and fragment in line.partition("` |")[0]]  # fmt: skip
    return found.partition("` |")[2]


@pytest.mark.server
class TestMySQL:
    @pytest.fixture
    def guest(self, mariadb: MariaDB) -> Request:
        return Request(mariadb.url())

    def test_no_connection_left(self, own_mariadb: MariaDB) -> None:
        """The server's limit, and a user's."""
        with ExitStack() as held:
            admin = held.enter_context(closing(connect(own_mariadb.url("root"))))
            run(admin, "SET GLOBAL max_connections = 10")
            for _ in range(9):
                held.enter_context(closing(connected(own_mariadb.url())))
            shown("1040 Too many connections", Request(own_mariadb.url()).is_refused())
            run(admin, "SET GLOBAL max_connections = 100")
        own_mariadb.execute("CREATE USER one@'%' WITH MAX_USER_CONNECTIONS 1")
        with closing(connect(own_mariadb.url("one", database=""))):
            shown("1226 User", Request(own_mariadb.url("one", database="")).is_refused())

    def test_what_is_wrong_in_the_url(self, mariadb: MariaDB) -> None:
        """The password, the database, the port."""
        shown("1045 Access denied", Request(mariadb.url("app", password="wrong")).is_refused())
        shown("1044 Access denied", Request(mariadb.url(database="nowhere")).is_refused())
        shown("1049 Unknown database", Request(mariadb.url("root", database="nowhere")).is_refused())
        with bind() as nobody:
            port = nobody.getsockname()[1]
            shown("2003 cannot connect to", Request(f"mysql://guest@127.0.0.1:{port}/test").is_refused())

    def test_a_lost_connection(self, guest: Request, mariadb: MariaDB) -> None:
        """Before the statement is sent, or before its reply comes. The connection is discarded."""

        def cannot_send(conn: Any) -> None:
            conn.driver_connection._sock.shutdown(1)

        shown("2006 MySQL server has gone away", guest.fails("SELECT 1", before=cannot_send))
        assert guest.discards == {"connection lost": 1}
        timed_out = Request(mariadb.url(), read_timeout=0.2)
        text = timed_out.fails("SELECT SLEEP(5)")
        shown("2013 Lost connection to MySQL server", text)
        assert "timed out" in text
        assert "`timed out` is in it" in row("2013")
        assert timed_out.discards == {"connection lost": 1}

    @pytest.mark.parametrize(
        ("what", "fragment", "discards"),
        [
            ("QUERY", "1317 Query execution was interrupted", {}),
            ("", "2013 Lost connection to MySQL server", {"connection lost": 1}),
        ],
    )
    def test_a_kill(self, mariadb: MariaDB, what: str, fragment: str, discards: dict[str, int]) -> None:
        """Of the statement that runs, or of the connection with it."""
        with Database(mariadb.url()) as database:
            with database.connection() as conn:
                number = conn.driver_connection.thread_id()
                worker = Worker(lambda: interrupted(conn))
                state = f"SELECT 1 FROM information_schema.processlist WHERE id = {number} AND state = 'User sleep'"
                until(lambda: mariadb.query(state), what="the statement to run")
                mariadb.execute(f"KILL {what} {number}")
                shown(fragment, worker.outcome())
            assert database.stats().discards == discards

    def test_out_of_sync(self, guest: Request) -> None:
        """Two commands at once."""

        def begin(conn: Any) -> None:
            conn.driver_connection._execute_command(3, "SELECT 1")

        shown("2014 Commands out of sync", guest.fails("SELECT 1", before=begin))
        assert sum(guest.discards.values()) == 1

    def test_locks(self, guest: Request, mariadb: MariaDB) -> None:
        """A lock that is not given, and a deadlock. The connection is kept."""
        for _ in prepared(mariadb):
            with Database(mariadb.url()) as others, others.connection() as other:
                run(other, "UPDATE contended SET n = 2 WHERE id = 1")
                waiting = Request(mariadb.url(), init_sql="SET innodb_lock_wait_timeout = 0")
                shown("1205 Lock wait timeout", waiting.fails("UPDATE contended SET n = 1 WHERE id = 1"))
                assert waiting.discards == {}
                other.rollback()
                rival = Rival(mariadb, other)

                def contend(conn: Any, rival: Rival = rival) -> None:
                    run(conn, "INSERT INTO halves VALUES ('first')")
                    lock_row_1(conn)
                    rival.ask_first()

                shown("1213 Deadlock", guest.fails("UPDATE contended SET n = 1 WHERE id = 2", before=contend))
                rival.end()
                assert guest.discards == {}

    def test_limits_of_the_server(self, guest: Request, own_mariadb: MariaDB) -> None:
        """Read-only; a time limit; a statement that is too large.

        The server closes the connection without reading the whole statement. One of many megabytes may still be on its
        way then, and sending it fails with 2006; one that is sent in one piece always gets the answer.
        """
        slow = "SET STATEMENT max_statement_time = 0.05 FOR SELECT SLEEP(5)"
        shown("1969 Query execution was interrupted", guest.fails(slow))
        assert guest.discards == {}
        own_mariadb.execute("CREATE TABLE t (n INT)")
        own_mariadb.execute("SET GLOBAL max_allowed_packet = 16384")
        own = Request(own_mariadb.url())
        shown("1153 Got a packet", own.fails(f"SELECT '{'x' * 30_000}'"))
        assert sum(own.discards.values()) == 1
        own_mariadb.execute("SET GLOBAL read_only = 1")
        shown("1290 The MariaDB server", own.fails("INSERT INTO t VALUES (1)"))
        assert own.discards == {"server read-only or not ready": 1}


def interrupted(conn: Any) -> str:
    with pytest.raises(pymysql.Error) as caught:
        run(conn, "SELECT * FROM seq_1_to_9 WHERE SLEEP(5)")
    return told(caught.value)


@pytest.mark.server
class TestPostgreSQL:
    @pytest.fixture
    def guest(self, postgresql: PostgreSQL) -> Request:
        return Request(postgresql.url())

    @pytest.fixture
    def table(self, postgresql: PostgreSQL) -> Iterator[None]:
        postgresql.execute("CREATE TABLE t (id INT PRIMARY KEY, n INT)")
        postgresql.execute("INSERT INTO t VALUES (1, 0), (2, 0)")
        postgresql.execute("GRANT ALL ON t TO PUBLIC")
        yield
        postgresql.execute("DROP TABLE t")

    def refused(self, fragment: str, text: str) -> None:
        """libpq puts the address before the server's text."""
        shown(fragment, text[text.index("FATAL") :])

    def test_what_is_refused(self, own_postgresql: PostgreSQL) -> None:
        """The server's limit, the database, the password."""
        self.refused('database "<name>"', Request(own_postgresql.url(database="nowhere")).is_refused())
        own_postgresql.execute("CREATE ROLE secret LOGIN PASSWORD 'right'")
        hba = own_postgresql.data / "pg_hba.conf"
        hba.write_text("host all secret all scram-sha-256\n" + hba.read_text())
        own_postgresql.execute("SELECT pg_reload_conf()")
        wrong = Request(own_postgresql.url("secret", password="wrong"))
        self.refused("password authentication failed", until(lambda: wrong.is_refused(), what="a refusal"))
        with ExitStack() as held:
            guest = Request(own_postgresql.url())
            [[most]] = own_postgresql.query("SHOW max_connections")
            first = held.enter_context(closing(own_postgresql.connect()))
            for _ in range(int(most) - 1):
                held.enter_context(closing(own_postgresql.connect()))
            self.refused("sorry, too many clients", guest.is_refused())
            first.close()

            def refused_otherwise() -> str:
                text = guest.is_refused()
                return "" if "sorry" in text else text

            # A session that has ended has its place for a moment, and so has one that was refused.
            self.refused("remaining connection slots", until(refused_otherwise, what="the server to notice"))

    def test_a_lost_connection(self, guest: Request, own_postgresql: PostgreSQL) -> None:
        """Ended by somebody, or by a crash."""

        def terminate(conn: Any) -> None:
            own_postgresql.query(f"SELECT pg_terminate_backend({conn.info.backend_pid})")
            until(lambda: not own_postgresql.processes("guest"), what="the session to end")

        own = Request(own_postgresql.url())
        text = own.fails("SELECT 1", before=terminate).splitlines()[0]
        shown("due to administrator command", text.removeprefix(CONSUMING).removeprefix("FATAL: ").strip())
        assert own.discards == {"connection lost": 1}

        def idle(conn: Any) -> None:
            conn.execute("SET idle_in_transaction_session_timeout = '500ms'")
            until(lambda: not own_postgresql.processes("guest"), what="the session to end")

        text = own.fails("SELECT 1", before=idle).splitlines()[0]
        shown("idle-in-transaction timeout", text.removeprefix(CONSUMING).removeprefix("FATAL: ").strip())
        assert own.discards == {"connection lost": 1}

        def crash(conn: Any) -> None:
            own_postgresql.kill()

        text = own.fails("SELECT 1", before=crash).removeprefix(CONSUMING)
        shown("server closed the connection unexpectedly", text)
        assert own.discards == {"connection lost": 1}

    def test_a_statement_of_that_name(self, guest: Request) -> None:
        """As behind a pooler, where the session may be another client's."""
        again = "PREPARE a AS SELECT 1"
        shown("prepared statement", guest.fails(again, again))
        assert guest.discards == {}

    def test_after_an_error(self, guest: Request) -> None:
        """The transaction is over."""

        def fail(conn: Any) -> None:
            with pytest.raises(psycopg.Error):
                conn.execute("SELECT 1 / 0")

        shown("current transaction is aborted", guest.fails("SELECT 1", before=fail))
        assert guest.discards == {}

    def test_locks(self, postgresql: PostgreSQL, table: None) -> None:
        """A deadlock, a conflict, a lock that is not given, and a time limit: the connection is kept."""
        asked = Request(postgresql.url())
        with postgresql.connect(autocommit=False) as other:
            other.execute("SET deadlock_timeout = '20s'")  # whoever looks first is the victim
            other.execute("UPDATE t SET n = 1 WHERE id = 2")
            worker: list[Worker] = []

            def contend(conn: Any) -> None:
                conn.execute("UPDATE t SET n = 1 WHERE id = 1")
                worker.append(Worker(lambda: other.execute("UPDATE t SET n = 2 WHERE id = 1")))
                waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND pid = %s"
                until(lambda: postgresql.query(waits, other.info.backend_pid), what="the other to wait")

            shown("deadlock detected", asked.fails("UPDATE t SET n = 1 WHERE id = 2", before=contend))
            worker[0].outcome()
            other.rollback()
            assert asked.discards == {}

        def overtake(conn: Any) -> None:
            postgresql.execute("UPDATE t SET n = n + 1 WHERE id = 1")

        serial = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
        request = Request(postgresql.url())
        text = request.fails(serial, "SELECT n FROM t", "UPDATE t SET n = 9 WHERE id = 1", before=overtake)
        shown("could not serialize access", text)
        with postgresql.connect(autocommit=False) as other:
            other.execute("UPDATE t SET n = 1 WHERE id = 1")
            text = request.fails("SET lock_timeout = '20ms'", "UPDATE t SET n = 1 WHERE id = 1")
            shown("canceling statement due to lock timeout", text.splitlines()[0])
            other.rollback()
        text = request.fails("SET statement_timeout = '20ms'", "SELECT pg_sleep(5)")
        shown("canceling statement due to statement timeout", text)
        text = request.fails("SET TRANSACTION READ ONLY", "UPDATE t SET n = 1")
        shown("cannot execute <statement>", text)
        assert request.discards == {}


class TestSQLite:
    def test_locked(self, tmp_path: Path) -> None:
        """By a transaction that goes on writing. The connection is kept."""
        request = Request(f"sqlite:///{tmp_path}/t.db?timeout=0.05")
        with closing(sqlite3.connect(tmp_path / "t.db", isolation_level=None)) as other:
            other.execute("CREATE TABLE t (n INT)")
            other.execute("BEGIN IMMEDIATE")
            shown("database is locked", request.fails("INSERT INTO t VALUES (1)"))
            assert request.discards == {}

    def test_read_only(self, tmp_path: Path) -> None:
        """As SQLite says it of a file that it may not write; a superuser, who runs tests at times, may write any."""
        with closing(sqlite3.connect(tmp_path / "t.db")) as made:
            made.execute("CREATE TABLE t (n INT)")
        request = Request(f"sqlite:///{tmp_path}/t.db", init_sql="PRAGMA query_only = 1")
        shown("attempt to write a readonly", request.fails("INSERT INTO t VALUES (1)"))
        assert request.discards == {"server read-only or not ready": 1}

    def test_no_directory(self, tmp_path: Path) -> None:
        """The file cannot be made."""
        shown("unable to open database file", Request(f"sqlite:///{tmp_path}/nowhere/t.db").is_refused())

    def test_closed(self, tmp_path: Path) -> None:
        """By the handler, through driver_connection."""
        request = Request(f"sqlite:///{tmp_path}/t.db")
        text = request.fails("SELECT 1", before=lambda conn: conn.driver_connection.close())
        shown("Cannot operate on a closed database.", text)
        assert request.discards == {"closed by the application": 1}
