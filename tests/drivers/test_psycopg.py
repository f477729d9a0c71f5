"""What only psycopg has: a failed transaction, pipelines, named cursors, COPY, notifications, its own settings."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest

from drivers.cases import BROKEN, READ, WRITE, OnServer, over, run, settle, soon
from support.waiting import until
from wsgidb import ConnectionReturned, Database, TransactionLost
from wsgidb.drivers.base import CLEAN, DIRTY

POSTGRESQL = "postgresql"


@contextmanager
def database(backend: OnServer, **options: Any) -> Iterator[Database]:
    with Database(**{"pool_size": 1, **backend.options, **options}) as made:
        yield made


def swallow(conn: Any) -> None:
    run(conn, WRITE)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        run(conn, BROKEN)


def swallow_a_kill(conn: Any, backend: OnServer) -> None:
    run(conn, WRITE)
    backend.kill(conn)
    with pytest.raises(psycopg.OperationalError):
        run(conn, READ)


def swallow_a_timeout(conn: Any) -> None:
    run(conn, WRITE)
    with pytest.raises(psycopg.errors.QueryCanceled):
        run(conn, "SELECT pg_sleep(10)")


def fail_in_a_block(conn: Any) -> None:
    with conn:
        run(conn, "UPDATE contract SET n = 12")
        raise ZeroDivisionError


# -- R10


def by_method(conn: Any) -> None:
    conn.commit()


def by_statement(conn: Any) -> None:
    conn.cursor().execute("/* done */ Commit")


def by_composable(conn: Any) -> None:
    conn.execute(psycopg.sql.SQL("END"))


@over(POSTGRESQL)
@pytest.mark.parametrize("commit", [by_method, by_statement, by_composable])
@pytest.mark.parametrize("transaction", ["manual", "request"])
def test_commit_of_a_failed_transaction_is_an_error(
    backend: OnServer, transaction: str, commit: Callable[[Any], None]
) -> None:
    """R10: the server answers COMMIT after an error with a silent ROLLBACK; here it is a TransactionLost."""
    with database(backend, transaction=transaction) as made, made.connection() as conn:
        swallow(conn)
        with pytest.raises(TransactionLost):
            commit(conn)
        conn.rollback()
        run(conn, READ)
    assert backend.stored == 10


@over(POSTGRESQL)
def test_request_that_swallowed_an_error_is_lost(backend: OnServer) -> None:
    """R10: a transaction=request that ends in a failed transaction raises, and nothing of it is committed."""
    with database(backend, transaction="request") as made:
        with pytest.raises(TransactionLost), made.connection() as conn:
            swallow(conn)
        assert backend.stored == 10
        with made.connection() as conn:
            run(conn, WRITE)
        assert (backend.stored, made.stats().connects) == (11, 2)


@over(POSTGRESQL)
def test_transaction_block_that_swallowed_an_error_is_lost(backend: OnServer) -> None:
    """R10: so is a transaction() block, whose end is a COMMIT."""
    with (
        database(backend, transaction="autocommit") as made,
        made.connection() as conn,
        pytest.raises(TransactionLost),
        conn.transaction(),
    ):
        swallow(conn)
    assert backend.stored == 10


@over(POSTGRESQL)
@pytest.mark.parametrize("recover", ["ROLLBACK", "ABORT", "ROLLBACK TO SAVEPOINT before"])
def test_handler_that_recovers_may_go_on(backend: OnServer, recover: str) -> None:
    """R10: after the handler's own rollback, or to a savepoint, what follows is committed."""
    with database(backend, transaction="request") as made, made.connection() as conn:
        run(conn, "SAVEPOINT before")
        swallow(conn)
        run(conn, recover)
        run(conn, "UPDATE contract SET n = 12")
    assert backend.stored == 12


@over(POSTGRESQL)
def test_killed_and_swallowed_is_lost(backend: OnServer) -> None:
    """R10: a connection lost within a request, its error swallowed, is TransactionLost at the end."""
    with database(backend, transaction="request") as made:
        with pytest.raises(TransactionLost, match="closed"), made.connection() as conn:
            swallow_a_kill(conn, backend)
        assert (backend.stored, made.stats().open) == (10, 0)


@over(POSTGRESQL)
def test_statement_timeout_that_was_swallowed(backend: OnServer) -> None:
    """R10: a statement that the server cancelled leaves no half transaction."""
    init = ["SET statement_timeout = 200"]
    with (
        database(backend, transaction="request", init_sql=init) as made,
        pytest.raises(TransactionLost),
        made.connection() as conn,
    ):
        swallow_a_timeout(conn)
    assert backend.stored == 10


