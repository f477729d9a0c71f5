"""C5 for mysqlclient and MySQL Connector/Python: what hangs is over at its deadline; and what C lets nobody hurry."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import pytest

from drivers.cases import ERRORS, run, session
from drivers.deadlines import LIMIT, MARGIN, READ_TIMEOUT, over_at_deadline
from drivers.others import Open, driver_of, each_driver, soon, value
from support import packets
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb import ConfigError
from wsgidb.drivers.states import DIRTY

pytestmark = pytest.mark.server
WHOLE_SECOND = 1.0
AT_ONCE = 5.0
"""Seconds that a busy machine may take for what would take 20, or for ever, without the guard."""


@each_driver
@pytest.mark.parametrize("how", ["ping", "rollback", "reset"])
def test_deaf_network(proxy: TCPProxy, mariadb: MariaDB, opened: Open, name: str, how: str) -> None:
    """C5: a ping, rollback or reset that nobody answers is over at its deadline, and not at the read timeout."""
    driver, conn = opened(name, proxy.url_from(mariadb.url()), read_timeout=READ_TIMEOUT, reset="session")
    run(conn, "SELECT 1")
    proxy.deaf()
    with over_at_deadline() as deadline:
        getattr(driver, how)(conn, deadline)
    assert isinstance(driver.inspect(conn), str)
    proxy.hear()


def test_attribute_that_is_put_back_on_a_deaf_network(proxy: TCPProxy, mariadb: MariaDB, opened: Open) -> None:
    """C5, C4: MySQL Connector's attributes are statements: likewise, and they are not counted as a handler's."""
    options = {"read_timeout": READ_TIMEOUT, "transaction": "autocommit"}
    driver, conn = opened("connector", proxy.url_from(mariadb.url()), **options)
    conn.time_zone = "+01:00"
    seen = driver.activity(conn)
    before = seen.statements
    driver.put_back(conn, {"time_zone": "+02:00"}, soon())
    assert (value(conn, "SELECT @@time_zone"), seen.statements) == ("+02:00", before + 1), "one is the question"
    proxy.deaf()
    with over_at_deadline() as deadline:
        driver.put_back(conn, {"time_zone": "+03:00"}, deadline)
    proxy.hear()


@each_driver
def test_ping_query_that_takes_long(mariadb: MariaDB, opened: Open, name: str) -> None:
    """C5: the statement in place of the ping has the ping's deadline."""
    driver, conn = opened(name, mariadb.url(), ping_query="SELECT SLEEP(20)")
    with over_at_deadline() as deadline:
        driver.ping(conn, deadline)


@pytest.mark.impossible("mysqlclient", "C5")
@each_driver
def test_reply_that_breaks_off(proxy: TCPProxy, mariadb: MariaDB, opened: Open, name: str) -> None:
    """C5: the deadline is one for the whole reply, not for its first byte."""
    driver, conn = opened(name, proxy.url_from(mariadb.url()), ping_query="DO 7", read_timeout=3)
    proxy.answer("DO 7", lambda: packets.error(1, "HY000", "text")[:3])
    with over_at_deadline(margin=2.5) as deadline:
        driver.ping(conn, deadline)


@each_driver
def test_init_sql_within_the_deadline(mariadb: MariaDB, name: str) -> None:
    """C5: init_sql is part of connecting; a session that hangs in it does not stay behind."""
    driver = driver_of(name, mariadb.url(), init_sql=["SELECT SLEEP(20)"])
    with over_at_deadline() as deadline:
        driver.connect(deadline)


@pytest.mark.impossible("mysqlclient", "C5")
@each_driver
def test_connect_within_the_deadline(proxy: TCPProxy, mariadb: MariaDB, name: str) -> None:
    """C5: TCP connects, and then there is silence."""
    proxy.deaf()
    whole_second = WHOLE_SECOND - LIMIT - 0.05
    with over_at_deadline(whole_second if name == "mysqlclient" else MARGIN) as deadline:
        driver_of(name, proxy.url_from(mariadb.url())).connect(deadline)


def test_mysqlclient_connects_within_whole_seconds(proxy: TCPProxy, mariadb: MariaDB) -> None:
    """C5: its library knows whole seconds only, and at least one; a deadline that is over already costs nothing."""
    driver = driver_of("mysqlclient", proxy.url_from(mariadb.url()))
    proxy.deaf()
    began = time.monotonic()
    with pytest.raises(ERRORS):
        driver.connect(began + LIMIT)
    assert WHOLE_SECOND - 0.1 <= time.monotonic() - began < WHOLE_SECOND + AT_ONCE
    before = proxy.connections
    with pytest.raises(ERRORS, match="no time is left"):
        driver.connect(soon(-1))
    assert proxy.connections == before


