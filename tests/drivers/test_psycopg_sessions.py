"""C3: what one request leaves of a session of psycopg's, and what the next one sees of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import psycopg.types.string
import pytest

from drivers.cases import READ, OnServer, database, over, run
from wsgidb import ConnectionReturned, DatabaseUnavailable

POSTGRESQL = "postgresql"


def by_setters(conn: Any) -> None:
    conn.autocommit = True
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    conn.read_only = conn.deferrable = True
    conn.prepare_threshold = 0
    conn.row_factory = psycopg.rows.dict_row
    conn.cursor_factory = psycopg.ClientCursor


def below(name: str, *values: Any) -> Callable[[Any], None]:
    """Call a setter of the driver's own connection: the proxy sees nothing of it."""

    def change(conn: Any) -> None:
        raw = conn.driver_connection
        if callable(getattr(raw, name)):
            getattr(raw, name)(*values)
        else:
            setattr(raw, name, not raw.autocommit if name == "autocommit" else values[0])

    return change


CHANGES = {
    "by setters": by_setters,
    "autocommit": below("autocommit"),
    "isolation_level": below("isolation_level", psycopg.IsolationLevel.SERIALIZABLE),
    "read_only": below("read_only", True),
    "deferrable": below("deferrable", True),
    "notices": below("add_notice_handler", print),
    "notifications": below("add_notify_handler", print),
}


@over(POSTGRESQL)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
def test_settings_of_the_connection_are_undone(
    backend: OnServer, transaction: str, change: Callable[[Any], None]
) -> None:
    """C3: what a handler set on the connection is as configured in the next request."""

    def settings(conn: Any) -> list[Any]:
        raw = conn.driver_connection
        own = (raw.autocommit, raw.isolation_level, raw.read_only, raw.deferrable, raw.prepare_threshold)
        return [*own, raw.row_factory, raw.cursor_factory, raw._notice_handlers[:], raw._notify_handlers[:]]

    with database(backend, transaction=transaction) as made:
        with made.connection() as conn:
            before = settings(conn)
            change(conn)
            assert settings(conn) != before
        with made.connection() as conn:
            assert settings(conn) == before
        assert made.stats().connects == 1


@over(POSTGRESQL)
def test_cursor_with_hold_ends_with_its_request(backend: OnServer) -> None:
    """C3: a named cursor that outlives its transaction does not outlive its request."""
    with database(backend) as made:
        with made.connection() as conn:
            cursor = conn.cursor("held", withhold=True)
            cursor.execute(READ)
            conn.commit()
            assert cursor.connection is conn
        with pytest.raises(ConnectionReturned):
            cursor.fetchone()
        with made.connection() as conn:
            assert run(conn, "SELECT name FROM pg_cursors") == []
        assert made.stats().connects == 1