# -- C3


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
            assert run(conn, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
            assert run(conn, "SELECT count(*) FROM pg_listening_channels()") == [(0,)]
            assert run(conn, "SELECT count(*) FROM pg_prepared_statements") == [(0,)]
            assert run(conn, READ) == [(10,)], "a prepared statement that the server forgot is not used"
        assert (made.stats().connects, made.stats().discards) == (1, {})


# -- C6


def pipeline(conn: Any, backend: OnServer) -> Any:
    left = conn.pipeline()
    left.__enter__()
    conn.cursor().execute(READ)
    return left


def stream(conn: Any, backend: OnServer) -> Any:
    rows = conn.cursor().stream("SELECT generate_series(1, 100000)")
    assert next(rows) == (1,)
    return rows


def copy(conn: Any, backend: OnServer) -> Any:
    left = conn.cursor().copy("COPY contract FROM STDIN")
    left.__enter__()
    return left


def notifies(conn: Any, backend: OnServer) -> Any:
    run(conn, "LISTEN here")
    conn.commit()
    backend.query("NOTIFY here")
    left = conn.notifies()
    assert next(left).channel == "here"
    return left


def block(conn: Any, backend: OnServer) -> Any:
    left = conn.transaction()
    left.__enter__()
    return left


def two_phase(conn: Any, backend: OnServer) -> Any:
    conn.tpc_begin("mine")


def reconnected(conn: Any, backend: OnServer) -> Any:
    conn.driver_connection.pgconn.reset()


def interrupted(conn: Any, backend: OnServer) -> Any:
    def interrupt() -> Any:
        conn.driver_connection.pgconn.send_query(b"SELECT 1")
        raise GeneratorExit
        yield

    with pytest.raises(GeneratorExit):
        conn.wait(interrupt())


MIDDLE = "in the middle of a statement"
LEFT: dict[Callable[[Any, OnServer], Any], str] = {
    pipeline: "unread results of a pipeline",
    stream: MIDDLE,
    copy: MIDDLE,
    block: "inside a transaction() block or a two-phase transaction",
    two_phase: "inside a transaction() block or a two-phase transaction",
    reconnected: "reconnected by the application",
    interrupted: MIDDLE,
}


@over(POSTGRESQL)
@pytest.mark.parametrize("leave", LEFT)
def test_what_was_left_unfinished_is_discarded(backend: OnServer, leave: Callable[[Any, OnServer], Any]) -> None:
    """C6: a connection in the middle of anything is discarded, with the reason; the next request is right."""
    with database(backend) as made:
        with made.connection() as conn:
            left = leave(conn, backend)
        assert (made.stats().discards, made.stats().open) == ({LEFT[leave]: 1}, 0)
        with made.connection() as conn:
            assert run(conn, READ) == [(10,)]
        with suppress(ConnectionReturned, psycopg.Error):  # the handler's leftovers may end as they like
            if isinstance(left, Generator):
                left.close()
            elif left is not None:
                left.__exit__(None, None, None)


@over(POSTGRESQL)
def test_notifies_left_suspended_holds_up_nobody(backend: OnServer) -> None:
    """C6: a suspended notifies() keeps psycopg's lock (since 3.2); the next request does not wait for it."""
    with database(backend) as made:
        with made.connection() as conn:
            left = notifies(conn, backend)
        with made.connection() as conn:
            assert run(conn, READ) == [(10,)]
        assert made.stats().discards == {}
        with suppress(ConnectionReturned):
            left.close()


@over(POSTGRESQL)
@pytest.mark.skipif(psycopg.__version__.startswith("3.1."), reason="notifies() has no timeout before")
def test_notifies_that_hears_nothing_keeps_the_connection(backend: OnServer) -> None:
    """C2: its timeout is an error within psycopg, without an SQLSTATE, like that of a lost connection."""
    with database(backend) as made:
        for _ in range(2):
            with made.connection() as conn:
                run(conn, "LISTEN here")
                conn.commit()
                assert list(conn.notifies(timeout=0.01)) == []
                assert run(conn, READ) == [(10,)]
        assert (made.stats().connects, made.stats().discards) == (1, {})


@over(POSTGRESQL)
def test_statement_of_another_thread(backend: OnServer) -> None:
    """R8: a statement that runs at release costs the connection; its thread gets an error and nothing crashes."""
    with database(backend) as made:
        told: list[BaseException] = []
        quiet = "SET client_connection_check_interval = 0"  # so that it is not the server who ends the statement

        def sleep(conn: Any) -> None:
            try:
                run(conn, "SELECT pg_sleep(30)")
            except Exception as error:  # noqa: BLE001 - looked at below
                told.append(error)

        with made.connection() as conn:
            run(conn, quiet)
            thread = threading.Thread(target=sleep, args=(conn,))
            thread.start()
            raw = conn.driver_connection
            until(lambda: raw.pgconn.transaction_status == 1, what="the statement to begin")
        thread.join(10)
        assert not thread.is_alive()
        backend.server.kill_connections("guest")
        assert isinstance(told[0], (psycopg.OperationalError, ConnectionReturned))
        assert made.stats().discards == {MIDDLE: 1}


# -- C2


@over(POSTGRESQL)
def test_notification_is_no_death(backend: OnServer) -> None:
    """C2: what the server says unasked is heard, and no reason to drop the connection; nor is it lost."""
    driver = backend.driver(transaction="autocommit")
    conn = backend.connect(driver)
    notes: list[psycopg.Notify] = []
    conn.add_notify_handler(notes.append)
    run(conn, "LISTEN here")
    check = driver.watch(conn)
    backend.query("NOTIFY here, 'hello'")
    until(lambda: check(0), what="the notification")
    assert driver.readable_is_dead(conn) is False
    assert not check(0)
    driver.ping(conn, soon())
    assert [note.payload for note in notes] == ["hello"]


@over(POSTGRESQL)
def test_kill_is_proven_without_a_ping(backend: OnServer) -> None:
    """C2: what was heard is read, and shows the end of the connection without a round trip."""
    driver = backend.driver()
    conn = backend.connect(driver)
    check = driver.watch(conn)
    backend.kill(conn)
    until(lambda: check(0) and not backend.sessions(), what="the session to end")
    until(lambda: driver.readable_is_dead(conn), what="its end to be heard")


# -- activity


@over(POSTGRESQL)
def test_activity(backend: OnServer) -> None:
    """Activity: statements, changed rows and what is open, by whatever way they were run."""
    driver = backend.driver()
    conn = backend.connect(driver)
    seen = driver.activity(conn)
    assert (seen.statements, seen.touched, seen.written) == (0, 0, 0)
    conn.execute("INSERT INTO contract VALUES (2, 20), (3, 30)")
    conn.cursor().execute("UPDATE contract SET n = 0 RETURNING id")
    assert driver.rows_written(conn) == 5
    conn.cursor().executemany("DELETE FROM contract WHERE id = %s", [(2,), (3,)])
    with conn.cursor().copy("COPY contract FROM STDIN") as copy:
        copy.write_row((4, 40))
    conn.cursor().execute(READ)
    assert list(conn.cursor().stream(READ)) == [(0,)]
    assert driver.rows_written(conn) == 8
    assert seen.statements == 6
    assert seen.seconds > 0
    assert driver.inspect(conn) is DIRTY
    conn.commit()
    assert (seen.statements, seen.touched, driver.rows_written(conn)) == (7, 0, 0)
    assert driver.inspect(conn) is CLEAN
    conn.rollback()
    assert seen.statements == 7, "there was nothing to roll back, and nothing was sent"
    assert settle(driver, conn) is None


@over(POSTGRESQL)
def test_with_block(backend: OnServer) -> None:
    """with conn: commits, and gives the lease back; after an error it rolls back."""
    with database(backend) as made:
        with made.connection() as conn:
            with conn as same:
                assert same is conn
                run(conn, WRITE)
            with pytest.raises(ConnectionReturned):
                run(conn, READ)
        assert (backend.stored, made.stats().open) == (11, 1)
        with made.connection() as conn, pytest.raises(ZeroDivisionError):
            fail_in_a_block(conn)
        assert backend.stored == 11


@over(POSTGRESQL)
def test_abandoned_in_use_keeps_its_memory(backend: OnServer) -> None:
    """R12: while another thread is inside libpq its connection is only hung up, as that thread would crash if its
    memory were freed. The call that ends last frees it."""
    driver = backend.driver()
    conn = backend.connect(driver)
    seen = driver.activity(conn)
    seen.enter(None)
    driver.abandon(conn)
    assert conn.pgconn.pgconn_ptr is not None
    with pytest.raises(psycopg.OperationalError):
        run(conn, READ)
    assert conn.pgconn.pgconn_ptr is not None
    seen.leave(None)
    assert conn.pgconn.pgconn_ptr is None
