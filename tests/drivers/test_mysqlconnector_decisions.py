"""R12: a decision for everything that MySQL Connector/Python's connections and cursors let a handler do.

A version of the driver that can do more fails here, until it is decided what that means for a lease.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import mysql.connector
import mysql.connector.cursor
import pytest

from drivers.others import Open, url_of
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from wsgidb import ConnectionReturned, Database
from wsgidb.drivers.mysqlconnector.connection import Connection
from wsgidb.drivers.mysqlconnector.session import CHANGING

SENDS = (
    *("autocommit", "cmd_change_user", "cmd_debug", "cmd_init_db", "cmd_ping", "cmd_process_info", "cmd_process_kill"),
    *("cmd_query", "cmd_query_iter", "cmd_quit", "cmd_refresh", "cmd_reset_connection", "cmd_shutdown"),
    *("cmd_statistics", "cmd_stmt_close", "cmd_stmt_execute", "cmd_stmt_fetch", "cmd_stmt_prepare", "cmd_stmt_reset"),
    *("cmd_stmt_send_long_data", "commit", "connect", "consume_results", "cursor", "database", "disconnect"),
    *("get_row", "get_rows", "handle_unread_result", "info_query", "ping", "reconnect", "reset_session", "rollback"),
    *("set_charset_collation", "shutdown", "sql_mode", "start_transaction", "time_zone"),
)
"""Talks to the server, or ends the connection: it enters."""
ASKS = ("is_connected",)
"""Enters, and after the lease says that the connection is closed."""
HARMLESS = (
    *("charset", "charset_id", "collation", "connection_id", "get_server_info", "get_server_version"),
    *("have_next_result", "in_transaction", "is_secure", "isset_client_flag", "pool_config_version"),
    *("python_charset", "query_attrs", "server_host", "server_info", "server_port", "server_version", "unix_socket"),
)
"""Tells what is known, and reaches no server."""
SETS = (
    *("can_consume_results", "client_flags", "config", "converter_class", "get_warnings", "query_attrs_append"),
    *("query_attrs_clear", "query_attrs_remove", "raise_on_warnings", "read_timeout", "set_allow_local_infile_in_path"),
    *("set_client_flags", "set_converter_class", "set_login", "set_unicode", "use_unicode", "user", "write_timeout"),
)
"""Changes what the driver's object itself keeps, which is put back at the end of the lease."""
CURSORS_OWN = ("unread_result",)
"""What cursors set while they read a reply; nothing is to be put back."""
THE_LEASE = ("get_self",)
"""Returns the lease, where the driver's would return its own connection."""
THE_PROXYS = ("close",)
"""A lease has its own."""
CONNECTION = {*SENDS, *ASKS, *HARMLESS, *SETS, *CURSORS_OWN, *THE_LEASE, *THE_PROXYS}

THROUGH_THE_LEASE = (
    *("add_attribute", "callproc", "clear_attributes", "execute", "executemany", "fetchall", "fetchmany", "fetchone"),
    *("fetchwarnings", "get_attributes", "nextset", "remove_attribute"),
)
"""Reaches the connection by what the cursor has as such, which is the lease."""
IN_MEMORY = (
    *("column_names", "description", "getlastrowid", "lastrowid", "read_timeout", "rowcount", "setinputsizes"),
    *("setoutputsize", "statement", "warning_count", "warnings", "with_rows", "write_timeout"),
)
"""Concerns what was read before."""
CALLS_OTHERS = ("fetchsets", "reset")
"""Does nothing by itself, but for what is above."""
BOUND = ("stored_results",)
"""Hands out cursors; they, too, have the lease as their connection."""
CLOSES = ("close",)
"""Harmless after the lease."""
CURSOR = {*THROUGH_THE_LEASE, *IN_MEMORY, *CALLS_OTHERS, *BOUND, *CLOSES}
ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "add_attribute": ("a", 1),
    "callproc": ("two_results",),
    "execute": ("SELECT 1",),
    "executemany": ("SELECT %s", [(1,)]),
    "remove_attribute": ("a",),
}

CURSORS = [
    cls for name, cls in vars(mysql.connector.cursor).items()
    if name.startswith("MySQLCursor") and "Abstract" not in name
]  # fmt: skip
PROCEDURES = (
    "CREATE OR REPLACE PROCEDURE two_results() BEGIN SELECT 1 AS a; SELECT 2 AS a; END",
    "CREATE OR REPLACE TABLE decided (text VARCHAR(40))",
)


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def test_each_name_of_the_connection_is_decided() -> None:
    """What the class does, it was decided about."""
    assert public(mysql.connector.MySQLConnection) <= CONNECTION


def test_each_method_that_sets_is_noted() -> None:
    """Only after one of them the end of a lease compares what the driver's object keeps."""
    methods = {name for name in SETS if callable(getattr(mysql.connector.MySQLConnection, name, None))}
    assert methods == {*CHANGING, "config"}


@pytest.mark.parametrize("cls", CURSORS)
def test_each_name_of_a_cursor_is_decided(cls: type) -> None:
    """What the class does, it was decided about."""
    assert public(cls) <= CURSOR


@pytest.fixture
def database(mariadb: MariaDB, proxy: TCPProxy) -> Iterator[Database]:
    """One connection, whose packets are counted."""
    for sql in PROCEDURES:
        mariadb.query(sql)
    url = url_of("connector", mariadb.url()).replace(str(mariadb.port), str(proxy.port))
    with Database(url, pool_size=1, ssl_mode="disabled") as database:
        yield database
    mariadb.query("DROP PROCEDURE two_results")
    mariadb.query("DROP TABLE decided")


