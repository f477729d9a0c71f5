"""R12: what mysqlclient hands out belongs to its lease, and each of its methods has a decision."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from typing import Any

import MySQLdb.connections
import MySQLdb.cursors
import pytest
from MySQLdb import _mysql
from MySQLdb.constants import FIELD_TYPE

from drivers.cases import run
from drivers.others import Open, url_of
from faults.leftovers import fast_switches
from strategies.kit import Worker
from support.client import connect, value
from support.mariadb import MariaDB
from support.waiting import until
from wsgidb import ConnectionReturned, Database
from wsgidb.drivers.mysqlclient.connection import Connection
from wsgidb.drivers.mysqlclient.result import Result, UnbufferedResult
from wsgidb.lease.proxy import settle

Library: Any = MySQLdb.connections.Connection
_raw: Any = _mysql

OBSERVED = (
    *("query", "send_query", "read_query_result", "store_result", "use_result", "discard_result", "next_result"),
    *("commit", "rollback", "autocommit", "ping", "stat", "dump_debug_info", "kill", "shutdown", "select_db"),
    *("set_character_set", "set_server_option", "change_user"),
)
"""Methods that talk to the server: our connection notes their start, end and error."""
BY_QUERY = ("begin", "set_sql_mode", "show_warnings")
"""Methods written in Python that talk to the server by those above."""
LOCAL = (
    *("affected_rows", "insert_id", "warning_count", "field_count", "info", "errno", "error", "sqlstate", "fileno"),
    *("more_results", "get_autocommit", "thread_id", "character_set_name", "get_character_set_info", "literal"),
    *("get_host_info", "get_proto_info", "get_server_info", "escape", "escape_string", "string_literal"),
)
"""Methods that answer from the library's memory."""
ITS_OWN = ("cursor", "close")
"""Methods that the lease has in a way of its own."""
VALUES = (
    *("open", "port", "client_flag", "server_capabilities", "converter", "default_cursor", "executemany_fallback"),
    *("Warning", "Error", "InterfaceError", "DatabaseError", "DataError", "OperationalError", "IntegrityError"),
    *("InternalError", "ProgrammingError", "NotSupportedError"),
)
"""Attributes that are no methods. None of them carries the connection."""

CURSOR = (
    *("callproc", "execute", "executemany", "fetchall", "fetchmany", "fetchone", "mogrify", "nextset", "scroll"),
    *("close", "setinputsizes", "setoutputsizes"),
)
"""Methods of cursors: these go through the lease for all that they do, and the cursor is useless after it."""
CURSOR_VALUES = (
    *("connection", "executemany_fallback", "max_stmt_length", "max_multi_stmt_length", "max_multi_stmt_count"),
)
NOT_IN_EACH_VERSION = {"executemany_fallback", "max_multi_stmt_length", "max_multi_stmt_count", "more_results", "info"}

RESULT = ("data_seek", "discard", "fetch_row", "num_fields", "num_rows")
"""Methods of result sets that lock the connection: refused after the lease."""
RESULT_LOCAL = ("describe", "field_flags", "converter", "has_next")
"""What is known of a result set without its connection."""


def public(cls: Any) -> set[str]:
    return {name for name in dir(cls) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("classes", "decided"),
    [
        ([Library], {*OBSERVED, *BY_QUERY, *LOCAL, *ITS_OWN, *VALUES}),
        (
            [getattr(MySQLdb.cursors, name) for name in ("Cursor", "DictCursor", "SSCursor", "SSDictCursor")],
            {*CURSOR, *CURSOR_VALUES},
        ),
        ([_raw.result], {*RESULT, *RESULT_LOCAL}),
    ],
    ids=["connection", "cursor", "result"],
)
def test_each_public_name_has_a_decision(classes: list[Any], decided: set[str]) -> None:
    """A method that a new version of mysqlclient brings is not let through unseen: this test asks for a decision."""
    found = set().union(*map(public, classes))
    assert found - decided == set()
    assert decided - found <= NOT_IN_EACH_VERSION


def test_the_decisions_are_kept() -> None:
    """Our connection has a method of its own for each that talks to the server; result sets have what the library's
    have."""
    ours = {name for cls in Connection.__mro__ if cls.__module__.startswith("wsgidb") for name in vars(cls)}
    assert ours >= set(OBSERVED)
    assert ours & {*BY_QUERY, *LOCAL} == set()
    assert set(vars(Result)) & {*RESULT, *RESULT_LOCAL} == {*RESULT}
    assert public(UnbufferedResult) - {"end"} == {*RESULT, *RESULT_LOCAL}


