"""R12: whatever psycopg hands out belongs to one lease, and ends with it."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psycopg
import psycopg.copy
import pytest

from drivers.cases import READ, WRITE, OnServer, database, over, run
from wsgidb import ConnectionReturned

POSTGRESQL = "postgresql"

# What is decided for each public name of psycopg's classes.
ENTERS = "talks to the server, and enters the lease in Connection.wait() or as a method of the lease"
BOUND = "hands out an object that holds the lease"
LOCAL = "talks to no server"
OWN = "is the lease's own"
OUTSIDE = "hands out what is outside of the guarantees, as docs/drivers.md says"

CONSTANTS = dict.fromkeys(
    (
        *("DataError", "DatabaseError", "Error", "IntegrityError", "InterfaceError", "InternalError"),
        *("NotSupportedError", "OperationalError", "ProgrammingError", "Warning"),
        *("ConnStatus", "TransactionStatus", "ExecStatus", "Status"),
    ),
    LOCAL,
)
CONNECTION = {
    **dict.fromkeys(("close", "cursor"), OWN),
    **dict.fromkeys(("commit", "rollback", "wait", "cancel", "cancel_safe"), ENTERS),
    **dict.fromkeys(("tpc_begin", "tpc_commit", "tpc_prepare", "tpc_recover", "tpc_rollback"), ENTERS),
    **dict.fromkeys(("connection", "execute", "notifies", "pipeline", "transaction"), BOUND),
    # Settings, which are as configured in the next lease.
    **dict.fromkeys(("autocommit", "deferrable", "isolation_level", "read_only"), LOCAL),
    **dict.fromkeys(("set_autocommit", "set_deferrable", "set_isolation_level", "set_read_only"), LOCAL),
    **dict.fromkeys(("adapters", "prepare_threshold", "prepared_max"), LOCAL),
    **dict.fromkeys(("row_factory", "cursor_factory", "server_cursor_factory", "lock"), LOCAL),
    **dict.fromkeys(("add_notice_handler", "remove_notice_handler"), LOCAL),
    **dict.fromkeys(("add_notify_handler", "remove_notify_handler"), LOCAL),
    # What it tells, and values without a connection.
    **dict.fromkeys(("broken", "closed", "fileno", "info", "xid"), LOCAL),
    "connect": LOCAL,  # opens another connection, of which wsgidb knows nothing
    "pgconn": OUTSIDE,
}
CURSOR = {
    **dict.fromkeys(("execute", "executemany", "stream", "copy"), ENTERS),
    # These read from the server in a pipeline, or with a named cursor.
    **dict.fromkeys(("fetchone", "fetchmany", "fetchall", "nextset", "scroll", "close"), ENTERS),
    **dict.fromkeys(("results", "set_result"), ENTERS),
    "connection": BOUND,
    **dict.fromkeys(("adapters", "arraysize", "closed", "description", "format", "pgresult", "row_factory"), LOCAL),
    **dict.fromkeys(("rowcount", "rownumber", "statusmessage", "setinputsizes", "setoutputsize"), LOCAL),
    **dict.fromkeys(("itersize", "name", "scrollable", "withhold", "mogrify"), LOCAL),
}
COPY = {
    **dict.fromkeys(("read", "read_row", "rows", "write", "write_row", "finish"), ENTERS),
    "set_types": LOCAL,
}
TRANSACTION = {"connection": BOUND, "savepoint_name": LOCAL}
PIPELINE = {"sync": ENTERS, "status": LOCAL, "is_supported": LOCAL}
DECISIONS: dict[str, dict[str, str]] = {
    "Connection": CONNECTION,
    **dict.fromkeys(("Cursor", "ClientCursor", "ServerCursor", "RawCursor", "RawServerCursor"), CURSOR),
    "Copy": COPY,
    "Transaction": TRANSACTION,
    "Pipeline": PIPELINE,
}


@pytest.mark.parametrize("name", DECISIONS)
def test_each_public_name_has_a_decision(name: str) -> None:
    """A new version of psycopg with a new method fails here, until somebody has looked at what the method does."""
    cls = getattr(psycopg, name, None) or getattr(psycopg.copy, name, None)
    if cls is None:
        pytest.skip(f"psycopg {psycopg.__version__} has no {name}")
    public = {each for each in dir(cls) if not each.startswith("_")}
    assert public - {*DECISIONS[name], *CONSTANTS} == set()


def left_named(conn: Any) -> Any:
    cursor = psycopg.ServerCursor(conn, "kept", withhold=True)
    cursor.execute("SELECT generate_series(1, 1000)")
    cursor.fetchone()
    return cursor


def by_hand(conn: Any) -> Any:
    return psycopg.ClientCursor(conn)


def copied(conn: Any, direction: str) -> Any:
    manager: Any = psycopg.Cursor(conn).copy(f"COPY contract {direction}")
    copy = manager.__enter__()
    copy.manager = manager  # or the block would end here
    return copy


def begun(rows: Any) -> Any:
    next(rows)
    return rows


# What a leftover thread may have kept, and what it then does with it.
KEPT: dict[str, tuple[Callable[[Any], Any], Callable[[Any], object]]] = {
    "commit": (lambda conn: conn.commit, lambda kept: kept()),
    "rollback": (lambda conn: conn.rollback, lambda kept: kept()),
    "wait": (lambda conn: conn.wait, lambda kept: kept(iter(()))),
    "cancel": (lambda conn: conn.cancel, lambda kept: kept()),
    "tpc_begin": (lambda conn: conn.tpc_begin, lambda kept: kept("x")),
    "tpc_recover": (lambda conn: conn.tpc_recover, lambda kept: kept()),
    "execute": (lambda conn: conn.execute, lambda kept: kept(WRITE)),
    "connection": (lambda conn: conn.connection, lambda kept: kept.commit()),
    "cursor's connection": (lambda conn: by_hand(conn).connection, lambda kept: kept.commit()),
    "transaction()": (lambda conn: conn.transaction(), lambda kept: kept.__enter__()),
    "Transaction's connection": (lambda conn: conn.transaction().__enter__().connection, lambda kept: kept.commit()),
    "Transaction()": (psycopg.Transaction, lambda kept: kept.__enter__()),
    "pipeline()": (lambda conn: conn.pipeline(), lambda kept: kept.__enter__()),
    "Pipeline": (lambda conn: conn.pipeline().__enter__(), lambda kept: kept.sync()),
    "notifies()": (lambda conn: conn.notifies(), lambda kept: next(kept)),
    "a cursor": (lambda conn: conn.cursor(), lambda kept: kept.execute(WRITE)),
    "a cursor's method": (lambda conn: conn.cursor().execute, lambda kept: kept(WRITE)),
    "a cursor made by hand": (by_hand, lambda kept: kept.execute(WRITE)),
    "executemany()": (by_hand, lambda kept: kept.executemany("DELETE FROM contract WHERE n = %s", [(1,), (2,)])),
    "stream()": (by_hand, lambda kept: next(kept.stream(READ))),
    "stream() that has begun": (
        lambda conn: begun(by_hand(conn).stream("SELECT generate_series(1, 100000)")),
        lambda kept: [*kept],
    ),
    "copy()": (by_hand, lambda kept: kept.copy("COPY contract TO STDOUT").__enter__()),
    "Copy to read": (lambda conn: copied(conn, "TO STDOUT"), lambda kept: kept.read()),
    "Copy to iterate over": (lambda conn: copied(conn, "TO STDOUT"), lambda kept: [*kept]),
    "Copy's rows": (lambda conn: copied(conn, "TO STDOUT").rows(), lambda kept: [*kept]),
    "Copy to write": (lambda conn: copied(conn, "FROM STDIN"), lambda kept: kept.write(b"9\t9\n" * 100000)),
    "named cursor, fetchone()": (left_named, lambda kept: kept.fetchone()),
    "named cursor, fetchmany()": (left_named, lambda kept: kept.fetchmany(2)),
    "named cursor, fetchall()": (left_named, lambda kept: kept.fetchall()),
    "named cursor, iteration": (left_named, lambda kept: [*kept]),
    "named cursor, scroll()": (left_named, lambda kept: kept.scroll(1)),
    "named cursor, close()": (left_named, lambda kept: kept.close()),
    "named cursor, execute()": (left_named, lambda kept: kept.execute(READ)),
}


@over(POSTGRESQL)
@pytest.mark.parametrize("keep", KEPT)
@pytest.mark.filterwarnings("ignore:.*ServerCursor:ResourceWarning")  # made by hand, and not closed
def test_what_is_kept_is_refused(backend: OnServer, keep: str) -> None:
    """It is the ended lease's for ever, also when the connection is another lease's by then, whose transaction it does
    not reach."""
    make, use = KEPT[keep]
    with database(backend) as made:
        with made.connection() as conn:
            kept = make(conn)
        with made.connection() as conn:
            run(conn, WRITE)
            with pytest.raises(ConnectionReturned):
                use(kept)
            assert run(conn, READ) == [(11,)]
            conn.commit()
        assert backend.stored == 11
        del kept
        gc.collect()  # whatever psycopg has to say about it belongs to this test


def copying(conn: Any, direction: str, *row: int) -> Any:
    with conn.cursor().copy(f"COPY {direction}") as copy:
        if row:
            copy.write_row(row)
        yield


LATE: dict[str, Callable[[Any], Any]] = {
    "stream()": lambda conn: conn.cursor().stream("SELECT generate_series(1, 100000)"),
    "stream() by hand": lambda conn: by_hand(conn).stream("SELECT generate_series(1, 100000)"),
    "stream() of one row": lambda conn: conn.cursor().stream(READ),
    "copy() to read": lambda conn: copying(conn, "(SELECT generate_series(1, 100000)) TO STDOUT"),
    "copy() of one row": lambda conn: copying(conn, "contract TO STDOUT"),
    "copy() to write": lambda conn: copying(conn, "contract FROM STDIN"),
    "copy() to write on": lambda conn: copying(conn, "contract FROM STDIN", 9, 9),
    "copy() to write binary rows": lambda conn: copying(conn, "contract FROM STDIN (FORMAT BINARY)", 9, 9),
}


@over(POSTGRESQL)
@pytest.mark.parametrize("begin", LATE)
def test_a_generator_that_is_closed_late_ends_in_silence(
    backend: OnServer, begin: str, caplog: pytest.LogCaptureFixture
) -> None:
    """An error's traceback may keep one until garbage collection, which would print what is raised then. Neither does
    psycopg log that it could not cancel what has ended with the lease, and the next lease is left alone."""
    with database(backend) as made:
        with made.connection() as conn:
            kept = LATE[begin](conn)
            next(kept)
        with made.connection() as conn:
            rows = conn.cursor().stream("SELECT generate_series(1, 3)")
            next(rows)
            kept.close()
            assert [*rows] == [(2,), (3,)]
    assert [record.getMessage() for record in caplog.records if record.name == "psycopg"] == []


def writing(conn: Any) -> Any:
    try:
        yield
    finally:
        psycopg.Cursor(conn).execute(WRITE)


def writing_rows(conn: Any) -> Any:
    with conn.cursor().copy("COPY contract FROM STDIN") as copy, suppress(GeneratorExit):
        copy.write_row((9, 9))
        yield


def writing_further_rows(conn: Any) -> Any:
    with conn.cursor().copy("COPY contract FROM STDIN") as copy:
        try:
            yield
        finally:
            copy.write("9\t9\n" * 100000)


@over(POSTGRESQL)
@pytest.mark.parametrize("begin", [writing, writing_rows, writing_further_rows])
def test_what_a_generator_writes_late_is_refused_aloud(backend: OnServer, begin: Callable[[Any], Any]) -> None:
    """A handler that cleans up with a statement, or ends a COPY as if it were whole, is told that nothing is stored."""
    with database(backend) as made:
        with made.connection() as conn:
            kept = begin(conn)
            next(kept)
        with pytest.raises(ConnectionReturned):
            kept.close()


class Value:
    """What no other statement of psycopg's has for a parameter."""