@contextmanager
def in_the_next_lease(database: Database, proxy: TCPProxy) -> Iterator[None]:
    """Another request has the connection, and nothing reaches the server."""
    with database.connection() as conn:
        conn.cursor().close()
        with proxy.counting() as said:
            yield
        assert len(said) == 0


def refused(call: Any, *args: Any) -> None:
    with pytest.raises((ConnectionReturned, mysql.connector.NotSupportedError)):
        call(*args)


@pytest.mark.server
@pytest.mark.filterwarnings("ignore:Call to deprecated function:DeprecationWarning")
class TestAfterTheLease:
    """What is kept of one request, while the next one has the connection."""

    def test_methods_of_the_connection(self, database: Database, proxy: TCPProxy) -> None:
        """None of them reaches the server, or changes anything."""
        names = CONNECTION - {*ASKS, *THE_PROXYS}
        with database.connection() as lease:
            conn: Any = lease
            kept = {name: getattr(conn, name) for name in names if callable(getattr(Connection, name, None))}
            conn.rollback()
        with in_the_next_lease(database, proxy):
            for method in kept.values():
                refused(method)
            for name in names - kept.keys():
                refused(getattr, conn, name)
                refused(setattr, conn, name, None)

    def test_whether_it_is_connected(self, database: Database, proxy: TCPProxy) -> None:
        """The answer of every clean-up idiom."""
        with database.connection() as lease:
            conn: Any = lease
            assert conn.is_connected()
        with in_the_next_lease(database, proxy):
            assert not conn.is_connected()

    @pytest.mark.parametrize("cls", CURSORS)
    def test_methods_of_a_cursor(self, database: Database, proxy: TCPProxy, cls: Any) -> None:
        """Not even a bound method that was kept, or one of a cursor that the lease's end did not see."""
        with database.connection() as lease:
            conn: Any = lease
            cursor = conn.cursor(cursor_class=cls)
            cursor.execute("SELECT 1 AS a")
            cursor.fetchall()
            kept = {name: getattr(cursor, name) for name in THROUGH_THE_LEASE if hasattr(cls, name)}
            unseen = cls(conn)
        with in_the_next_lease(database, proxy):
            for name, method in kept.items():
                refused(method, *ARGUMENTS.get(name, ()))
            refused(unseen.execute, "INSERT INTO decided VALUES ('of the first request')")

    def test_the_results_of_a_procedure(self, database: Database, proxy: TCPProxy) -> None:
        """What callproc() stores are cursors, too."""
        with database.connection() as lease:
            conn: Any = lease
            cursor = conn.cursor()
            cursor.callproc("two_results")
            kept = list(cursor.stored_results())
            assert [each.fetchall() for each in kept] == [[(1,)], [(2,)]]
        with in_the_next_lease(database, proxy):
            for each in kept:
                refused(each.execute, "INSERT INTO decided VALUES ('of the first request')")

    def test_results_of_an_iterator(self, database: Database, proxy: TCPProxy) -> None:
        """`cmd_query_iter` reads as it goes on, and sends when it begins."""
        with database.connection() as lease:
            conn: Any = lease
            unbegun = conn.cmd_query_iter("INSERT INTO decided VALUES ('of the first request')")
            begun = conn.cmd_query_iter("SELECT 1; SELECT 2")
            next(begun)
            conn.get_rows()
        with in_the_next_lease(database, proxy):
            refused(next, unbegun)
            refused(next, begun)

    def test_the_socket(self, database: Database, proxy: TCPProxy) -> None:
        """`nextset` receives by it."""
        with database.connection() as lease:
            conn: Any = lease
            kept = conn._socket
        with in_the_next_lease(database, proxy):
            refused(kept.recv)


@pytest.mark.server
@pytest.mark.filterwarnings("ignore:Call to deprecated function:DeprecationWarning")
def test_a_cursor_has_the_lease(database: Database) -> None:
    """Also where the driver makes it, by whatever way."""
    with database.connection() as lease:
        conn: Any = lease
        cursor = conn.cursor()
        assert cursor.connection is conn
        assert conn.get_self() is conn
        cursor.callproc("two_results")
        for result in cursor.stored_results():
            result.execute("SELECT 3")
            assert result.fetchall() == [(3,)]


@pytest.mark.server
@pytest.mark.parametrize("end", ["abandon", "disconnect", "shutdown", "out of sync"])
def test_a_descriptor_is_closed_by_the_last_call(mariadb: MariaDB, opened: Open, end: str) -> None:
    """A thread that is about to send must not find another connection's socket under the number of its own."""
    driver, conn = opened("connector", mariadb.url())
    sock, seen, lease = conn._socket.sock, conn._seen, object()
    seen.lease = lease
    seen.enter(lease)
    if end == "abandon":
        driver.abandon(conn)
    elif end == "out of sync":
        conn._out_of_sync("a packet of another reply", close=True)
    else:
        getattr(conn, end)()
    assert sock.fileno() >= 0
    assert not conn._socket.open
    with pytest.raises(mysql.connector.Error):
        conn.cmd_query("SELECT 1")
    seen.leave(lease)
    assert sock.fileno() == -1
