"""Which of a MySQL server's errors mean that the connection is gone, from the real ones where they can be had."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pymysql
import pytest
from pymysql.err import Error, IntegrityError, InterfaceError, InternalError, OperationalError, ProgrammingError

from support.client import connect
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb.config.settings import Settings
from wsgidb.drivers import make_driver
from wsgidb.drivers.base import Driver

DRIVER = make_driver(Settings.of({"url": "mysql://guest@db.example/test", "ssl_mode": "disabled"}))


def soon() -> float:
    return time.monotonic() + 10


@pytest.fixture
def driver(mariadb: MariaDB) -> Driver:
    return make_driver(Settings.of({"url": mariadb.url()}))


@pytest.fixture
def conn(driver: Driver) -> Iterator[Any]:
    made = driver.connect(soon())
    yield made
    driver.abandon(made)


def error_of(use: Callable[[], Any], *codes: int) -> Error:
    """The error that `use` raises, which has one of these codes."""
    with pytest.raises(Error) as caught:
        use()
    assert not codes or caught.value.args[0] in codes
    return caught.value


@pytest.mark.parametrize("code", [1053, 1927, 2006, 2013, 2014, 2027, 2045, 2055, 4031])
def test_disconnects(code: int) -> None:
    """Each code that means a lost connection."""
    assert DRIVER.is_disconnect(OperationalError(code, "…")) is True


@pytest.mark.parametrize(
    "code", [1040, 1045, 1049, 1054, 1062, 1064, 1203, 1205, 1213, 1226, 1317, 1969, 2000, 2026, 2028, 3024, 3169]
)
def test_no_disconnects(code: int) -> None:
    """Too many connections, refused logins, mistakes, lock timeouts, deadlocks and time limits leave the session."""
    assert DRIVER.is_disconnect(OperationalError(code, "…")) is False


@pytest.mark.parametrize(
    "error",
    [InterfaceError(0, ""), Error("Already closed")],
    ids=["used after close", "pinged after close"],
)
def test_pymysqls_own_disconnects(error: Error) -> None:
    """What PyMySQL says of a connection that is closed on our side has no code of the server's."""
    assert DRIVER.is_disconnect(error) is True


@pytest.mark.parametrize(
    "error",
    [
        Error(),
        Error("Already"),
        ProgrammingError("cursor closed"),
        ValueError(2013),
        ConnectionResetError(104, "reset"),
    ],
    ids=repr,
)
def test_others_errors_are_none(error: Exception) -> None:
    """An error without a code, or of somebody else, says nothing of the connection."""
    assert DRIVER.is_disconnect(error) is False


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError(1290, "running with the --read-only option"), True),
        (OperationalError(1290, "running with the --super-read-only option"), True),
        (OperationalError(1290, "running with the --secure-file-priv option"), False),
        (OperationalError(1836, "Running in read-only mode"), True),
        (OperationalError(1047, "WSREP has not yet prepared node for application use"), True),
        (OperationalError(1047, "Unknown command"), False),
        (OperationalError(1792, "Cannot execute statement in a READ ONLY transaction"), False),
        (OperationalError(1836, "Running in read-only mode", "and more"), True),
        (OperationalError(1836), False),
        (OperationalError(), False),
        (OperationalError(1180, "Got error 5 during COMMIT"), False),
        (OperationalError(1180, "Error on commit: Not connected to Primary Component"), True),
        (OperationalError(1105, "rpc error: code = FailedPrecondition desc = wrong tablet type: REPLICA"), True),
        (OperationalError(1105, "rpc error: code = Unknown desc = something else"), False),
        (ValueError(1836, "read-only"), False),
    ],
    ids=repr,
)
def test_servers_that_take_no_writes(error: Exception, expected: bool) -> None:
    """The server as a whole is read-only or not ready: an error of the driver's tells by its number and its text."""
    assert DRIVER.is_read_only(error) is expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OperationalError(1213, "Deadlock found when trying to get lock"), True),
        (InternalError(8002, "can not retry select for update statement"), True),
        (InternalError(8022, "Error: KV error safe to retry"), True),
        (InternalError(8028, "Information schema is changed"), True),
        (InternalError(9007, "Write conflict"), True),
        (OperationalError(1105, "target: shop.0: rpc error: code = Aborted desc = exceeded timeout: 30s"), True),
        (OperationalError(1105, "target: shop.0.primary: rpc error: code = Unknown desc = something else"), False),
        (OperationalError(1180, "Error on commit: Not connected to Primary Component"), False),
        (OperationalError(2013, "Lost connection to MySQL server during query"), False),
        (IntegrityError(1062, "Duplicate entry"), False),
        (OperationalError(), False),
        (ValueError(1213), False),
    ],
    ids=repr,
)
def test_commits_that_the_server_refused(error: Exception, expected: bool) -> None:
    """After a conflict the transaction is rolled back and the connection is good; after any other error of a COMMIT,
    what became of it is unknown. TiDB has numbers of its own, Vitess has one for all and a text."""
    assert DRIVER.commit_was_refused(error) is expected


@pytest.mark.server
def test_killed(driver: Driver, conn: Any, mariadb: MariaDB) -> None:
    """A KILL between statements; afterwards ping and execute have errors of their own."""
    number = conn.thread_id()
    mariadb.execute(f"KILL {number}")
    until(lambda: number not in mariadb.processes("guest"), what="the session to end")
    assert driver.is_disconnect(error_of(lambda: conn.query("SELECT 1"), 2006, 2013))
    assert driver.is_disconnect(error_of(lambda: conn.query("SELECT 1"), 0))
    assert driver.is_disconnect(error_of(lambda: conn.ping(reconnect=False)))


