"""The driver contract, run over every driver × its server (see cases.py). First part: transactions."""

from __future__ import annotations

import pytest

from drivers.cases import AUTOCOMMIT, BROKEN, READ, SEE, WRITE, Backend, over, run, settle, soon
from wsgidb.drivers.states import CLEAN, DIRTY


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


@over(SEE)
def test_reason_says_who_closed(backend: Backend) -> None:
    """C6: the log's reason for such a discard is the application's deed, not the failure that would follow."""
    driver = backend.driver()
    conn = backend.connect(driver)
    conn.close()
    assert "closed by the application" in str(driver.inspect(conn))


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
