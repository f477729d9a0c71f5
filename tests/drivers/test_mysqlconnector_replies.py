"""C7: what MySQL Connector/Python alone can leave of a reply, and what is done about it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import mysql.connector
import pytest
from mysql.connector.conversion import MySQLConverter

from drivers.cases import run
from drivers.others import url_of
from strategies.kit import limited
from support.mariadb import MariaDB
from wsgidb import Database

pytestmark = pytest.mark.server

OUT_OF_SYNC = "2014.*out of sync"
Error = mysql.connector.Error


class Unable(MySQLConverter):
    """A converter that fails on some values, as an application's may."""

    def row_to_python(self, row: Any, fields: Any) -> Any:
        if b"bad" in row:
            raise ValueError("cannot convert")
        return super().row_to_python(row, fields)


@pytest.fixture
def open_database(mariadb: MariaDB) -> Iterator[Callable[..., Database]]:
    """Opens a Database of one connection, beside a table `rest` and a procedure that fails behind its first result."""
    mariadb.query("CREATE OR REPLACE TABLE rest (n INT PRIMARY KEY)")
    mariadb.query("CREATE OR REPLACE PROCEDURE shows_and_fails() BEGIN SELECT 1; SIGNAL SQLSTATE '45000'; END")
    mariadb.query("CREATE OR REPLACE USER debugger@'127.0.0.1'")
    mariadb.query("GRANT ALL ON *.* TO debugger@'127.0.0.1'")
    opened: list[Database] = []

    def open_(**options: Any) -> Database:
        opened.append(Database(url_of("connector", mariadb.url()), pool_size=1, **options))
        return opened[-1]

    yield open_
    for database in opened:
        database.close()
    mariadb.query("DROP USER debugger@'127.0.0.1'")
    mariadb.query("DROP TABLE rest")
    mariadb.query("DROP PROCEDURE shows_and_fails")


def next_is_its_own(database: Database) -> None:
    with database.connection() as conn:
        assert run(conn, "SELECT 'mine'") == [("mine",)]


def half_read(conn: Any) -> None:
    """Leave further results, and hide that from the driver and from wsgidb."""
    cursor = conn.cursor()
    cursor.execute("SELECT 1; SELECT 2; SELECT 3")
    cursor.fetchall()
    conn.driver_connection._have_next_result = False


def test_a_packet_of_an_earlier_reply(open_database: Callable[..., Database]) -> None:
    """A reply's first packet has the number behind the command's: one with another number belongs to another reply."""
    database = open_database()
    with database.connection() as conn:
        half_read(conn)
        with pytest.raises(Error, match=OUT_OF_SYNC):
            conn.cursor().execute("SELECT 'mine'")
        with pytest.raises(Error):
            conn.commit()
    next_is_its_own(database)
    assert database.stats().discards == {"connection lost": 1}


@pytest.mark.parametrize("size", [10, 0xFFFFFF - 50, 0xFFFFFF - 1, 0xFFFFFF, 0xFFFFFF + 1, 2 * 0xFFFFFF])
@pytest.mark.parametrize("compress", [False, True])
def test_the_number_of_a_reply_to_a_large_command(
    mariadb: MariaDB, open_database: Callable[..., Database], size: int, compress: bool
) -> None:
    """A command may take several packets, which count: then the number is another one."""
    mariadb.query("SET GLOBAL max_allowed_packet = 64 * 1024 * 1024")
    with open_database(connect_args={"compress": compress}).connection() as conn:
        mariadb.query("SET GLOBAL max_allowed_packet = DEFAULT")  # a session keeps what it began with
        sql = "SELECT LENGTH('')"
        text = "x" * (size - len(sql) - 1)  # the command's own byte
        assert run(conn, f"SELECT LENGTH('{text}')") == [(len(text),)]
        assert run(conn, "SELECT 'mine'") == [("mine",)]


def test_a_ping_that_gets_an_old_reply(tls_mariadb: MariaDB) -> None:
    """With TLS a readable socket proves nothing, so that a ping decides: but not by an OK that was left behind."""
    url = url_of("connector", tls_mariadb.url())
    with Database(url, pool_size=1, ssl_mode="required", transaction="autocommit") as database:
        with database.connection() as conn:
            conn.cursor().execute("DO 1; DO 2; DO 3")
            raw: Any = conn.driver_connection
            raw._have_next_result = False
        next_is_its_own(database)
        assert database.stats().connects == 2


@pytest.mark.parametrize("command", ["ping", "commit", "cmd_statistics", "cmd_debug"])
def test_another_command_is_under_way(open_database: Callable[..., Database], command: str) -> None:
    """Of two threads at one connection the second one is refused, and nothing is sent."""
    database = open_database()
    with database.connection() as lease:
        conn: Any = lease
        raw = conn.driver_connection
        raw._seen.busy = True
        before = raw._seen.touched
        with pytest.raises(Error, match=OUT_OF_SYNC if command != "ping" else "not available"):
            getattr(conn, command)()
        assert raw._seen.touched == before
        raw._seen.busy = False
        assert run(conn, "SELECT 1") == [(1,)]
    assert database.stats().discards == {"connection lost": 1}