VALUE = Value()
WITH_VALUE = "SELECT %s::int4 FROM generate_series(1, 3)"


def copied_with(conn: Any) -> None:
    with conn.cursor().copy("COPY (SELECT 1) TO STDOUT") as copy:
        copy.set_types(["int4"])
        assert [*copy.rows()] == [(1,)]


def named_with(conn: Any) -> None:
    with conn.cursor("named") as cursor:
        cursor.execute(WITH_VALUE, (VALUE,))
        cursor.fetchone()
        cursor.fetchmany(1)
        assert [*cursor] == [(1,)]


ENTRIES: dict[str, Callable[[Any], object]] = {
    "conn.execute()": lambda conn: conn.execute(WITH_VALUE, (VALUE,)),
    "execute()": lambda conn: conn.cursor().execute(WITH_VALUE, (VALUE,)),
    "by hand": lambda conn: psycopg.Cursor(conn).execute(WITH_VALUE, (VALUE,)),
    "executemany()": lambda conn: conn.cursor().executemany(WITH_VALUE, [(VALUE,), (VALUE,)]),
    "stream()": lambda conn: [*conn.cursor().stream(WITH_VALUE, (VALUE,))],
    "copy()": copied_with,
    "a named cursor": named_with,
}


@over(POSTGRESQL)
@pytest.mark.parametrize("entry", ENTRIES)
def test_each_statement_and_fetch_enters(backend: OnServer, entry: str) -> None:
    """While psycopg is at work for a cursor, the record of the connection names its lease. So the end of the lease sees
    it, and a thread that comes later is refused."""
    seen: list[Any] = []

    class Dumper(psycopg.adapt.Dumper):
        def dump(self, obj: Any) -> bytes:
            seen.append([*users])
            return b"1"

    class Loader(psycopg.adapt.Loader):
        def load(self, data: Any) -> int:
            seen.append([*users])
            return 1

    with database(backend) as made, made.connection() as conn:
        users = conn.driver_connection._seen.users
        conn.adapters.register_dumper(Value, Dumper)
        if entry in ("copy()", "a named cursor"):  # other cursors load their rows without the server
            conn.adapters.register_loader("int4", Loader)
        ENTRIES[entry](conn)
        assert seen
        assert all(each == [conn] for each in seen)


