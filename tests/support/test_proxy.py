"""The network between client and server does what it is told, and hears every command."""

from __future__ import annotations

import os
import select
import socket
import threading
import time
import warnings

import pymysql
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.client import connect, value
from support.mariadb import MariaDB
from support.packets import CommandReader, error
from support.ports import bind
from support.proxy import TCPProxy
from support.waiting import until

RESET_CONNECTION = 0x1F
PING = b"\1\0\0\0\x0e"
LOST = pymysql.err.OperationalError


def test_proxy_names_the_commands_of_a_block(mariadb: MariaDB, proxy: TCPProxy) -> None:
    connection = connect(proxy.url_from(mariadb.url("app")))
    with proxy.counting() as seen:
        value(connection, "SELECT 1")
        connection.ping(reconnect=False)
        connection._execute_command(RESET_CONNECTION, b"")  # type: ignore[attr-defined]
        connection._read_ok_packet()  # type: ignore[attr-defined]
        connection.close()
    assert seen == ["QUERY SELECT 1", "PING", "RESET_CONNECTION", "QUIT"]
    assert proxy.connections == 1
    until(lambda: proxy.open_connections == 0)


def test_counts_include_what_the_thread_has_not_seen_yet(mariadb: MariaDB, proxy: TCPProxy) -> None:
    connection = connect(proxy.url_from(mariadb.url()))
    mark = proxy.mark()
    with proxy._lock:  # the thread cannot move
        connection._sock.sendall(PING)  # type: ignore[attr-defined]
        assert select.select([proxy._pipes[0].client], [], [], 10)[0]
        assert proxy.commands_since(mark) == ["PING"]


def test_an_end_is_passed_on(mariadb: MariaDB, proxy: TCPProxy) -> None:
    connection = connect(proxy.url_from(mariadb.url("app")))
    session = connection.thread_id()  # type: ignore[no-untyped-call]
    connection._force_close()  # type: ignore[attr-defined]
    until(lambda: session not in mariadb.processes("app"), what="the server to notice")
    until(lambda: proxy.open_connections == 0)


def test_proxy_does_not_read_tls(tls_mariadb: MariaDB) -> None:
    with TCPProxy(tls_mariadb.port) as proxy:
        url = proxy.url_from(tls_mariadb.url())
        assert value(connect(url, ssl_ca=str(tls_mariadb.ca)), "SELECT 1") == 1
        assert proxy.commands == []


def test_cut_resets_all_connections_and_new_ones_work(mariadb: MariaDB, proxy: TCPProxy) -> None:
    connections = [connect(proxy.url_from(mariadb.url())) for _ in range(20)]
    assert proxy.cut() == 20
    for connection in connections:
        with pytest.raises(LOST, match=r"reset|Broken"):
            connection.ping(reconnect=False)
    assert value(connect(proxy.url_from(mariadb.url())), "SELECT 1") == 1


def test_an_answer_is_the_clients_only(mariadb: MariaDB, proxy: TCPProxy) -> None:
    """The server never sees the statement, and the session goes on; once."""
    connection = connect(proxy.url_from(mariadb.url()))
    done = proxy.answer("SELECT 1", lambda: error(1213, "40001", "Deadlock"))
    assert value(connection, "SELECT 2") == 2
    assert not done.is_set()
    with pytest.raises(LOST, match="Deadlock") as caught:
        value(connection, "SELECT 1")
    assert caught.value.args[0] == 1213
    assert done.is_set()
    assert value(connection, "SELECT 1") == 1
    connection.close()


def test_an_answer_of_nothing_is_silence_and_none_lets_the_statement_pass(mariadb: MariaDB, proxy: TCPProxy) -> None:
    connection = connect(proxy.url_from(mariadb.url()))
    passed = proxy.answer("SELECT 1", lambda: None)
    assert value(connection, "SELECT 1") == 1
    assert passed.is_set()
    silent = proxy.answer("SELECT 1", lambda: b"")
    connection._read_timeout = 0.1  # type: ignore[attr-defined]
    with pytest.raises(LOST, match="timed out"):
        value(connection, "SELECT 1")
    assert silent.wait(10), "the client may have given up before the proxy has read"


