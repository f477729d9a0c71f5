"""Lost connections and lost transactions by mysqlclient and MySQL Connector/Python: C1, R10."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from drivers.cases import ERRORS, run, session
from drivers.others import Open, driver_of, each_driver, soon, value
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb import TransactionLost

pytestmark = [pytest.mark.server, each_driver]


@pytest.fixture
def rows(mariadb: MariaDB) -> Iterator[None]:
    mariadb.execute("CREATE TABLE rivals (id INT PRIMARY KEY, n INT)")
    mariadb.execute("INSERT INTO rivals VALUES (1, 0), (2, 0)")
    yield
    mariadb.execute("DROP TABLE rivals")


def write(conn: Any, number: int) -> None:
    run(conn, f"UPDATE rivals SET n = n + 1 WHERE id = {number}")


def deadlock(mine: Any, other: Any) -> None:
    """Let `mine` be the victim, which has changed less."""
    run(other, "UPDATE rivals SET n = n + 10 WHERE id = 2")
    for number in range(3, 30):
        run(other, f"INSERT INTO rivals VALUES ({number}, 0)")
    write(mine, 1)
    thread = threading.Thread(target=lambda: run(other, "UPDATE rivals SET n = n + 10 WHERE id = 1"))
    thread.start()
    try:
        with pytest.raises(ERRORS) as caught:
            run(mine, "UPDATE rivals SET n = n + 1 WHERE id = 2")
        assert caught.value.args[0] == 1213
    finally:
        thread.join(10)


def test_deadlock_swallowed(mariadb: MariaDB, rows: None, opened: Open, name: str) -> None:
    """R10: a deadlock's victim that goes on commits nothing: neither at the end nor by a statement; a rollback of its
    own is a new beginning."""
    driver, mine = opened(name, mariadb.url(), transaction="request")
    _, other = opened(name, mariadb.url())
    deadlock(mine, other)
    other.rollback()
    write(mine, 2)
    with pytest.raises(TransactionLost, match="1213"):
        driver.commit(mine)
    with pytest.raises(TransactionLost):
        run(mine, "CREATE TABLE by_the_way (n INT)")
    with pytest.raises(TransactionLost):
        mine.commit()
    mine.rollback()
    write(mine, 1)
    driver.commit(mine)
    assert mariadb.query("SELECT id, n FROM rivals ORDER BY id") == [(1, 1), (2, 0)]


@pytest.mark.parametrize("first", [True, False])
def test_lock_timeout_swallowed(mariadb: MariaDB, rows: None, opened: Open, name: str, first: bool) -> None:
    """R10: a lock timeout undoes its statement only: what came before it and what comes after is committed."""
    driver, mine = opened(name, mariadb.url(), transaction="request", init_sql=["SET innodb_lock_wait_timeout = 0"])
    _, other = opened(name, mariadb.url())
    write(other, 2)
    if not first:
        write(mine, 1)
    with pytest.raises(ERRORS) as caught:
        write(mine, 2)
    assert (caught.value.args[0], driver.is_disconnect(caught.value)) == (1205, False)
    if first:
        write(mine, 1)
    driver.commit(mine)
    assert mariadb.query("SELECT n FROM rivals WHERE id = 1") == [(1,)]


@pytest.mark.parametrize("version", ["killed", "cut"])
def test_lost_connection_is_no_commit(
    mariadb: MariaDB, proxy: TCPProxy, rows: None, opened: Open, name: str, version: str
) -> None:
    """C1, R10: a connection that was lost gives an error for each further statement, and for the commit."""
    driver, conn = opened(name, proxy.url_from(mariadb.url()), transaction="request")
    write(conn, 1)
    proxy.cut() if version == "cut" else mariadb.kill_connections("guest")
    for _ in range(2):
        with pytest.raises(ERRORS) as caught:
            write(conn, 2)
        assert driver.is_disconnect(caught.value)
    with pytest.raises((*ERRORS, TransactionLost)):
        driver.commit(conn)
    assert isinstance(driver.inspect(conn), str)
    assert mariadb.query("SELECT SUM(n) FROM rivals")[0][0] == 0


@pytest.mark.parametrize("reply", [False, True], ids=["before it arrives", "before its reply"])
def test_commit_cut(mariadb: MariaDB, proxy: TCPProxy, rows: None, opened: Open, name: str, reply: bool) -> None:
    """C1: a commit whose answer is lost is an error, and is not sent again."""
    driver, conn = opened(name, proxy.url_from(mariadb.url()), transaction="request")
    write(conn, 1)
    mark = proxy.mark()
    proxy.break_after(1, reply=reply)
    with pytest.raises(ERRORS) as caught:
        driver.commit(conn)
    assert driver.is_disconnect(caught.value)
    assert proxy.commands_since(mark) == ["QUERY COMMIT"]
    until(lambda: mariadb.query("SELECT n FROM rivals WHERE id = 1") == [(int(reply),)], what="the server to notice")


@pytest.mark.parametrize("end", [MariaDB.stop, MariaDB.kill])
def test_server_gone(own_mariadb: MariaDB, opened: Open, name: str, end: Callable[[MariaDB], None]) -> None:
    """C2: a shutdown and a crash are disconnects."""
    driver, conn = opened(name, own_mariadb.url())
    end(own_mariadb)
    with pytest.raises(ERRORS) as caught:
        run(conn, "SELECT 1")
    assert driver.is_disconnect(caught.value)


def test_used_after_close(mariadb: MariaDB, opened: Open, name: str) -> None:
    """What a driver says of a connection that is closed on our side."""
    driver, conn = opened(name, mariadb.url())
    conn.close()
    with pytest.raises(ERRORS) as caught:
        run(conn, "SELECT 1")
    assert driver.is_disconnect(caught.value)


def test_statement_errors_are_no_disconnect(mariadb: MariaDB, opened: Open, name: str) -> None:
    """After these the session is still there."""
    driver, conn = opened(name, mariadb.url())
    for sql in ("SELEC 1", "SELECT * FROM no_such_table", "SET STATEMENT max_statement_time=0.05 FOR SELECT SLEEP(5)"):
        with pytest.raises(ERRORS) as caught:
            run(conn, sql)
        assert not driver.is_disconnect(caught.value)
    assert value(conn, "SELECT 1") == 1


@pytest.mark.parametrize("tls", [False, True])
def test_forked_child_leaves_the_parents_session_alone(
    mariadb: MariaDB, tls_mariadb: MariaDB, name: str, tls: bool
) -> None:
    """S6: whatever becomes of a child's copy, its collection included, the parent's session does not notice."""
    server = tls_mariadb if tls else mariadb
    conn = driver_of(name, server.url(), ssl_mode="required" if tls else "disabled").connect(soon())
    number = session(conn)
    if (pid := os.fork()) == 0:
        try:
            del conn
            import gc

            gc.collect()
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert value(conn, "SELECT CONNECTION_ID()") == number
    conn.close()


def test_a_descriptor_that_is_somebody_elses_is_left_alone(mariadb: MariaDB, name: str) -> None:
    """C6: a number that was given again, after the driver had closed its socket, is not closed by abandon."""
    driver = driver_of(name, mariadb.url())
    conn = driver.connect(soon())
    descriptor = conn.fileno() if name == "mysqlclient" else conn._socket.sock.fileno()
    mariadb.kill_connections("guest")
    with pytest.raises(ERRORS):
        run(conn, "SELECT 1")
    if name == "connector":
        conn._socket.sock.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    reading, writing = os.pipe()
    try:
        if descriptor not in (reading, writing):  # garbage collection may have freed lower numbers meanwhile
            os.dup2(reading, descriptor)
            os.close(reading)
            reading = descriptor
        driver.abandon(conn)
        os.write(writing, b"x")
        assert os.read(reading, 1) == b"x"
    finally:
        os.close(reading)
        os.close(writing)