@over(POSTGRESQL)
def test_session_reset(backend: OnServer) -> None:
    """C3: reset=session leaves no setting, temporary table, advisory lock, LISTEN or prepared statement."""
    init = ["SET statement_timeout = 12345"]
    with database(backend, reset="session", init_sql=init, transaction="autocommit") as made:
        with made.connection() as conn:
            run(conn, "SET statement_timeout = 0")
            run(conn, "CREATE TEMPORARY TABLE mine (n int)")
            run(conn, "SELECT pg_advisory_lock(1)")
            run(conn, "LISTEN mine")
            for _ in range(7):
                run(conn, READ)
            assert run(conn, "SELECT count(*) FROM pg_prepared_statements") == [(1,)]
            conn.adapters.register_loader("int4", psycopg.types.string.TextLoader)
        with made.connection() as conn:
            assert run(conn, "SHOW statement_timeout") == [("12345ms",)]
            assert run(conn, "SELECT to_regclass('mine')") == [(None,)]
            assert run(conn, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()") == []
            assert run(conn, "SELECT count(*) FROM pg_listening_channels()") == [(0,)]
            assert run(conn, "SELECT count(*) FROM pg_prepared_statements") == [(0,)]
            assert run(conn, READ) == [(10,)], "a prepared statement that the server forgot is not used"
        assert (made.stats().connects, made.stats().discards) == (1, {})


def held(conn: Any) -> Any:
    return psycopg.ServerCursor(conn, "held", withhold=True)


def held_past_the_lease(conn: Any) -> Any:
    return psycopg.ServerCursor(conn.driver_connection, "held", withhold=True)


@over(POSTGRESQL)
@pytest.mark.parametrize("make", [held, held_past_the_lease])
@pytest.mark.parametrize("transaction", ["manual", "autocommit", "request"])
@pytest.mark.filterwarnings("ignore:.*ServerCursor:ResourceWarning")  # the handler does not close it
def test_cursor_with_hold_that_is_made_by_hand(
    backend: OnServer, transaction: str, make: Callable[[Any], Any]
) -> None:
    """C3: it ends with its request, like one of the connection's."""
    with database(backend, transaction=transaction) as made:
        with made.connection() as conn:
            cursor = make(conn)
            cursor.execute(READ)
            if transaction == "manual":
                conn.commit()
        with made.connection() as conn:
            assert run(conn, "SELECT name FROM pg_cursors") == []
        assert made.stats().connects == 1
        del cursor


def loader_of(conn: Any) -> None:
    conn.adapters.register_loader("int4", psycopg.types.string.TextLoader)


class Eight(psycopg.adapt.Dumper):
    def dump(self, obj: Any) -> bytes:
        return b"8"


def dumper_of(conn: Any) -> None:
    conn.adapters.register_dumper(int, Eight)


def type_of(conn: Any) -> None:
    psycopg.types.TypeInfo("int4", 23, 0).register(conn)


@over(POSTGRESQL)
@pytest.mark.parametrize("used", [True, False], ids=["used", "not used"])
@pytest.mark.parametrize("reset", ["rollback", "session"])
@pytest.mark.parametrize("register", [loader_of, dumper_of, type_of])
def test_adapters_end_with_their_request(
    backend: OnServer, reset: str, register: Callable[[Any], None], used: bool
) -> None:
    """C3: what a request registered for its connection, whether or not it ran a statement, is not there for the next
    one. What connect_args give to each connection is."""

    class Context:
        adapters = psycopg.adapt.AdaptersMap(psycopg.adapters)
        connection = None

    Context.adapters.register_loader("int8", psycopg.types.string.TextLoader)

    def seen(conn: Any) -> Any:
        found = conn.adapters.types["int4"].array_oid
        return (found, conn.execute("SELECT 1::int4, 1::int8, %s", (7,)).fetchone())

    with database(backend, reset=reset, connect_args={"context": Context()}) as made:
        with made.connection() as conn:
            before = seen(conn)
        with made.connection() as conn:
            register(conn)
            if used:
                assert seen(conn) != before
        with made.connection() as conn:
            assert seen(conn) == before
        assert made.stats().connects == 1


@over(POSTGRESQL)
def test_several_results_of_wsgidbs_own_statements(backend: OnServer) -> None:
    """C7: init_sql and ping_query may be several statements, or a CALL that returns rows; all of it is read."""
    backend.query("CREATE OR REPLACE PROCEDURE own(INOUT n integer) LANGUAGE plpgsql AS $$ BEGIN n := n + 1; END $$")
    own = "SELECT 'old'; CALL own(1); SET application_name = 'mine'; SELECT 'old' FROM generate_series(1, 1000)"
    with database(backend, init_sql=[own], ping_query=own, ping_after=0, transaction="autocommit") as made:
        for number in range(3):
            with made.connection() as conn:
                assert run(conn, f"SELECT {number}, current_setting('application_name')") == [(number, "mine")]
        assert (made.stats().connects, made.stats().discards) == (1, {})


@over(POSTGRESQL)
@pytest.mark.parametrize("copy", ["COPY contract TO STDOUT", "COPY contract FROM STDIN"])
def test_init_sql_that_does_not_end_by_itself(backend: OnServer, copy: str) -> None:
    """C7: it is an error of connecting, and not of the first request's statement."""
    with (
        database(backend, init_sql=[copy]) as made,
        pytest.raises(DatabaseUnavailable, match="COPY cannot be used here"),
        made.connection(),
    ):
        pass


@over(POSTGRESQL)
@pytest.mark.skipif(not hasattr(psycopg.Connection, "cancel_safe"), reason="not before psycopg 3.2")
@pytest.mark.parametrize(("confirmed", "discards"), [(True, {}), (False, {"a cancellation was not confirmed": 1})])
def test_a_cancellation_never_hits_the_next_request(
    backend: OnServer, confirmed: bool, discards: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """R12: of one that timed out nobody knows when the server will act on it."""

    def never(cancel_conn: Any) -> Any:
        raise psycopg.errors.CancellationTimeout
        yield

    with database(backend) as made:
        with made.connection() as conn:
            run(conn, READ)
            if confirmed:
                conn.cancel_safe()
            else:
                monkeypatch.setattr(psycopg.generators, "cancel", never)
                with pytest.raises(psycopg.errors.CancellationTimeout):
                    conn.cancel_safe()
        assert made.stats().discards == discards
