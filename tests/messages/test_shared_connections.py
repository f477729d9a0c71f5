"""The errors of shared connections that docs/troubleshooting.md lists: what the drivers say, without wsgidb, when two
use one connection. The steps of both are done by one thread, in the order that does the harm."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from typing import Any
from urllib.parse import urlsplit

import mysql.connector
import MySQLdb
import pymysql
import pytest
from pymysql.connections import MySQLResult

from strategies.kit import Worker, in_child
from support import quoted
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.quoted import fits

QUERY = 3
"""The number of the command."""
NOT_PROVOKED = {
    "lost synchronization with server",  # depends on the bytes that one of the two has read
    "connection already closed",  # of psycopg2, for which wsgidb has no driver
}


def two_commands(conn: Any) -> None:
    """Both send, and then both read."""
    for _ in range(2):
        conn._execute_command(QUERY, "SELECT 1")
    for _ in range(2):
        MySQLResult(conn).read()


def closed_while_reading(conn: Any, close: Callable[[Any], None]) -> None:
    conn._execute_command(QUERY, "SELECT 1")
    close(conn)
    conn._read_packet()


def closed_before(conn: Any) -> None:
    conn.close()
    conn.query("SELECT 1")


PYMYSQL = {
    "Packet sequence number wrong - got <n> expected <n>": two_commands,
    "read of closed file": lambda conn: closed_while_reading(conn, lambda conn: conn._rfile.close()),
    "'NoneType' object has no attribute '<name>'": lambda conn: closed_while_reading(conn, type(conn)._force_close),
    "(0, '')": closed_before,
}


def mysqlclient(conn: Any) -> None:
    for _ in range(2):
        conn.query("SELECT 1")


def connector_unread(conn: Any) -> None:
    conn.cursor().execute("SELECT 1")
    conn.cursor().execute("SELECT 1")


def connector_closed(conn: Any) -> None:
    conn.close()
    conn.cursor()


def psycopg_busy(conn: Any) -> None:
    conn.pgconn.send_query(b"SELECT 1")
    conn.execute("SELECT 2")


def psycopg_closed(conn: Any) -> None:
    conn.close()
    conn.execute("SELECT 1")


PSYCOPG = {"another command is already in progress": psycopg_busy, "the connection is closed": psycopg_closed}
CONNECTOR = {"Unread result found": connector_unread, "MySQL Connection not available": connector_closed}
SYNC = "Commands out of sync; you can't run this command now"
SSL = "SSL error: decryption failed or bad record mac"
THREAD = "SQLite objects created in a thread can only be used in that same thread. <details>"


def check(line: str, call: Callable[[], object]) -> None:
    """A call fails with an error whose text is this line, behind the number or what psycopg puts before it."""
    with pytest.raises(Exception) as caught:  # noqa: PT011 - the text is what counts
        call()
    error = caught.value
    text = error.args[1] if error.args[0] == 2014 else str(error).rpartition(" failed: ")[2]
    assert line in quoted.shared_lines()
    assert fits(line, text), text


@pytest.fixture
def closing_at_end() -> Iterator[Callable[[Any], Any]]:
    with ExitStack() as stack:
        yield lambda conn: stack.enter_context(closing(conn))


def where(mariadb: MariaDB) -> dict[str, Any]:
    url = urlsplit(mariadb.url())
    return {"host": "127.0.0.1", "port": url.port, "user": url.username, "database": url.path[1:]}


@pytest.mark.server
@pytest.mark.parametrize("line", PYMYSQL)
def test_pymysql(mariadb: MariaDB, line: str) -> None:
    conn: Any = pymysql.connect(**where(mariadb))
    try:
        check(line, lambda: PYMYSQL[line](conn))
    finally:
        conn._force_close()


@pytest.mark.server
def test_mysqlclient(mariadb: MariaDB, closing_at_end: Callable[[Any], Any]) -> None:
    conn = closing_at_end(MySQLdb.connect(**where(mariadb)))
    check(SYNC, lambda: mysqlclient(conn))


@pytest.mark.server
@pytest.mark.parametrize("line", CONNECTOR)
def test_connector(mariadb: MariaDB, closing_at_end: Callable[[Any], Any], line: str) -> None:
    conn: Any = closing_at_end(mysql.connector.connect(use_pure=True, **where(mariadb)))
    check(line, lambda: CONNECTOR[line](conn))


@pytest.mark.server
@pytest.mark.parametrize("line", PSYCOPG)
def test_psycopg(postgresql: PostgreSQL, closing_at_end: Callable[[Any], Any], line: str) -> None:
    conn = closing_at_end(postgresql.connect())
    check(line, lambda: PSYCOPG[line](conn))


@pytest.mark.server
def test_a_fork(closing_at_end: Callable[[Any], Any]) -> None:
    """A child has used the parent's connection: with TLS an error, and without it the parent reads the child's rows."""
    with PostgreSQL(tls=True) as server:
        encrypted, plain = (closing_at_end(server.connect(sslmode=mode)) for mode in ("require", "disable"))

        def child() -> None:
            encrypted.execute("SELECT 1")
            plain.pgconn.send_query(b"SELECT 'of the child'")

        in_child(child)
        check(SSL, lambda: encrypted.execute("SELECT 1"))
        assert plain.execute("SELECT 'of the parent'").fetchall() == [("of the child",)]


def test_sqlite(closing_at_end: Callable[[Any], Any]) -> None:
    conn = closing_at_end(sqlite3.connect(":memory:"))
    check(THREAD, lambda: Worker(lambda: conn.execute("SELECT 1")).outcome())


def test_every_line_is_provoked() -> None:
    provoked = {*PYMYSQL, *CONNECTOR, *PSYCOPG, SYNC, SSL, THREAD}
    assert set(quoted.shared_lines()) == provoked | NOT_PROVOKED
