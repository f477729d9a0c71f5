"""The driver contract's third part: what only a MySQL session can do behind a handler's back."""

from __future__ import annotations

import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from drivers.cases import (
    BROKEN,
    ERRORS,
    MYSQL,
    PYMYSQL,
    READ,
    SEE,
    WRITE,
    Backend,
    Lease,
    OnMariaDB,
    over,
    query,
    run,
    session,
    set_autocommit,
    settle,
    soon,
    unbuffered,
)
from strategies.kit import Worker
from support.client import connect, value
from support.waiting import until
from wsgidb import TransactionLost
from wsgidb.drivers.base import Driver
from wsgidb.drivers.states import CLEAN, DIRTY

PROCEDURES = {
    "opens": "START TRANSACTION; UPDATE contract SET n = 11;",
    "opens_and_shows": "START TRANSACTION; UPDATE contract SET n = 11; SELECT 1;",
    "opens_and_fails": f"START TRANSACTION; UPDATE contract SET n = 11; {BROKEN};",
    "opens_shows_and_fails": f"START TRANSACTION; UPDATE contract SET n = 11; SELECT 1; {BROKEN};",
    # more rows than the server buffers, and an error among them
    "opens_and_breaks_off": "START TRANSACTION; UPDATE contract SET n = 11;"
    " SELECT seq, IF(seq = 9000, JSON_EXTRACT(complain(), '$'), 1) FROM seq_1_to_9999;",
}
COMPLAIN = "CREATE FUNCTION complain() RETURNS INT BEGIN SIGNAL SQLSTATE '45000'; RETURN 1; END"


@pytest.fixture
def procedure(backend: Backend, name: str) -> Iterator[str]:
    """One of PROCEDURES, by its name."""
    complains = "complain()" in PROCEDURES[name]
    if complains:
        backend.query(COMPLAIN)
    backend.query(f"CREATE PROCEDURE {name}() BEGIN {PROCEDURES[name]} END")
    yield name
    backend.query(f"DROP PROCEDURE {name}")
    if complains:
        backend.query("DROP FUNCTION complain")


def call(conn: Any, name: str, cursor: Any) -> None:
    """CALL and read all there is, swallowing what it raises; the cursor stays open."""
    try:
        cursor.execute(f"CALL {name}()")
        if cursor.description:
            cursor.fetchall()
        while cursor.nextset():
            if cursor.description:
                cursor.fetchall()
    except ERRORS:
        pass


def autocommitted(backend: Backend) -> tuple[Driver, Any]:
    driver = backend.driver(transaction="autocommit")
    return driver, backend.connect(driver)


@over(MYSQL)
@pytest.mark.parametrize("make_cursor", [lambda conn: conn.cursor(), unbuffered], ids=["cursor", "unbuffered"])
@pytest.mark.parametrize("name", sorted(PROCEDURES))
@pytest.mark.parametrize("last", ["call", "select"])
def test_transaction_that_a_procedure_opened(
    backend: Backend, procedure: str, make_cursor: Callable[[Any], Any], last: str
) -> None:
    """C3: a transaction that a CALL opened is over at the end of the request, whatever became of the CALL."""
    driver, conn = autocommitted(backend)
    cursor = make_cursor(conn)  # which lives on
    call(conn, procedure, cursor)
    if last == "select":
        run(conn, READ)  # a result set carries no status: what is unknown must stick
    assert settle(driver, conn) is None
    assert run(conn, READ)[0][0] == 10
    run(conn, "UPDATE contract SET n = 12")
    assert backend.stored == 12, "still in a transaction"


@over(MYSQL, SEE)
@pytest.mark.parametrize("name", ["opens_and_shows"])
def test_more_results_left_unread(backend: Backend, procedure: str) -> None:
    """C6: a CALL whose further results nobody asked for costs the connection, or they are read before the rollback: its
    transaction does not show yet."""
    driver, conn = autocommitted(backend)
    cursor = conn.cursor()
    cursor.execute(f"CALL {procedure}()")
    cursor.fetchall()
    assert driver.inspect(conn) in (DIRTY, "unread rows")
    if settle(driver, conn) is None:
        assert run(conn, "SELECT @@in_transaction, 'mine'") == [(0, "mine")]


@over(MYSQL, SEE)
def test_unread_rows(backend: Backend) -> None:
    """C6: an unbuffered result that was not read to its end is a reason to discard, and dropping it reads no more."""
    driver, conn = autocommitted(backend)
    cursor = unbuffered(conn)
    cursor.execute("SELECT seq FROM seq_1_to_99999999")
    cursor.fetchone()
    assert driver.inspect(conn) == "unread rows"
    driver.retire_cursor(cursor)
    driver.abandon(conn)
    cursor.close()
    del cursor  # its finalizer has nothing to read from


@over(MYSQL, SEE)
def test_unbuffered_rows_read_to_the_end_are_clean(backend: Backend) -> None:
    """C4: an unbuffered result that was read costs nothing."""
    driver, conn = autocommitted(backend)
    assert run(conn, "SELECT seq FROM seq_1_to_10") == [(number,) for number in range(1, 11)]
    cursor = unbuffered(conn)
    cursor.execute("SELECT seq FROM seq_1_to_10")
    cursor.fetchall()
    assert driver.inspect(conn) is CLEAN


