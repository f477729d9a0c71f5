"""The ground the other tests stand on holds: server, fake driver and clock do what they say."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pymysql
import pytest

from support.client import connect, value
from support.clock import Clock
from support.fakedb import FakeDB
from support.mariadb import MariaDB, find_mariadbd
from support.waiting import until

RESET_CONNECTION = 0x1F
LOST = pymysql.err.OperationalError


@pytest.mark.parametrize("user", ["guest", "app"])
def test_users_own_the_test_database_and_nothing_else(mariadb: MariaDB, user: str) -> None:
    with connect(mariadb.url(user)) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE owned (n INT)")
        cursor.execute("DROP TABLE owned")
        with pytest.raises(pymysql.err.OperationalError, match="RELOAD"):
            cursor.execute("FLUSH TABLES")
        with pytest.raises(pymysql.err.OperationalError, match="denied"):
            cursor.execute("CREATE DATABASE other")
        cursor.execute("SELECT DISTINCT user FROM information_schema.processlist")
        assert cursor.fetchall() == ((user,),), "PROCESS is not granted"


def test_url_is_percent_encoded(mariadb: MariaDB) -> None:
    port = mariadb.port
    assert f"mysql+pymysql://guest@127.0.0.1:{port}/test" == mariadb.url()
    assert f"mysql+pymysql://app:p%40ss%2Fw%25rd%3Ax@127.0.0.1:{port}/d%2F?a=b%26c&d=1" == mariadb.url(
        "app", "d/", a="b&c", d=True
    )


def test_server_offers_tls_only_when_asked(mariadb: MariaDB, tls_mariadb: MariaDB) -> None:
    (have,) = mariadb.query("SHOW VARIABLES LIKE 'have_ssl'")
    assert have == ("have_ssl", "DISABLED")
    options = {"ssl_ca": str(tls_mariadb.ca), "ssl_verify_cert": True, "ssl_verify_identity": True}
    with connect(tls_mariadb.url(), **options) as connection, connection.cursor() as cursor:
        cursor.execute("SHOW STATUS LIKE 'Ssl_cipher'")
        assert cursor.fetchall()[0][1] != ""


def test_restart_keeps_port_and_data_and_a_crash_keeps_what_was_committed(own_mariadb: MariaDB) -> None:
    port = own_mariadb.port
    own_mariadb.execute("CREATE TABLE kept (n INT)")
    assert own_mariadb.execute("INSERT INTO kept VALUES (1), (2)") == 2
    own_mariadb.restart()
    own_mariadb.execute("INSERT INTO kept VALUES (3)")
    own_mariadb.kill()
    own_mariadb.start()
    assert own_mariadb.query("SELECT n FROM kept ORDER BY n") == [(1,), (2,), (3,)]
    assert own_mariadb.port == port


def test_frozen_server_is_silent_until_thawed_and_can_be_closed() -> None:
    server = MariaDB(wait_timeout=77)
    try:
        server.start()
        assert server.query("SELECT @@global.wait_timeout") == [(77,)]
        with connect(server.url()) as connection:
            connection._read_timeout = 0.1  # type: ignore[attr-defined]  # not for the login
            server.freeze()
            with pytest.raises(LOST, match="timed out"):
                connection.ping(reconnect=False)
        server.thaw()
        assert value(connect(server.url()), "SELECT 1") == 1
        server.freeze()
    finally:
        server.close()
    assert not server.running
    assert not server.directory.exists()


def test_server_that_does_not_start_shows_its_log_and_keeps_its_port() -> None:
    server = MariaDB(no_such_variable=1)
    try:
        with pytest.raises(RuntimeError, match=r"ended.*no_such_variable"):
            server.start()
        with pytest.raises(OSError, match="in use"), socket.socket() as thief:
            thief.bind(("127.0.0.1", server.port))
    finally:
        server.close()


def test_sessions_are_listed_and_killed(mariadb: MariaDB) -> None:
    mariadb.kill_connections("app")  # what other tests have left
    victims = [connect(mariadb.url("app")) for _ in range(2)]
    assert sorted(victim.thread_id() for victim in victims) == mariadb.processes("app")  # type: ignore[no-untyped-call]
    kills = mariadb.status("Com_kill")
    assert mariadb.kill_connections("app") == 2
    assert mariadb.processes("app") == []
    assert mariadb.status("Com_kill") == kills + 2
    for victim in victims:
        with pytest.raises(LOST):
            victim.ping(reconnect=False)


def test_server_does_not_outlive_a_killed_test_run() -> None:
    code = "from support.mariadb import *; m = MariaDB(); m.start(); print(m.pid, m.directory, flush=True); input()"
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parent)}
    child = subprocess.Popen([sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    with child:
        assert child.stdout is not None
        pid, directory = child.stdout.readline().decode().split()
        assert Path(f"/proc/{pid}").exists()
        child.send_signal(signal.SIGKILL)
    until(lambda: not Path(directory).exists(), 60, "the guard to clean up")
    remains = Path(f"/proc/{pid}/cmdline")  # empty, where nobody buried it
    assert not remains.exists() or not remains.read_bytes()


def test_missing_server_is_a_skip_and_in_ci_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name, path: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="mariadb-server-core"):
        find_mariadbd()
    monkeypatch.setenv("CI", "true")
    # Both are caught, since an unexpected skip would only skip this test.
    with pytest.raises((pytest.fail.Exception, pytest.skip.Exception), match="mariadb-server-core") as caught:
        find_mariadbd()
    assert caught.type is pytest.fail.Exception


def test_fakedb_records_and_counts(fakedb: FakeDB) -> None:
    first, second = fakedb.connect(), fakedb.connect(host="h")
    cursor = second.cursor()
    cursor.execute("SELECT 1")
    assert list(cursor) == [(1,)]
    assert cursor.description is not None
    cursor.executemany("INSERT", [(1,), (2,)])
    assert cursor.rowcount == 2
    first.close()
    assert fakedb.calls[:3] == [(1, "connect", None), (2, "connect", None), (2, "cursor", None)]
    assert fakedb.statements(connection=2) == ["SELECT 1", "INSERT"]
    assert (fakedb.opened, fakedb.closed, fakedb.open_now, fakedb.most_open) == (2, 1, 1, 2)
    assert second.kwargs == {"host": "h"}
    for use in (first.cursor, first.commit, first.rollback, first.ping, first.close):
        with pytest.raises(FakeDB.InterfaceError):
            use()


class Killed(BaseException):
    """As gevent's GreenletExit or a worker's timeout."""


def test_fakedb_fails_where_it_is_told(fakedb: FakeDB) -> None:
    first, second = fakedb.connect(), fakedb.connect()
    error = Killed()
    fakedb.fail("rollback", error, n=2, connection=2)
    first.rollback()
    second.rollback()
    first.rollback()
    with pytest.raises(Killed) as caught:
        second.rollback()
    assert caught.value is error
    second.rollback()
    fakedb.fail("connect", FakeDB.OperationalError(2003))
    with pytest.raises(FakeDB.Error):
        fakedb.connect()
    fakedb.fail("close", OSError())
    with pytest.raises(OSError, match=r"^$"):
        first.close()
    assert (fakedb.opened, fakedb.closed, fakedb.open_now) == (2, 1, 1), "closed, though it said otherwise"
    assert fakedb.pending == []


def test_fakedb_waits_at_a_gate(fakedb: FakeDB) -> None:
    gate = fakedb.block("commit")
    connection = fakedb.connect()
    thread = threading.Thread(target=connection.commit)
    thread.start()
    assert gate.entered.wait(10)
    assert thread.is_alive()
    gate.open()
    thread.join(10)
    assert not thread.is_alive()
    connection.commit()


def test_clock_stands_still_until_advanced(clock: Clock) -> None:
    start = clock()
    assert start == clock()
    assert start + 2.5 == clock.advance(2.5) == clock()
    with pytest.raises(ValueError, match="back"):
        clock.advance(-1)


def test_until_returns_the_value_or_says_what_it_waited_for() -> None:
    values = iter([0, "", 7])
    assert until(lambda: next(values)) == 7
    with pytest.raises(AssertionError, match=r"in vain for Godot.*None"):
        until(lambda: None, timeout=0.01, what="Godot")