def test_deaf_proxy_accepts_and_forwards_nothing_until_it_hears(mariadb: MariaDB, proxy: TCPProxy) -> None:
    url = proxy.url_from(mariadb.url("app"))
    old = connect(url)
    proxy.deaf()
    old._sock.sendall(PING)  # type: ignore[attr-defined]
    with pytest.raises(LOST, match="timed out"):
        connect(url, read_timeout=0.1)
    assert proxy.connections == 2
    old._sock.settimeout(0.1)  # type: ignore[attr-defined]
    with pytest.raises(TimeoutError):
        old._sock.recv(1)  # type: ignore[attr-defined]
    proxy.hear()
    old._sock.settimeout(10)  # type: ignore[attr-defined]
    assert old._sock.recv(1)  # type: ignore[attr-defined]
    assert value(connect(url), "SELECT 1") == 1


def test_forgotten_connections_are_silent_for_ever_and_new_ones_work(mariadb: MariaDB, proxy: TCPProxy) -> None:
    url = proxy.url_from(mariadb.url("app"))
    before = set(mariadb.processes("app"))
    old = connect(url)
    old._read_timeout = 0.1  # type: ignore[attr-defined]
    assert proxy.forget() == 1
    with pytest.raises(LOST, match="timed out"):
        old.ping(reconnect=False)
    assert value(connect(url), "SELECT 1") == 1
    assert old.thread_id() in set(mariadb.processes("app")) - before, "the server knows nothing"  # type: ignore[no-untyped-call]


def test_refusing_proxy_keeps_its_port_and_its_connections(mariadb: MariaDB, proxy: TCPProxy) -> None:
    url = proxy.url_from(mariadb.url())
    old = connect(url)
    proxy.refuse()
    with pytest.raises(LOST, match="refused"):
        connect(url)
    assert value(old, "SELECT 1") == 1
    proxy.accept()
    assert value(connect(url), "SELECT 1") == 1


def test_refusing_proxy_gives_its_port_to_nobody(proxy: TCPProxy) -> None:
    proxy.refuse()
    with pytest.raises(OSError, match="in use"), socket.socket() as thief:
        thief.bind(("127.0.0.1", proxy.port))


def test_retarget_leads_new_connections_elsewhere(mariadb: MariaDB, tls_mariadb: MariaDB, proxy: TCPProxy) -> None:
    old = connect(proxy.url_from(mariadb.url()))
    proxy.retarget(tls_mariadb.port)
    assert value(connect(proxy.url_from(mariadb.url())), "SELECT @@port") == tls_mariadb.port
    assert value(old, "SELECT @@port") == mariadb.port


@pytest.mark.parametrize("reply", [False, True])
def test_break_after_loses_the_command_or_its_reply(mariadb: MariaDB, proxy: TCPProxy, reply: bool) -> None:
    mariadb.execute("CREATE OR REPLACE TABLE broken (n INT)")
    connection = connect(proxy.url_from(mariadb.url()), autocommit=True)
    broke = proxy.break_after(2, reply=reply)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO broken VALUES (1)")
        assert not broke.is_set()
        with pytest.raises(LOST, match="reset"):
            cursor.execute("INSERT INTO broken VALUES (2)")
    assert broke.is_set()
    assert (2 if reply else 1) == mariadb.query("SELECT COUNT(*) FROM broken")[0][0]
    mariadb.execute("DROP TABLE broken")


def test_a_lost_reply_is_to_a_statement_that_was_executed(mariadb: MariaDB, proxy: TCPProxy) -> None:
    mariadb.execute("CREATE OR REPLACE TABLE broken (n INT)")
    connection, other = (connect(proxy.url_from(mariadb.url()), autocommit=True) for _ in range(2))
    lost = proxy.lose_reply("INSERT INTO broken VALUES (1)")
    assert value(connection, "SELECT 1") == 1
    assert not lost.is_set()
    with connection.cursor() as cursor, pytest.raises(LOST, match="reset"):
        cursor.execute("INSERT INTO broken VALUES (1)")
    assert lost.is_set()
    with other.cursor() as cursor:
        cursor.execute("INSERT INTO broken VALUES (1)")
    assert mariadb.query("SELECT COUNT(*) FROM broken") == [(2,)], "the first was made, and the second heard of"
    mariadb.execute("DROP TABLE broken")


