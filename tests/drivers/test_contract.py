"""The driver contract, run over every driver × its server (see cases.py)."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest

from drivers.cases import AUTOCOMMIT, BROKEN, READ, SEE, WRITE, Backend, over, run, settle, soon
from support.waiting import until
from wsgidb.drivers.base import CLEAN, DIRTY
from wsgidb.errors import ConnectionReturned


class Lease:
    """As much of a lease as a driver may ask for."""

    def __init__(self, raw: Any) -> None:
        self.driver_connection = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self.driver_connection, name)


@over()
def test_manual_commits_nothing_by_itself(backend: Backend) -> None:
    """connect: under manual a write is nobody else's to see until it is committed."""
    conn = backend.connect(backend.driver())
    run(conn, WRITE)
    assert backend.stored == 10
    conn.commit()
    assert backend.stored == 11


@over(AUTOCOMMIT)
def test_autocommit_commits_each_statement(backend: Backend) -> None:
    """connect: under autocommit a write is everybody's to see at once."""
    conn = backend.connect(backend.driver(transaction="autocommit"))
    run(conn, WRITE)
    assert backend.stored == 11


@over(SEE)
@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
def test_clean_after_connect(backend: Backend, transaction: str) -> None:
    """C4: a new connection has nothing to roll back, also after init_sql."""
    driver = backend.driver(transaction=transaction, init_sql=("SELECT 1",))
    assert driver.inspect(backend.connect(driver)) is CLEAN


@over(SEE)
def test_dirty_after_a_write(backend: Backend) -> None:
    """C3: a write that is not committed has to be rolled back."""
    driver = backend.driver()
    conn = backend.connect(driver)
    run(conn, WRITE)
    assert driver.inspect(conn) is DIRTY


@over(SEE)
def test_clean_after_commit(backend: Backend) -> None:
    """C4: what is committed needs no rollback."""
    driver = backend.driver()
    conn = backend.connect(driver)
    run(conn, WRITE)
    conn.commit()
    assert driver.inspect(conn) is CLEAN


@over(SEE)
def test_clean_after_rollback(backend: Backend) -> None:
    """C4: one rollback is enough, the driver's or the application's own."""
    driver = backend.driver()
    conn = backend.connect(driver)
    for undo in (conn.rollback, lambda: driver.rollback(conn, soon())):
        run(conn, WRITE)
        undo()
        assert driver.inspect(conn) is CLEAN


@over(SEE, AUTOCOMMIT)
def test_autocommitted_statements_are_clean(backend: Backend) -> None:
    """C4: under autocommit reads and writes leave nothing to roll back."""
    driver = backend.driver(transaction="autocommit")
    conn = backend.connect(driver)
    run(conn, READ)
    run(conn, WRITE)
    assert driver.inspect(conn) is CLEAN


@over(AUTOCOMMIT)
def test_explicit_begin_is_rolled_back(backend: Backend) -> None:
    """C3: a transaction begun under autocommit does not outlive its request."""
    driver = backend.driver(transaction="autocommit")
    conn = backend.connect(driver)
    run(conn, "BEGIN")
    run(conn, WRITE)
    assert driver.inspect(conn) is DIRTY
    assert settle(driver, conn) is None
    assert run(conn, READ)[0][0] == 10
    run(conn, WRITE)
    assert backend.stored == 11, "still in the transaction"


@over()
def test_rollback_undoes_a_write(backend: Backend) -> None:
    """C3: an uncommitted write is gone afterwards, its lock too, and the connection serves on."""
    driver = backend.driver()
    conn = backend.connect(driver)
    run(conn, WRITE)
    assert settle(driver, conn) is None
    assert run(conn, READ)[0][0] == 10
    assert settle(driver, conn) is None
    backend.query("UPDATE contract SET n = 12")
    assert backend.stored == 12


@over()
def test_snapshot_of_a_select_ends(backend: Backend) -> None:
    """C3: after a request that only read, the next one sees what was committed since."""
    driver = backend.driver()
    conn = backend.connect(driver)
    assert run(conn, READ)[0][0] == 10
    assert settle(driver, conn) is None
    backend.query("UPDATE contract SET n = 12")
    assert run(conn, READ)[0][0] == 12


@over()
def test_swallowed_error_keeps_no_transaction(backend: Backend) -> None:
    """C3: a write before an error that the handler swallowed is rolled back like any other."""
    driver = backend.driver()
    conn = backend.connect(driver)
    run(conn, WRITE)
    with pytest.raises(Exception, match="no_such_column"):
        run(conn, BROKEN)
    assert settle(driver, conn) is None
    assert run(conn, READ)[0][0] == 10


@over()
def test_closed_by_the_application(backend: Backend) -> None:
    """C6: a connection that the application has closed is never kept, and dropping it is no error."""
    driver = backend.driver()
    conn = backend.connect(driver)
    conn.close()
    assert settle(driver, conn) is not None
    driver.abandon(conn)


@over()
def test_ping_of_a_live_connection(backend: Backend) -> None:
    """C4: a ping leaves the connection as it found it."""
    driver = backend.driver()
    conn = backend.connect(driver)
    before = driver.inspect(conn)
    driver.ping(conn, soon())
    assert driver.inspect(conn) is before


@over()
def test_ping_query_takes_the_place_of_the_ping(backend: Backend) -> None:
    """ping: the configured statement is what proves the connection alive."""
    conn = backend.connect(backend.driver())
    backend.driver(ping_query=READ).ping(conn, soon())
    with pytest.raises(Exception, match="no_such_column"):
        backend.driver(ping_query=BROKEN).ping(conn, soon())


@over()
def test_check_is_quiet_on_a_live_connection(backend: Backend) -> None:
    """C4: nothing is heard on a connection that works, however much it was used."""
    driver = backend.driver()
    conn = backend.connect(driver)
    check = driver.watch(conn)
    assert not check(0)
    run(conn, READ)
    driver.rollback(conn, soon())
    assert not check(0)


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
    del conn
    gc.collect()  # what a creator's driver has abandoned is closed by its finalizer
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
    lease = Lease(conn)
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
    cursor = driver.adopt(conn.cursor(), Lease(conn))
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