@pytest.fixture
def database(mariadb: MariaDB) -> Iterator[Database]:
    with Database(url_of("mysqlclient", mariadb.url()), pool_size=1) as database:
        yield database


ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "query": ("DO 1",),
    "send_query": ("DO 1",),
    "autocommit": (True,),
    "kill": (0,),
    "select_db": ("test",),
    "set_character_set": ("utf8mb4",),
    "set_server_option": (0,),
    "change_user": ("guest",),
    "set_sql_mode": ("",),
    "literal": (1,),
    "escape": (1, {}),
    "escape_string": ("a",),
    "string_literal": ("a",),
}


@pytest.mark.server
@pytest.mark.parametrize("name", [*OBSERVED, *BY_QUERY, *LOCAL, "cursor"])
def test_a_kept_method_is_refused(database: Database, name: str) -> None:
    """Each method of the connection belongs to the lease that it was got from, and a later one does not notice it."""
    if not hasattr(Library, name):
        pytest.skip("not in this version")
    with database.connection() as conn:
        kept: Any = getattr(conn, name)
    with database.connection() as conn:
        with pytest.raises(ConnectionReturned):
            kept(*ARGUMENTS.get(name, ()))
        assert conn.driver_connection._seen.users == []


@pytest.mark.server
def test_whether_it_is_closed_may_be_asked_after_the_lease(database: Database) -> None:
    """As the clean-up of many a handler does: it is."""
    with database.connection() as conn:
        lease: Any = conn
        assert (lease.open, lease.closed) == (1, 0)
    assert (lease.open, lease.closed) == (0, 1)


def stored(conn: Any) -> Any:
    conn.query("SELECT 1 UNION SELECT 2")
    return conn.store_result()


def unbuffered(conn: Any) -> Any:
    conn.query("SELECT 1 UNION SELECT 2")
    result = conn.use_result()
    assert result.fetch_row(0) == ((1,), (2,))
    return result


@pytest.mark.server
@pytest.mark.parametrize("make", [stored, unbuffered])
@pytest.mark.parametrize("name", RESULT)
def test_a_kept_result_set_is_refused(database: Database, make: Callable[[Any], Any], name: str) -> None:
    """It carries the connection. Freeing one that was read as a whole locks that, so it is discarded."""
    arguments = (0,) if name == "data_seek" else ()
    with database.connection() as conn:
        result = make(conn)
        if name != "data_seek" or make is stored:
            getattr(result, name)(*arguments)
    with database.connection(), pytest.raises(ConnectionReturned):
        getattr(result, name)(*arguments)
    discards = {"a result set is still in use": 1} if make is stored else {}
    assert database.stats().discards == discards


@pytest.mark.server
def test_a_result_set_that_is_freed_costs_nothing(database: Database) -> None:
    """With the lease, or before it."""
    for _ in range(3):
        with database.connection() as conn:
            assert stored(conn).fetch_row(0) == ((1,), (2,))
            cursor = conn.cursor()
            cursor.execute("SELECT 1")
    assert database.stats().connects == 1


@pytest.mark.server
def test_result_sets_that_are_freed_later_disturb_nobody(database: Database) -> None:
    """R12: the library locks the connection for each of them, in whatever thread it is freed."""
    with database.connection() as conn:
        kept = [stored(conn) for _ in range(3000)]
    thread = threading.Thread(target=kept.clear)
    with fast_switches(), database.connection() as conn:
        cursor = conn.cursor()
        thread.start()
        while thread.is_alive():
            cursor.execute("SELECT 1")
        thread.join()


@pytest.mark.server
def test_result_sets_are_as_the_librarys(database: Database) -> None:
    """All that can be asked of them."""
    with database.connection() as conn:
        result = stored(conn)
        assert (result.num_fields(), result.num_rows(), result.has_next) == (1, 2, False)
        result.data_seek(1)
        assert result.fetch_row(maxrows=0, how=1) == ({"1": 2},)
        [column], [flags], [_] = result.describe(), result.field_flags(), result.converter
        assert (column[0], type(flags)) == ("1", int)
        conn.query("DO 1")
        assert (conn.store_result(), conn.use_result()) == (None, None)


@pytest.mark.server
def test_a_kept_method_of_a_result_set_costs_the_connection(database: Database) -> None:
    """Fetching row by row is the library's own method, which locks the connection whenever it is called."""
    with database.connection() as conn:
        kept = unbuffered(conn).fetch_row
    assert database.stats().discards == {"a result set is still in use": 1}
    with database.connection() as conn, pytest.raises(MySQLdb.MySQLError):
        kept()