@pytest.mark.parametrize("option", ["connect_timeout", "read_timeout", "write_timeout"])
def test_mysqlclient_takes_whole_seconds(option: str) -> None:
    """Never clamped, never guessed: a fraction that it cannot honour is a ConfigError."""
    with pytest.raises(ConfigError, match=f"^{option}: mysqlclient takes whole seconds, got 1.5 [(]"):
        driver_of("mysqlclient", "mysql+pymysql://u@h/db", **{option: 1.5})


@pytest.mark.parametrize(("name", "seconds"), [("mysqlclient", 1), ("connector", 0.3)])
def test_read_timeout_limits_statements(mariadb: MariaDB, opened: Open, name: str, seconds: float) -> None:
    """read_timeout is the driver's, for statements, also after a ping; such a connection is not kept."""
    driver, conn = opened(name, mariadb.url(), read_timeout=seconds)
    driver.ping(conn, soon())
    began = time.monotonic()
    with pytest.raises(ERRORS) as caught:
        run(conn, "SELECT SLEEP(20)")
    assert seconds - 0.1 <= time.monotonic() - began < seconds + AT_ONCE
    assert driver.is_disconnect(caught.value)
    assert isinstance(driver.inspect(conn), str)


@each_driver
def test_statements_have_no_deadline_of_ours(mariadb: MariaDB, opened: Open, name: str) -> None:
    """C5: what limits connecting, pings and rollbacks does not limit the statements between them."""
    driver, conn = opened(name, mariadb.url())
    seconds = 1.0  # enough for a ping on a busy machine
    for use in (driver.ping, driver.rollback):
        use(conn, soon(seconds))
        assert run(conn, f"SELECT SLEEP({seconds + 0.05})") == [(0,)]


@each_driver
def test_abandon_does_not_wait_for_a_reader(mariadb: MariaDB, opened: Open, name: str) -> None:
    """R8: a connection on which another thread waits for its reply is dropped at once, and that thread ends."""
    driver, conn = opened(name, mariadb.url())
    errors: list[BaseException] = []
    sleep = f"SELECT SLEEP(20), {id(conn)}"  # not another test's, whose session the server has not missed yet

    def read() -> None:
        try:
            run(conn, sleep)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the thread must end
            errors.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    running = f"SELECT 1 FROM information_schema.processlist WHERE info = '{sleep}'"
    until(lambda: mariadb.query(running), what="the statement to run")
    assert driver.inspect(conn) == "in the middle of a statement"
    began = time.monotonic()
    driver.abandon(conn)
    thread.join(10)
    assert time.monotonic() - began < AT_ONCE
    assert len(errors) == 1


@each_driver
def test_polite_close_waits_for_nobody(proxy: TCPProxy, mariadb: MariaDB, name: str) -> None:
    """C5: saying goodbye to nobody takes no time."""
    driver = driver_of(name, proxy.url_from(mariadb.url()))
    conn = driver.connect(soon())
    proxy.deaf()
    began = time.monotonic()
    driver.close(conn)
    assert time.monotonic() - began < AT_ONCE
    proxy.hear()


def test_another_threads_call_changes_nothing(mariadb: MariaDB, opened: Open) -> None:
    """C6: mysqlclient refuses a second thread's call; the statement that runs still counts as running."""
    driver, conn = opened("mysqlclient", mariadb.url())
    number = session(conn)

    def sleep() -> None:
        with suppress(*ERRORS):  # 1317: killed
            run(conn, "SELECT SLEEP(20)")

    thread = threading.Thread(target=sleep)
    thread.start()
    running = f"SELECT 1 FROM information_schema.processlist WHERE id = {number} AND info LIKE 'SELECT SLEEP%'"
    until(lambda: mariadb.query(running), what="the statement to run")
    with pytest.raises(ERRORS, match="another thread"):
        conn.query("SELECT 1")
    assert driver.inspect(conn) == "in the middle of a statement"
    mariadb.execute(f"KILL QUERY {number}")
    thread.join(10)
    assert driver.inspect(conn) is DIRTY
