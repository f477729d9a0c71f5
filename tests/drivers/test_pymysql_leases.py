"""R12 for PyMySQL: a decision for each name of its classes, and what happens at the moment in which a lease ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pymysql
import pymysql.cursors
import pytest
from pymysql.constants import COMMAND

from drivers.cases import soon
from drivers.deadlines import driver_of
from strategies.kit import run
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb import ConnectionReturned, Database
from wsgidb.drivers.pymysql.connection import Connection

SENDS: dict[str, tuple[Any, ...]] = {
    "autocommit": (True,),
    "begin": (),
    "commit": (),
    "connect": (),
    "kill": (1,),
    "next_result": (),
    "ping": (),
    "query": ("SELECT 1",),
    "rollback": (),
    "select_db": ("test",),
    "set_character_set": ("utf8mb4",),
    "set_charset": ("utf8mb4",),
    "show_warnings": (),
    "write_packet": (b"\x0e",),
}
"""Talks to the server: it enters."""
HARMLESS: dict[str, tuple[Any, ...]] = {
    "affected_rows": (),
    "character_set_name": (),
    "cursor": (),
    "escape": (1,),
    "escape_string": ("",),
    "get_autocommit": (),
    "get_host_info": (),
    "get_proto_info": (),
    "get_server_info": (),
    "insert_id": (),
    "literal": (1,),
    "thread_id": (),
}
"""Tells what is known, or makes a cursor, and reaches no server; it is refused after the lease all the same."""
ASKS = {"open"}
"""After the lease it says that the connection is closed."""
THE_PROXYS = {"close"}
"""A lease has its own."""
CLASSES = {name for name in dir(pymysql.connections.Connection) if name.endswith(("Error", "Warning"))}

THROUGH_THE_LEASE = {"callproc", "execute", "executemany", "mogrify", "nextset"}
"""Reaches the connection by the cursor's attribute of that name, which is the lease."""
FETCHES = {"fetchall", "fetchall_unbuffered", "fetchmany", "fetchone", "read_next", "scroll"}
"""Concerns rows that were read before, or reads them through `Rows`, which enters."""
CURSORS_OWN = {"close", "dict_type", "max_stmt_length", "setinputsizes", "setoutputsizes"}
"""Ends the cursor, as anybody may; or a setting of the cursor's class; or nothing."""
CURSORS = (
    pymysql.cursors.Cursor,
    pymysql.cursors.DictCursor,
    pymysql.cursors.SSCursor,
    pymysql.cursors.SSDictCursor,
)

Result: Any = pymysql.connections.MySQLResult
ROWS = "SELECT seq FROM seq_1_to_3"

pytestmark = [
    pytest.mark.server,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Previous unbuffered result:UserWarning"),
]


def public(cls: type) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


def test_each_name_of_the_connection_is_decided() -> None:
    """What a new version of PyMySQL's connection can do besides fails here, until it is decided."""
    decided = {*SENDS, *HARMLESS, *ASKS, *THE_PROXYS, *CLASSES}
    assert public(pymysql.connections.Connection) <= decided


@pytest.mark.parametrize("cls", CURSORS)
def test_each_name_of_a_cursor_is_decided(cls: type) -> None:
    """The same of its cursors."""
    assert public(cls) <= {*THROUGH_THE_LEASE, *FETCHES, *CURSORS_OWN}


def test_a_result_reaches_the_connection_by_one_method() -> None:
    """An unbuffered result reads by its connection's `_read_packet`, in whose place `Rows` is put."""
    names = {
        name for method in (Result._read_rowdata_packet_unbuffered, Result._finish_unbuffered_query)
        for name in method.__code__.co_names
    }  # fmt: skip
    assert "_read_packet" in names
    assert names.isdisjoint({"_sock", "_rfile", "_read_bytes", "query", "next_result"})


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[Database]:
    with Database(mariadb.url(), pool_size=1) as database:
        yield database


@pytest.mark.parametrize("name", [*SENDS, *HARMLESS])
def test_a_method_is_refused_after_the_lease(database: Database, name: str) -> None:
    """R12: a bound method that was kept, and the proxy's own, reach no other lease's connection."""
    if not hasattr(Connection, name):
        pytest.skip(f"this version has no {name}")
    arguments = {**SENDS, **HARMLESS}[name]
    with database.connection() as conn:
        kept = getattr(conn, name)
    with database.connection() as other:
        if name != "escape":  # bound to no lease, as cursors ask for it at each statement
            with pytest.raises(ConnectionReturned):
                kept(*arguments)
        with pytest.raises(ConnectionReturned):
            getattr(conn, name)(*arguments)
        assert run(other, "SELECT 7") == [(7,)]


def test_the_lease_tells_that_it_is_closed(database: Database) -> None:
    """After the lease `open` is false, as applications ask before they close a connection."""
    with database.connection() as conn:
        assert conn.open is True
    assert conn.open is False


@pytest.mark.parametrize("cls", [pymysql.cursors.SSCursor, pymysql.cursors.SSDictCursor])
@pytest.mark.parametrize("finish", [False, True], ids=["row", "the rest"])
def test_rows_are_read_for_their_lease_only(database: Database, cls: Any, finish: bool) -> None:
    """R12: the result of an unbuffered cursor compares leases at each row, also when the rest is read at once."""
    with database.connection() as first:
        cursor = first.cursor(cls)
        cursor.execute(ROWS)
        result = cursor._result
        seen = first.driver_connection._seen
        seen.lease, lease = None, seen.lease
        with pytest.raises(ConnectionReturned):
            result._finish_unbuffered_query() if finish else result._read_rowdata_packet_unbuffered()
        assert seen.users == []
        seen.lease = lease
        assert len(cursor.fetchall()) == 3