def test_delay_holds_each_direction_back(mariadb: MariaDB, proxy: TCPProxy) -> None:
    connection = connect(proxy.url_from(mariadb.url()))
    proxy.delay = 0.05
    before = time.monotonic()
    connection.ping(reconnect=False)
    assert 0.1 <= time.monotonic() - before < 5


def test_much_data_passes_through_a_slow_reader(mariadb: MariaDB, proxy: TCPProxy) -> None:
    connection = connect(proxy.url_from(mariadb.url()))
    text = "x" * 12_000_000
    assert value(connection, f"SELECT '{text}'") == text


def test_proxy_without_a_server_behind_it_resets() -> None:
    def first_byte(client: socket.socket) -> None:
        client.settimeout(10)
        client.connect(("127.0.0.1", proxy.port))  # fails already, if the reset is quick
        client.recv(1)

    with (
        bind() as nobody,
        TCPProxy(nobody.getsockname()[1]) as proxy,
        socket.socket() as client,
        pytest.raises(ConnectionError),
    ):
        first_byte(client)


def sockets() -> set[str]:
    """This process's sockets by inode: numbers of descriptors are used again."""
    with os.scandir("/proc/self/fd") as entries:
        links = [os.readlink(entry.path) for entry in entries if os.path.islink(entry.path)]
    return {link for link in links if link.startswith("socket:")}


def test_closed_proxy_leaves_no_thread_and_no_socket(mariadb: MariaDB) -> None:
    before = sockets()
    proxy = TCPProxy(mariadb.port)
    clients = [connect(proxy.url_from(mariadb.url())) for _ in range(3)]
    proxy.forget()
    clients.append(connect(proxy.url_from(mariadb.url())))
    assert len(sockets() - before) >= 12, "both ends of each client's connection, and one to the server"
    proxy.close()
    for client in clients:
        client._force_close()  # type: ignore[attr-defined]
    assert sockets() <= before
    assert f"proxy-{proxy.port}" not in {thread.name for thread in threading.enumerate()}


def test_forked_child_does_not_hold_a_cut_connection_open(mariadb: MariaDB, proxy: TCPProxy) -> None:
    connection = connect(proxy.url_from(mariadb.url()))
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # forking with threads is what is tested
        pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    try:
        proxy.cut()
        with pytest.raises(LOST, match=r"reset|Broken"):
            connection.ping(reconnect=False)
        assert value(connect(proxy.url_from(mariadb.url())), "SELECT 1") == 1
    finally:
        os.close(writer)
        os.waitpid(pid, 0)
        os.close(reader)


def packet(sequence: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([sequence]) + payload


LOGIN = packet(1, b"\0" * 36) + packet(3, b"\0secret")


@given(st.lists(st.binary(min_size=1, max_size=9), max_size=5), st.data())
def test_commands_are_found_however_the_stream_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = LOGIN + b"".join(packet(0, payload) for payload in payloads)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    reader, found, rest = CommandReader(), [], []
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        for offset, command in reader.feed(stream[start:end]):
            found.append(bytes([command.code]) + command.payload)
            rest.append(len(stream) - start - offset)
    assert payloads == found
    assert [sum(4 + len(later) for later in payloads[n + 1 :]) for n in range(len(payloads))] == rest


def test_long_command_is_one_command() -> None:
    size = 0xFFFFFF
    stream = LOGIN + packet(0, b"\3" + b"x" * (size - 1)) + packet(1, b"y" * size) + packet(2, b"") + packet(0, b"\x0e")
    found = [(command.code, len(command.payload)) for _, command in CommandReader().feed(stream)]
    assert [(3, 2 * size - 1), (0x0E, 0)] == found


@pytest.mark.parametrize(("flags", "seen"), [(0, 1), (0x0800, 0), (0x0020, 0)])
def test_nothing_is_read_into_tls_or_compression(flags: int, seen: int) -> None:
    login = packet(1, flags.to_bytes(4, "little") + b"\0" * 28)
    assert seen == len(list(CommandReader().feed(login + PING)))
