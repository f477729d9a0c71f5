"""The driver contract's second part: a connection's beginning and end, its cursors, and its threads."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from drivers.cases import BROKEN, READ, WRITE, Backend, Lease, over, run, settle, soon
from support.waiting import until
from wsgidb.errors import ConnectionReturned


@over()
@pytest.mark.parametrize("how", ["close", "abandon"])
def test_nothing_stays_open(backend: Backend, how: str) -> None:
    """close, abandon: the server sees the connection end, and the transaction with it."""
    before = backend.sessions()
    driver = backend.driver()
    conn = driver.connect(soon())
    assert backend.sessions() - before
    run(conn, WRITE)
    getattr(driver, how)(conn)
    until(lambda: not backend.sessions() - before, what="the connection to end")
    backend.query("UPDATE contract SET n = 12")


@over()
def test_init_sql_is_run_and_committed(backend: Backend) -> None:
    """init_sql: each statement is run on a new connection, and what it writes is there for everybody."""
    driver = backend.driver(init_sql=[WRITE, "INSERT INTO contract VALUES (2, 20)"])
    conn = backend.connect(driver)
    assert backend.query("SELECT n FROM contract ORDER BY id") == [(11,), (20,)]
    assert settle(driver, conn) is None
    assert run(conn, READ)[0][0] == 11


@over()
def test_failing_init_sql_leaves_nothing_open(backend: Backend) -> None:
    """R1: a connection whose init_sql fails is none: its error is raised and its socket closed."""
    before = backend.sessions()
    with pytest.raises(Exception, match="no_such_column") as caught:
        backend.driver(init_sql=[WRITE, BROKEN]).connect(soon())
    del caught
    until(lambda: not backend.sessions() - before, what="the connection to end")
    assert backend.stored == 10


@over()
def test_connect_args_callable_is_asked_each_time(backend: Backend) -> None:
    """connect_args: a callable is asked at every connect, and what it says then counts (credential rotation)."""
    answers: list[dict[str, Any]] = [{}, {"no_such_argument": 1}, {}]
    driver = backend.driver(connect_args=lambda: answers.pop(0))
    backend.connect(driver)
    with pytest.raises((TypeError, ValueError), match="no_such_argument"):
        driver.connect(soon())
    backend.connect(driver)
    assert answers == []


@over()
def test_statement_errors_are_no_disconnect(backend: Backend) -> None:
    """is_disconnect: a mistake in a statement says nothing of the connection."""
    driver = backend.driver()
    conn = backend.connect(driver)
    with pytest.raises(Exception, match="no_such_column") as caught:
        run(conn, BROKEN)
    assert driver.is_disconnect(caught.value) is False


@over()
def test_adopted_cursor_works_for_its_lease(backend: Backend) -> None:
    """adopt: the cursor's connection is the lease, and the cursor does what the driver's does."""
    driver = backend.driver()
    conn = backend.connect(driver)
    lease = Lease(driver, conn)
    cursor = driver.adopt(conn.cursor(), lease)
    assert cursor.connection is lease
    cursor.execute(READ)
    assert cursor.fetchone()[0] == 10
    assert isinstance(cursor, type(conn.cursor()))


@over()
def test_retired_cursor_is_dead(backend: Backend) -> None:
    """R8: a cursor of an ended lease refuses every use, also of rows it had read; the connection serves on."""
    driver = backend.driver()
    conn = backend.connect(driver)
    cursor = driver.adopt(conn.cursor(), Lease(driver, conn))
    cursor.execute(READ)
    assert driver.retire_cursor(cursor) is None
    for use in (
        lambda: cursor.execute(WRITE),
        lambda: cursor.fetchone(),
        lambda: cursor.rowcount,
        lambda: list(cursor),
    ):
        with pytest.raises(ConnectionReturned):
            use()
    cursor.close()
    assert run(conn, READ)[0][0] == 10


@over()
def test_used_from_another_thread(backend: Backend) -> None:
    """R6: a connection is used, cleaned and closed by whatever thread comes along."""
    driver = backend.driver()
    conn = backend.connect(driver)
    outcome: list[Any] = []

    def elsewhere() -> None:
        run(conn, WRITE)
        outcome.append(settle(driver, conn))
        outcome.append(run(conn, READ)[0][0])
        driver.close(conn)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert outcome == [None, 10]