@over(PYMYSQL)
def test_an_error_that_is_kept_keeps_no_connection(backend: Backend) -> None:
    """R1: a connection whose init_sql fails is closed, though somebody still looks at the error and its frames."""
    before = backend.sessions()
    with pytest.raises(ERRORS) as caught:
        backend.driver(init_sql=[BROKEN]).connect(soon())
    until(lambda: not backend.sessions() - before, what="the connection to end")
    assert caught.value.__traceback__ is not None


@over(MYSQL, SEE)
def test_an_error_counts_once(backend: Backend) -> None:
    """C3: however often it is looked for what a driver has to tell; and another one of the same kind counts again."""
    driver = backend.driver()
    conn = driver.connect(soon())
    for count in (1, 2):
        with pytest.raises(ERRORS):
            run(conn, BROKEN)
        assert driver.inspect(conn) is DIRTY
        driver.rollback(conn, soon())
        assert driver.activity(conn).errors == count
    driver.close(conn)


@over(MYSQL, SEE)
def test_only_a_used_session_needs_a_reset(backend: Backend) -> None:
    """C4: with reset=session a new connection is clean, and a reset one; one that has read is not."""
    driver = backend.driver(transaction="autocommit", reset="session", init_sql=["SELECT 1"])
    conn = backend.connect(driver)
    for _ in range(2):
        assert driver.inspect(conn) is CLEAN
        run(conn, READ)
        assert driver.inspect(conn) is DIRTY
        driver.reset(conn, soon())
    assert driver.inspect(conn) is CLEAN


@over(PYMYSQL)
@pytest.mark.parametrize("command", [b"\x03SELECT 1", b"\x0e"])
def test_reply_left_unread(backend: Backend, command: bytes) -> None:
    """C6: with a reply still to come, all later ones would be shifted by one: a reason to discard."""
    driver, conn = autocommitted(backend)
    conn._execute_command(command[0], command[1:])
    assert driver.inspect(conn) == "in the middle of a statement"


@over(MYSQL, SEE)
@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
def test_select_only(backend: Backend, transaction: str) -> None:
    """C3: with autocommit off a SELECT holds a snapshot that server_status does not show; with it on, none."""
    driver = backend.driver(transaction=transaction)
    conn = backend.connect(driver)
    run(conn, READ)
    assert driver.inspect(conn) is (DIRTY if transaction == "manual" else CLEAN)


@over(MYSQL, SEE)
def test_query_without_a_cursor_is_seen(backend: Backend) -> None:
    """C3: statements that go past every cursor class count like any other."""
    driver = backend.driver()
    conn = backend.connect(driver)
    query(conn, WRITE)
    assert driver.inspect(conn) is DIRTY


@over(MYSQL, SEE)
def test_swallowed_error_is_dirty(backend: Backend) -> None:
    """C6: an error packet carries no status, so after one the transaction is unknown until a rollback."""
    driver, conn = autocommitted(backend)
    with pytest.raises(ERRORS):
        run(conn, BROKEN)
    run(conn, READ)
    assert driver.inspect(conn) is DIRTY
    driver.rollback(conn, soon())
    assert driver.inspect(conn) is CLEAN


@over(MYSQL)
@pytest.mark.parametrize("transaction", ["manual", "autocommit"])
@pytest.mark.parametrize("how", ["method", "statement"])
def test_changed_autocommit_is_restored(backend: Backend, transaction: str, how: str) -> None:
    """C3: a handler's autocommit ends with its request, which would lose or commit the next one's write."""
    driver = backend.driver(transaction=transaction)
    conn = backend.connect(driver)
    wanted = int(transaction == "autocommit")
    if how == "method":
        set_autocommit(conn, not wanted)
    else:
        run(conn, f"SET autocommit = {int(not wanted)}")
    assert driver.inspect(conn) is DIRTY
    assert settle(driver, conn) is None
    assert run(conn, "SELECT @@autocommit") == [(wanted,)]


OPEN = "SELECT @@in_transaction"


@over(MYSQL, SEE)
@pytest.mark.parametrize("end", [None, "commit()", "COMMIT"])
@pytest.mark.parametrize("how", ["SET completion_type = CHAIN", "/* */ SET @@completion_type = 1"])
def test_no_transaction_goes_on_after_one_that_chains(backend: Backend, how: str, end: str | None) -> None:
    """C3, C6: with completion_type=CHAIN each end of a transaction, wsgidb's rollback included, begins another one:
    that reaches no other request, nor does a later request on the same connection leave one behind."""
    driver, conn = autocommitted(backend)
    for request in (1, 2):
        if request == 1:
            run(conn, how)
        run(conn, "BEGIN")
        if end == "commit()":
            conn.commit()
        elif end is not None:
            run(conn, end)
        if settle(driver, conn) is not None:
            return
        assert run(conn, OPEN) == [(0,)]


