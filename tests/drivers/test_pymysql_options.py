"""What a url's query and connect_args may say to PyMySQL."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from pymysql.constants import CLIENT
from pymysql.cursors import DictCursor
from pymysql.err import OperationalError

from support.mariadb import MariaDB
from support.packets import error
from support.proxy import TCPProxy
from wsgidb import ConfigError, TransactionLost
from wsgidb.config.settings import Settings
from wsgidb.drivers import make_driver
from wsgidb.drivers.base import Driver
from wsgidb.drivers.states import CLEAN


def driver_of(url: str, **options: Any) -> Driver:
    return make_driver(Settings.of({"url": url, **options}))


def soon() -> float:
    return time.monotonic() + 10


@pytest.fixture
def conn(mariadb: MariaDB) -> Iterator[Any]:
    """A connection whose url gives one value of each kind."""
    url = mariadb.url(
        cursorclass="DictCursor",
        charset="latin1",
        local_infile="yes",
        max_allowed_packet=1048576,
        sql_mode="ANSI_QUOTES",
    )
    driver = driver_of(url)
    made = driver.connect(soon())
    yield made
    driver.close(made)


@pytest.mark.server
def test_query_values_reach_the_driver_in_its_types(conn: Any) -> None:
    """A url's values are text; PyMySQL gets classes, whole numbers and booleans."""
    assert conn.cursorclass is DictCursor
    assert conn.max_allowed_packet == 1048576
    assert conn._local_infile is True
    with conn.cursor() as cursor:
        cursor.execute('SELECT @@character_set_client AS "a", @@sql_mode AS "b"')
        assert cursor.fetchone() == {"a": "latin1", "b": "ANSI_QUOTES"}


@pytest.mark.server
@pytest.mark.parametrize(("transaction", "guarded"), [("request", True), ("manual", False)])
def test_only_a_request_that_is_one_transaction_is_guarded(
    mariadb: MariaDB, proxy: TCPProxy, transaction: str, guarded: bool
) -> None:
    """R10: what transaction=request refuses after a loss is a handler's own affair else."""
    driver = driver_of(proxy.url_from(mariadb.url()), transaction=transaction)
    conn = driver.connect(soon())
    proxy.answer("SELECT 1", lambda: error(1213, "40001", "Deadlock found"))
    with pytest.raises(OperationalError, match="1213"):
        conn.query("SELECT 1")
    with pytest.raises(TransactionLost) if guarded else nullcontext():
        driver.commit(conn)
    driver.abandon(conn)


@pytest.mark.server
def test_password_of_any_letters(mariadb: MariaDB) -> None:
    """A percent-encoded password is sent as UTF-8, whichever name it has: PyMySQL itself would take Latin-1, and fail
    at the others."""
    for password in ("p@ss/w%rd:x?#", "żółć", "é"):
        mariadb.execute("CREATE USER odd@'%%' IDENTIFIED BY %s", password)
        try:
            for given in (
                driver_of(mariadb.url("odd", database="", password=password)),
                driver_of(mariadb.url("odd", database=""), connect_args={"passwd": password}),
            ):
                given.close(given.connect(soon()))
        finally:
            mariadb.execute("DROP USER odd@'%'")


@pytest.mark.server
def test_rotated_password(mariadb: MariaDB) -> None:
    """connect_args: a callable's password counts from the next connect on, and is not kept."""
    passwords = ["p@ss/w%rd:x", "wrong", "p@ss/w%rd:x"]
    driver = driver_of(mariadb.url("app", password="old"), connect_args=lambda: {"password": passwords.pop(0)})
    driver.close(driver.connect(soon()))
    with pytest.raises(Exception, match="1045"):
        driver.connect(soon())
    driver.close(driver.connect(soon()))


@pytest.mark.server
def test_unix_socket(mariadb: MariaDB) -> None:
    """A url without a host goes by the Unix socket of its query, and C2 holds there, too."""
    driver = driver_of(f"mysql://guest@/test?unix_socket={mariadb.socket}")
    conn = driver.connect(soon())
    assert driver.inspect(conn) is CLEAN
    assert not driver.watch(conn)(0)
    driver.ping(conn, soon())
    driver.close(conn)


CAPABILITIES = CLIENT.PROTOCOL_41 | CLIENT.SECURE_CONNECTION | CLIENT.PLUGIN_AUTH
GREETING = (
    b"\x0a8.0.0\0\1\0\0\0" + b"saltsalt\0" + CAPABILITIES.to_bytes(4, "little")[:2] + b"\x2d\2\0"
    + CAPABILITIES.to_bytes(4, "little")[2:] + b"\x15" + bytes(10) + b"saltsaltsalt\0" + b"caching_sha2_password\0"
)  # fmt: skip
FULL_AUTHENTICATION = b"\x01\x04"


def test_unix_socket_takes_a_password_as_it_is(tmp_path: Path) -> None:
    """Nobody listens in on a Unix socket: MySQL 8 is told the password itself, and asked for no key."""
    path = str(tmp_path / "mysqld")
    heard = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()

        def serve() -> None:
            with listener.accept()[0] as client:
                for number, packet in ((0, GREETING), (2, FULL_AUTHENTICATION)):
                    client.sendall(len(packet).to_bytes(3, "little") + bytes([number]) + packet)
                    heard.append(client.recv(4096))

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(OperationalError):  # as the server leaves
            driver_of(f"mysql://guest:secret@/test?unix_socket={path}").connect(soon())
        thread.join(10)
    assert heard[1][4:] == b"secret\0"


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("max_allowed_packet=many", "max_allowed_packet: takes int, got 'many'"),
        ("local_infile=perhaps", "local_infile: takes bool, got 'perhaps'"),
        ("cursorclass=Dictcursor", "no cursor class 'Dictcursor'"),
        ("cursorclass=RE_INSERT_VALUES", "no cursor class"),
        ("cursorclass=DictCursorMixin", "no cursor class"),
        ("conv=int", "conv: is no text; give it by connect_args"),
        ("charsett=utf8mb4", "did you mean 'charset'"),
        ("autocommit=1", "use wsgidb's option transaction"),
        ("read_timeout=1", "use wsgidb's option read_timeout"),
        ("ssl_verify_cert=1", "use wsgidb's option ssl_mode"),
        ("defer_connect=1", "wsgidb needs it"),
        ("host=other", "before the url's question mark"),
        ("password=secret", "before the url's question mark"),
    ],
)
def test_bad_query(query: str, message: str) -> None:
    """What PyMySQL does not know or wsgidb decides is a ConfigError at start-up that names it, and no password."""
    with pytest.raises(ConfigError, match=message) as caught:
        driver_of(f"mysql://guest@db.example/test?{query}")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("name", ["autocommit", "ssl", "connect_timeout", "no_such_argument"])
def test_bad_connect_args(name: str) -> None:
    """The same for connect_args: at start-up, or at the connect where it is a callable."""
    with pytest.raises(ConfigError, match=name):
        driver_of("mysql://guest@db.example/test", connect_args={name: 1})
    with pytest.raises(ConfigError, match=name):
        driver_of("mysql://guest@db.example/test", connect_args=lambda: {name: 1}).connect(soon())


def test_no_host() -> None:
    """A url that leads nowhere is a ConfigError."""
    with pytest.raises(ConfigError, match="names no host"):
        driver_of("mysql://guest@/test")