def test_commands_of_the_protocol_leave_nothing(open_database: Callable[..., Database]) -> None:
    """Each of them reads its reply, also one of another form, and the transaction goes on."""
    database = open_database(transaction="request", connect_args={"user": "debugger"})
    with database.connection() as lease:
        conn: Any = lease
        run(conn, "INSERT INTO rest VALUES (1)")
        conn.cmd_statistics()
        conn.cmd_debug()
        conn.cmd_ping()
        with suppress(mysql.connector.NotSupportedError):
            conn.cmd_process_info()
        conn.cmd_init_db("test")
        run(conn, "INSERT INTO rest VALUES (2)")
    with database.connection() as conn:
        assert run(conn, "SELECT n FROM rest ORDER BY n") == [(1,), (2,)]
    assert database.stats().connects == 1


@pytest.mark.parametrize("fetch", ["fetchall", "fetchone", "rollback"])
def test_rows_that_cannot_be_converted(open_database: Callable[..., Database], fetch: str) -> None:
    """What is left of such a result is known, or the connection goes; nothing waits for rows that came before."""
    database = open_database(connect_args={"converter_class": Unable}, read_timeout=20)
    began = time.monotonic()
    with database.connection() as lease:
        conn: Any = lease
        cursor = conn.cursor()
        cursor.execute("SELECT 'good' UNION ALL SELECT 'bad' UNION ALL SELECT 'good'")
        with pytest.raises(ValueError, match="cannot convert"):
            getattr(cursor, "fetchall" if fetch == "rollback" else fetch)()
        with suppress(Error):
            if fetch == "rollback":
                conn.rollback()
            assert run(conn, "SELECT 'mine'") == [("mine",)]
    next_is_its_own(database)
    assert time.monotonic() - began < 10


def test_a_result_that_comes_too_late(open_database: Callable[..., Database]) -> None:
    """After a time-out in the middle of a reply nothing more is read: the late result is nobody's."""
    database = open_database()
    with limited(database, read_timeout=1), database.connection() as lease:
        conn: Any = lease
        cursor = conn.cursor()
        cursor.execute("SELECT 1; SELECT SLEEP(3)")
        cursor.fetchall()
        with pytest.raises(Error):
            cursor.nextset()
        with pytest.raises(Error):
            run(conn, "SELECT 'mine'")
    next_is_its_own(database)


@pytest.mark.parametrize("prepared", [False, True])
def test_an_error_of_a_further_result_is_told(open_database: Callable[..., Database], prepared: bool) -> None:
    """C1: whatever comes next raises it, also where closing the cursor would have dropped it; a rollback ends it."""
    database = open_database()
    with database.connection() as lease:
        conn: Any = lease
        for end in (conn.commit, lambda: run(conn, "SELECT 1")):
            cursor = conn.cursor(prepared=prepared)
            cursor.execute("CALL shows_and_fails()")
            cursor.fetchall()
            cursor.close()
            with pytest.raises(Error, match="45000"):
                end()
            assert run(conn, "SELECT 'mine'") == [("mine",)]
        cursor = conn.cursor(prepared=prepared)
        cursor.execute("CALL shows_and_fails()")
        cursor.fetchall()
        cursor.close()
        conn.rollback()
        assert run(conn, "SELECT 'mine'") == [("mine",)]
    next_is_its_own(database)
    assert database.stats().connects == 1


def test_an_error_of_a_further_result_undoes_the_request(open_database: Callable[..., Database]) -> None:
    """R9: the handler did not look, so that the statement's failure is the commit's."""
    database = open_database(transaction="request")

    def handle() -> None:
        with database.connection() as lease:
            conn: Any = lease
            run(conn, "INSERT INTO rest VALUES (1)")
            cursor = conn.cursor(prepared=True)
            cursor.execute("CALL shows_and_fails()")
            cursor.fetchall()
            cursor.close()

    with pytest.raises(Error, match="45000"):
        handle()
    with database.connection() as conn:
        assert run(conn, "SELECT n FROM rest") == []


def test_rows_on_demand(open_database: Callable[..., Database]) -> None:
    """A cursor on the server has no rows on the wire but those that were asked for."""
    with open_database().connection() as lease:
        conn: Any = lease
        prepared = conn.cmd_stmt_prepare(b"SELECT seq FROM seq_1_to_5")
        number = prepared["statement_id"]
        _, columns, _ = conn.cmd_stmt_execute(number, flags=1)
        assert run(conn, "SELECT 'mine'") == [("mine",)]
        conn.cmd_stmt_fetch(number, 2)
        assert conn.get_rows(binary=True, columns=columns)[0] == [(1,), (2,)]
        conn.cmd_stmt_fetch(number, 2)
        with pytest.raises(Error, match="Unread result found"):
            run(conn, "SELECT 'mine'")
        conn.get_rows(binary=True, columns=columns)
        assert run(conn, "SELECT 'mine'") == [("mine",)]
        conn.cmd_stmt_fetch(number, 1)
        conn.unread_result = False
        with pytest.raises(Error, match=OUT_OF_SYNC):
            run(conn, "SELECT 'mine'")


@pytest.mark.parametrize("file", ["there", "missing"])
def test_a_file_that_is_not_sent(open_database: Callable[..., Database], tmp_path: Path, file: str) -> None:
    """The server waits for the file: a driver that refuses to send it has left the command half-way."""
    if file == "there":
        (tmp_path / file).write_text("1\n")
    allowed = {"allow_local_infile_in_path": str(tmp_path / "other")} if file == "there" else {}
    database = open_database(connect_args={"allow_local_infile": not allowed, **allowed}, read_timeout=5)
    with database.connection() as conn:
        with pytest.raises(Error):
            run(conn, f"LOAD DATA LOCAL INFILE '{tmp_path / file}' INTO TABLE rest")
        with suppress(Error):
            assert run(conn, "SELECT 'mine'") == [("mine",)]
    next_is_its_own(database)