def handed_out(conn: Any) -> list[Any]:
    with conn.transaction() as transaction:
        pass
    with conn.cursor().copy("COPY contract TO STDOUT") as copy:
        assert [*copy.rows()] == [("1", "10")]
    with conn.cursor("named") as named:
        pass
    cursors = [conn.cursor(), named, conn.execute(READ), by_hand(conn), copy.cursor]
    return [conn, transaction, copy, *cursors]


@over(POSTGRESQL)
def test_what_is_handed_out_names_the_lease(backend: OnServer) -> None:
    """No ``connection`` of psycopg's objects is the driver's own connection."""
    with database(backend) as made, made.connection() as conn:
        assert [each.connection is conn for each in handed_out(conn)] == [True] * 8
        conn.cursor_factory = lambda connection, **options: psycopg.ClientCursor(connection, **options)
        assert conn.cursor().connection is conn


# -- the proxy is the driver's


class Mine(psycopg.ClientCursor[Any]):
    pass


@over(POSTGRESQL)
def test_classes_and_formats_are_the_drivers(backend: OnServer) -> None:
    """The lease adds nothing to what psycopg's own connection and cursors show."""
    with database(backend) as made, made.connection() as lease:
        conn: Any = lease
        assert (conn.cursor_factory, conn.server_cursor_factory) == (psycopg.Cursor, psycopg.ServerCursor)
        assert type(conn.cursor()) is psycopg.Cursor
        conn.cursor_factory = Mine
        assert conn.cursor_factory is Mine
        assert type(conn.cursor()) is Mine
        assert not hasattr(conn.cursor(), "callproc")
        conn.cursor_factory = psycopg.Cursor
        cursor = conn.execute("SELECT 1", binary=True)
        assert cursor.format == psycopg.pq.Format.BINARY
        cursor.execute("SELECT 'x'::bytea")
        assert cursor.pgresult.fformat(0) == psycopg.pq.Format.BINARY