@pytest.mark.server
def test_rows_that_another_thread_has_read_cost_the_connection(database: Database) -> None:
    """It may be about to free them, which locks the connection."""

    def read(conn: Any) -> None:
        assert unbuffered(conn).fetch_row() == ()

    for cost in (0, 1):
        with database.connection() as conn:
            if cost:
                Worker(partial(read, conn)).outcome()
            else:
                read(conn)
        assert database.stats().discards.get("a result set is still in use", 0) == cost


@pytest.mark.server
def test_an_unbuffered_cursor_that_is_kept_keeps_nothing_of_the_connection(database: Database) -> None:
    """When it is garbage the library would lock the connection of a later lease."""
    with database.connection() as conn:
        cursor = conn.cursor(MySQLdb.cursors.SSCursor)
        cursor.execute("SELECT 1")
        assert cursor.fetchall() == ((1,),)
        result: UnbufferedResult = cursor._result
    with database.connection(), pytest.raises(ConnectionReturned):
        result.describe()
    assert database.stats().connects == 1


@pytest.mark.server
def test_a_thread_that_waits_for_rows_gets_an_error(mariadb: MariaDB, database: Database) -> None:
    """R8: its connection is dropped at once, and closed when the thread has left it."""
    lease: Any = database.lease()
    cursor = lease.cursor(MySQLdb.cursors.SSCursor)
    cursor.execute("SELECT REPEAT('x', 20000) FROM seq_1_to_2 UNION ALL SELECT SLEEP(30)")
    raw = lease.driver_connection
    errors: list[BaseException] = []

    def fetch() -> None:
        try:
            cursor.fetchall()
        except Exception as error:  # noqa: BLE001 - which one it is depends on the moment
            errors.append(error)

    thread = threading.Thread(target=fetch)
    thread.start()
    until(lambda: _locked(raw), what="the thread to wait within the library")
    settle(lease, success=True)
    thread.join(10)
    assert not thread.is_alive()
    assert len(errors) == 1
    assert database.stats().discards == {"in the middle of a statement": 1}


def _locked(raw: Any) -> bool:
    try:
        raw.thread_id()
    except MySQLdb.ProgrammingError:
        return True
    return False


@pytest.mark.server
def test_inspect_while_the_librarys_lock_is_held(mariadb: MariaDB, opened: Open) -> None:
    """C6: a thread that has the driver's own connection is a reason to discard, not an error."""
    driver, conn = opened("mysqlclient", mariadb.url())
    with closing(connect(mariadb.url())) as other:
        assert value(other, "SELECT GET_LOCK('inspected', 0)") == 1
        worker = Worker(lambda: Library.query(conn, "SELECT GET_LOCK('inspected', 60)"))
        until(lambda: _locked(conn), what="the thread to wait within the library")
        assert driver.inspect(conn) == "in the middle of a statement"
    worker.outcome()


@pytest.mark.server
def test_ping_warns_as_the_librarys(database: Database) -> None:
    """The argument is deprecated, also where it changes nothing."""
    with database.connection() as conn:
        with pytest.warns(DeprecationWarning, match="reconnect"):
            conn.ping(False)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            conn.ping()


@pytest.mark.server
def test_converters_changed_in_place_last_one_request(database: Database) -> None:
    """C3: also where the dictionary is kept, and changed while another request has the connection."""
    with database.connection() as conn:
        lease: Any = conn
        decoders, encoders = lease.converter, lease.encoders
        decoders[FIELD_TYPE.LONG] = decoders[FIELD_TYPE.LONGLONG] = lambda text: "mine"
        encoders[int] = lambda value, encoders: "'mine'"
        assert run(conn, "SELECT 1") == [("mine",)]
        assert conn.literal(1) == b"'mine'"
    with database.connection() as conn:
        decoders[FIELD_TYPE.VAR_STRING] = encoders[str] = encoders[float] = None
        assert run(conn, "SELECT 1, 'a'") == [(1, "a")]
        assert (conn.literal(1), conn.literal(1.5)) == (b"1", b"1.5e0")
    assert database.stats().connects == 1


@pytest.mark.server
@pytest.mark.parametrize("name", ["open", "port", "client_flag", "no_such_thing"])
def test_an_attribute_that_the_driver_refuses(database: Database, name: str) -> None:
    """C3: the refusal is the driver's own, and costs nothing."""
    with database.connection() as conn:
        with pytest.raises(AttributeError):
            delattr(conn, name)
        if name != "no_such_thing":
            with pytest.raises(AttributeError):
                setattr(conn, name, 1)
    assert (database.stats().connects, database.stats().discards) == (1, {})
