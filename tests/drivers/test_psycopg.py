"""What only psycopg has: pipelines, streams, COPY, notifications; and what the record of a connection tells."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from drivers.cases import READ, WRITE, OnServer, database, over, run, settle, soon
from support.waiting import until
from wsgidb import ConnectionReturned
from wsgidb.drivers.states import CLEAN, DIRTY

POSTGRESQL = "postgresql"


def fail_in_a_block(conn: Any) -> None:
    with conn:
        run(conn, "UPDATE contract SET n = 12")
        raise ZeroDivisionError


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
    check, number = driver.watch(conn), conn.info.backend_pid
    backend.kill(conn)
    until(lambda: check(0) and number not in backend.sessions(), what="the session to end")
    until(lambda: driver.readable_is_dead(conn), what="its end to be heard")


@over(POSTGRESQL)
def test_a_mistake_is_no_death(backend: OnServer) -> None:
    """C2: an error of libpq's own says nothing of the connection, whose status does."""
    with database(backend) as made:
        with made.connection() as conn:
            conn.pgconn.send_query(b"SELECT 1")
            with pytest.raises(psycopg.OperationalError, match="another command is already in progress"):
                run(conn, READ)
            while conn.pgconn.get_result():
                pass
            assert run(conn, READ) == [(10,)]
        assert (made.stats().open, made.stats().discards) == (1, {})


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