@pytest.mark.impossible("mysqlclient", "C3")
@over(MYSQL, SEE)
def test_a_server_on_which_transactions_chain(backend: Backend) -> None:
    """C3: the same where the server's administrator has set it for all sessions."""
    backend.query("SET GLOBAL completion_type = CHAIN")
    try:
        driver, conn = autocommitted(backend)
    finally:
        backend.query("SET GLOBAL completion_type = NO_CHAIN")
    run(conn, "BEGIN")
    conn.commit()
    assert settle(driver, conn) is not None or run(conn, OPEN) == [(0,)]


@over(PYMYSQL)
def test_a_rollback_that_ends_nothing_is_an_error(backend: Backend) -> None:
    """C6: where each rollback begins another transaction, the error has a client's number, of no lost connection."""
    driver, conn = autocommitted(backend)
    run(conn, "SET completion_type = CHAIN")
    run(conn, "BEGIN")
    with pytest.raises(ERRORS, match=r"2000.*still open") as caught:
        driver.rollback(conn, soon())
    assert driver.is_disconnect(caught.value) is False


@pytest.mark.impossible("mysqlclient", "C4")
@over(MYSQL, SEE)
@pytest.mark.parametrize("sql", ["/* a comment */ SELECT 1", "SET @a = 1", "SET sql_mode = NO_BACKSLASH_ESCAPES"])
def test_what_opens_no_transaction_is_clean(backend: Backend, sql: str) -> None:
    """C4: with autocommit whatever opened no transaction costs no rollback, however it was written."""
    driver, conn = autocommitted(backend)
    run(conn, sql)
    assert driver.inspect(conn) is CLEAN


@contextmanager
def reconnecting() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of PyMySQL 1.2
        yield


@over(PYMYSQL)
@pytest.mark.parametrize("how", ["closed", "killed", "connect"])
def test_reconnected_by_the_application(backend: Backend, how: str) -> None:
    """C6: another socket means another session, without init_sql or TLS mode: a reason to discard."""
    driver, conn = autocommitted(backend)
    if how == "killed":
        backend.query(f"KILL {conn.thread_id()}")
    else:
        conn.close()
    with reconnecting():
        conn.connect() if how == "connect" else conn.ping(reconnect=True)
    assert run(conn, READ) == [(10,)]
    assert driver.inspect(conn) == "reconnected by the application"


@over(MYSQL, SEE)
def test_commit_where_nobody_listens(backend: Backend) -> None:
    """R10: a write that cannot be committed any more is a TransactionLost that says why."""
    driver = backend.driver()
    conn = backend.connect(driver)
    run(conn, WRITE)
    conn.close()
    with pytest.raises(TransactionLost, match="cannot commit: closed by the application"):
        driver.commit(conn)
    assert backend.stored == 10


@over(MYSQL, SEE)
def test_close_of_what_is_closed(backend: Backend) -> None:
    """close: where the application was faster, it raises nothing."""
    driver = backend.driver()
    conn = backend.connect(driver)
    conn.close()
    driver.close(conn)


class Interrupt(BaseException):
    """As a worker's timeout or GreenletExit."""


@contextmanager
def interrupted(backend: OnMariaDB, number: int) -> Iterator[str]:
    """Give a statement, and interrupt this thread when the session with that number waits in it at the server."""
    waiting = "SELECT id FROM information_schema.processlist WHERE state = 'User lock'"
    thread, holder = threading.get_ident(), connect(backend.server.url())
    assert value(holder, "SELECT GET_LOCK('interrupted', 0)") == 1

    def interrupt() -> None:
        with closing(holder):  # whose end is that of the statement
            until(lambda: (number,) in backend.query(waiting), what="the statement to wait")
            signal.pthread_kill(thread, signal.SIGUSR1)

    def hear(*args: Any) -> None:
        raise Interrupt

    before = signal.signal(signal.SIGUSR1, hear)
    try:
        worker = Worker(interrupt)
        with pytest.raises(Interrupt):
            yield "SELECT GET_LOCK('interrupted', 60)"
        worker.outcome()
    finally:
        signal.signal(signal.SIGUSR1, before)


@over(MYSQL)
def test_interrupted_statement(backend: OnMariaDB) -> None:
    """R2: a BaseException in the middle of a statement is a reason to discard; also with mysqlclient, which waits in C
    for the statement's end before any signal is heard."""
    driver, conn = autocommitted(backend)
    cursor = driver.adopt(conn.cursor(), Lease(driver, conn)) if SEE not in backend.can else conn.cursor()
    with interrupted(backend, session(conn)) as sql:
        cursor.execute(sql)
    assert isinstance(driver.inspect(conn), str)
    driver.abandon(conn)  # which raises nothing


@over(MYSQL)
def test_killed_connection_is_dead(backend: Backend) -> None:
    """C2, C6: of a killed connection both ping and rollback raise."""
    driver = backend.driver()
    for use in (driver.ping, driver.rollback):
        conn = backend.connect(driver)
        number = session(conn)
        backend.query(f"KILL {number}")
        until(lambda: number not in backend.sessions(), what="the session to end")  # noqa: B023 - over before the next
        with pytest.raises(ERRORS):
            use(conn, soon())