def is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


@pytest.mark.parametrize("end", ["abandon", "_force_close"])
def test_a_descriptor_is_closed_by_the_last_call(mariadb: MariaDB, end: str) -> None:
    """C7: as long as a call is under way, its descriptor's number cannot become another connection's: whatever is still
    written there reaches nobody."""
    driver = driver_of(mariadb.url())
    conn = driver.connect(soon())
    seen = conn._seen
    descriptor = conn._sock.fileno()
    seen.enter(None)
    driver.abandon(conn) if end == "abandon" else conn._force_close()
    assert not conn.open
    with pytest.raises(OSError, match="Broken pipe"):
        os.write(descriptor, b"a leftover thread's statement")
    seen.leave(None)
    assert not is_open(descriptor)


@pytest.mark.parametrize("end", ["abandon", "close", "_force_close"])
def test_a_descriptor_that_is_unused_is_closed_at_once(mariadb: MariaDB, end: str) -> None:
    """C7: no descriptor is left behind."""
    driver = driver_of(mariadb.url())
    conn = driver.connect(soon())
    descriptor = conn._sock.fileno()
    conn._force_close() if end == "_force_close" else getattr(driver, end)(conn)
    assert not is_open(descriptor)


# -- interrupted commands


class Interrupt(Exception):
    """As a time limit of the application's own raises it, from a signal's handler."""


@contextmanager
def interrupted_while_sending(raw: Any) -> Iterator[None]:
    """Interrupt the next command a moment after its sending has begun."""

    def interrupt(*args: Any) -> None:
        raise Interrupt

    def write(data: bytes) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        type(raw)._write_bytes(raw, data)

    before = signal.signal(signal.SIGALRM, interrupt)
    raw._write_bytes = write
    try:
        with pytest.raises(Interrupt):
            yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        del raw._write_bytes


AFTER: dict[str, Any] = {
    "rollback": lambda conn: conn.rollback(),
    "commit": lambda conn: conn.commit(),
    "statement": lambda conn: conn.cursor().execute("SELECT 1"),
    "ping": lambda conn: conn.ping(reconnect=False),
}


@pytest.mark.parametrize("after", AFTER)
def test_a_command_that_was_sent_in_part(mariadb: MariaDB, proxy: TCPProxy, after: str) -> None:
    """C7: after an exception in the middle of sending, the server waits for the rest. No other command is taken for
    that: each is refused at once, and the connection is closed."""
    with Database(proxy.url_from(mariadb.url()), pool_size=1) as database:
        with database.connection() as conn:
            run(conn, "SELECT 1")
            proxy.deaf()
            with interrupted_while_sending(conn.driver_connection):
                conn.cursor().execute(f"SELECT '{'x' * 30_000_000}'")
            proxy.hear()
            with pytest.raises(pymysql.err.Error):
                AFTER[after](conn)
            assert not conn.open
        with database.connection() as conn:
            assert run(conn, "SELECT 2") == [(2,)]


@pytest.mark.parametrize("command", [b"\x0e", b"\x03SELECT 1"], ids=["ping", "statement"])
@pytest.mark.parametrize("after", AFTER)
def test_a_command_whose_reply_was_not_read(database: Database, command: bytes, after: str) -> None:
    """C7: interrupted between sending and reading, or sent by hand: the next command is refused with the client's
    error "commands out of sync", as its reply would be the earlier one's."""
    with database.connection() as conn:
        conn.driver_connection._execute_command(command[0], command[1:])
        with pytest.raises(pymysql.err.OperationalError, match="2014"):
            AFTER[after](conn)
        assert not conn.open
    assert sum(database.stats().discards.values()) == 1


def test_a_packet_of_the_handlers_own_costs_the_connection(database: Database) -> None:
    """C7: nobody knows what its reply is."""
    with database.connection() as conn:
        conn._next_seq_id = 0
        conn.write_packet(bytes([COMMAND.COM_PING]))
    assert database.stats().discards == {"in the middle of a statement": 1}


@pytest.mark.parametrize("name", ["no_such_charset", "utf8mb4"])
def test_a_character_set_that_is_refused_leaves_the_connection_usable(database: Database, name: str) -> None:
    """C7: whether PyMySQL or the server refuses it, no reply is pending then."""
    with database.connection() as conn:
        with pytest.raises(Exception):  # noqa: B017, PT011 - of what class depends on the version
            conn.set_character_set(name, None if name == "no_such_charset" else "latin1_bin")
        assert run(conn, "SELECT 1") == [(1,)]
    assert not database.stats().discards


def test_another_threads_command_is_not_mixed_up(mariadb: MariaDB) -> None:
    """C7: a second thread of the same request is refused, and the first one is told that its connection is lost."""
    driver = driver_of(mariadb.url())
    conn = driver.connect(soon())
    errors: list[Exception] = []

    def wait() -> None:
        try:
            conn.query(f"SELECT SLEEP(20), {id(conn)}")
        except pymysql.err.Error as error:
            errors.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    running = f"SELECT 1 FROM information_schema.processlist WHERE info LIKE 'SELECT SLEEP(20), {id(conn)}'"
    until(lambda: mariadb.query(running), what="the statement to run")
    with pytest.raises(pymysql.err.OperationalError, match="2014"):
        conn.query("SELECT 1")
    thread.join(10)
    [error] = errors
    assert error.args[0] == 2013
    with suppress(pymysql.err.Error):
        driver.abandon(conn)