@pytest.mark.server
def test_killed_in_a_statement(driver: Driver, conn: Any, mariadb: MariaDB) -> None:
    """A KILL of one's own session: the server says so before it hangs up."""
    error_of(lambda: conn.query(f"KILL {conn.thread_id()}"), 1317, 1927, 2013)  # by version
    assert driver.is_disconnect(error_of(lambda: conn.query("SELECT 1")))


@pytest.mark.server
@pytest.mark.parametrize("reply", [False, True])
def test_cut(proxy: TCPProxy, mariadb: MariaDB, reply: bool) -> None:
    """A network that breaks before or after the server got the statement."""
    driver = make_driver(Settings.of({"url": proxy.url_from(mariadb.url())}))
    made = driver.connect(soon())
    proxy.break_after(1, reply=reply)
    assert driver.is_disconnect(error_of(lambda: made.query("SELECT 1"), 2006, 2013))


@pytest.mark.server
@pytest.mark.parametrize("end", [MariaDB.stop, MariaDB.kill])
def test_server_gone(own_mariadb: MariaDB, end: Callable[[MariaDB], None]) -> None:
    """A shutdown and a crash."""
    driver = make_driver(Settings.of({"url": own_mariadb.url()}))
    made = driver.connect(soon())
    end(own_mariadb)
    assert driver.is_disconnect(error_of(lambda: made.query("SELECT 1"), 1927, 2006, 2013))


@pytest.mark.server
def test_read_timeout(mariadb: MariaDB) -> None:
    """A statement cut short by the driver's own read timeout has lost its connection."""
    driver = make_driver(Settings.of({"url": mariadb.url(), "read_timeout": 0.05}))
    made = driver.connect(soon())
    assert driver.is_disconnect(error_of(lambda: made.query("SELECT SLEEP(5)"), 2013))


@pytest.mark.server
@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("SELECT no_such_column", 1054),
        ("SELEC 1", 1064),
        ("SELECT * FROM no_such_table", 1146),
        ("SET STATEMENT max_statement_time=0.05 FOR SELECT SLEEP(5)", 1969),
        ("KILL QUERY CONNECTION_ID()", 1317),
    ],
)
def test_statement_errors(driver: Driver, conn: Any, sql: str, code: int) -> None:
    """After these the session is still there."""
    assert not driver.is_disconnect(error_of(lambda: conn.query(sql), code))
    conn.query("SELECT 1")


@pytest.fixture
def rivals(mariadb: MariaDB) -> Iterator[tuple[Any, Any]]:
    """Two sessions, each of which has locked a row that the other one will want."""
    mariadb.execute("CREATE TABLE rivals (id INT PRIMARY KEY, n INT)")
    mariadb.execute("INSERT INTO rivals VALUES (1, 0), (2, 0)")
    driver = make_driver(Settings.of({"url": mariadb.url()}))
    both = driver.connect(soon()), driver.connect(soon())
    for number, each in enumerate(both, 1):
        each.query(f"UPDATE rivals SET n = 1 WHERE id = {number}")
    yield both
    for each in both:
        driver.abandon(each)
    mariadb.execute("DROP TABLE rivals")


@pytest.mark.server
def test_lock_timeout(driver: Driver, rivals: tuple[Any, Any]) -> None:
    """1205: only the statement is undone."""
    rivals[0].query("SET innodb_lock_wait_timeout = 0")
    error = error_of(lambda: rivals[0].query("UPDATE rivals SET n = 2 WHERE id = 2"), 1205)
    assert not driver.is_disconnect(error)
    rivals[0].query("SELECT 1")


@pytest.mark.server
def test_deadlock(driver: Driver, rivals: tuple[Any, Any]) -> None:
    """1213: the transaction is undone, the session goes on."""
    one, other = rivals
    one._execute_command(3, "UPDATE rivals SET n = 2 WHERE id = 2")  # its reply comes when the other one has lost

    def clash() -> None:
        other.query("UPDATE rivals SET n = 2 WHERE id = 1")
        one._read_query_result()

    assert not driver.is_disconnect(error_of(clash, 1213))


@pytest.mark.server
@pytest.mark.parametrize(
    ("user", "database", "code"), [("guest", "no_such_database", 1044), ("nobody", "", 1045), ("app", "test", 1045)]
)
def test_refused_logins(mariadb: MariaDB, user: str, database: str, code: int) -> None:
    """A wrong password, user or database: the server is there, and says what it thinks of the settings."""
    url = mariadb.url(user, database=database, password="wrong" if user != "guest" else "")
    driver = make_driver(Settings.of({"url": url}))
    error = error_of(lambda: driver.connect(soon()), code)
    assert not driver.is_disconnect(error)
    assert "wrong" not in str(error)


@pytest.mark.server
def test_too_many_connections(mariadb: MariaDB) -> None:
    """1226 and 1203: a server that has no more connections for us is alive."""
    mariadb.execute("CREATE USER few@'%' WITH MAX_USER_CONNECTIONS 1")
    driver = make_driver(Settings.of({"url": mariadb.url("few", database="")}))
    first = connect(mariadb.url("few", database=""))
    try:
        error = error_of(lambda: driver.connect(soon()), 1203, 1226)
        assert not driver.is_disconnect(error)
    finally:
        first.close()
        mariadb.execute("DROP USER few@'%'")


def test_unreachable() -> None:
    """2003: there was no connection to lose."""
    driver = make_driver(Settings.of({"url": "mysql://guest@127.0.0.1:1/test"}))
    with pytest.raises(pymysql.OperationalError) as caught:
        driver.connect(soon())
    assert caught.value.args[0] == 2003
    assert "127.0.0.1:1" in str(caught.value)