@over(POSTGRESQL)
@pytest.mark.parametrize("name", ["closed", "broken", "info", "connection"])
def test_an_attribute_that_psycopg_refuses_to_set_costs_nothing(backend: OnServer, name: str) -> None:
    """The error is the handler's affair; the connection stays in the pool."""
    with database(backend) as made:
        with made.connection() as conn, pytest.raises(AttributeError):
            setattr(conn, name, 1)
        assert (made.stats().open, made.stats().discards) == (1, {})


@over(POSTGRESQL)
def test_after_the_lease_it_says_that_it_is_closed(backend: OnServer) -> None:
    """Clean-up code asks before it closes."""
    with database(backend) as made:
        with made.connection() as conn:
            assert (conn.closed, conn.broken) == (False, False)
            conn.close()
            assert (conn.closed, conn.broken) == (True, False)
        assert (conn.closed, conn.broken) == (True, False)


@over(POSTGRESQL)
def test_a_cursor_class_of_one_request_is_garbage_after_it(backend: OnServer) -> None:
    """A view that makes a class for each request must not fill the memory."""
    gone: list[weakref.ref[type]] = []
    with database(backend) as made:
        for _ in range(3):
            with made.connection() as conn:
                cls = type("Passing", (psycopg.ClientCursor,), {})
                conn.cursor_factory = cls
                with suppress(psycopg.Error):
                    conn.execute("SELECT 1")
                gone.append(weakref.ref(cls))
                del cls
    del conn
    gc.collect()
    assert [reference() for reference in gone] == [None] * 3
