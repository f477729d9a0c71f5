"""What wsgidb uses of MySQL Connector/Python beyond its documentation, held against the installed version."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from typing import Any

import mysql.connector
import pytest

from support.mariadb import MariaDB
from support.proxy import TCPProxy
from wsgidb.drivers.mysqlconnector import (
    connection as mysqlconnector_connection,
)
from wsgidb.drivers.mysqlconnector import driver as mysqlconnector
from wsgidb.drivers.mysqlconnector import session as mysqlconnector_session
from wsgidb.drivers.mysqlconnector import wire as mysqlconnector_wire
from wsgidb.drivers.mysqlconnector.wire import PRIVATE_NAMES

pytestmark = pytest.mark.server

Raw: Any = mysql.connector.MySQLConnection


@pytest.fixture
def raw(proxy: TCPProxy, mariadb: MariaDB) -> Iterator[Any]:
    """A connection of the driver's own class."""
    conn = Raw(host="127.0.0.1", port=proxy.port, user="guest", database="test", ssl_disabled=True)
    yield conn
    conn.close()


def private(module: Any, owners: set[str]) -> set[str]:
    """The names with an underscore that a module uses of these variables, or of super()."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value.func if isinstance(node.value, ast.Call) else node.value
            if isinstance(owner, ast.Name) and owner.id in owners:
                found.add(node.attr)
    return found


def test_the_list_is_complete(raw: Any) -> None:
    """Every private name of the driver's connection that is used is listed, and nothing else is."""
    connection = mysqlconnector_connection.Connection
    ours: set[str] = set()
    used = private(mysqlconnector, {"conn"}) | private(mysqlconnector_wire, {"conn"})
    used |= {*mysqlconnector_session.SENT, *mysqlconnector_session.HELD}
    theirs = {name for name in dir(raw) if not name.startswith("__")}
    for cls in connection.__mro__:
        if cls.__module__.startswith("wsgidb."):
            ours |= vars(cls).keys() | inspect.get_annotations(cls).keys()
            used |= {name for name in vars(cls) if name.startswith("_")} & theirs - {"_abc_impl"}
        if cls.__module__.startswith("wsgidb.drivers.mysqlconnector."):
            used |= private(cls, {"self", "super"})
    assert {name for name in used if name in theirs or name not in ours} == set(PRIVATE_NAMES)


@pytest.mark.parametrize("name", PRIVATE_NAMES)
def test_the_name_is_there(raw: Any, name: str) -> None:
    """The installed version has it, on a connection that is open."""
    assert hasattr(raw, name)


def test_every_command_passes_one_method(raw: Any, proxy: TCPProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    """What goes over the wire after the login has gone by `_send_cmd`."""
    sent: list[int] = []
    send = Raw._send_cmd

    def recorded(self: Any, command: int, *args: Any, **options: Any) -> Any:
        sent.append(command)
        return send(self, command, *args, **options)

    monkeypatch.setattr(Raw, "_send_cmd", recorded)
    with proxy.counting() as said:
        raw.commit()
        raw.rollback()
        raw.ping()
        raw.cmd_init_db("test")
        raw.cmd_query("SET @a = 1")
        raw.start_transaction()
        raw.cmd_reset_connection()
        with raw.cursor(prepared=True) as cursor:
            cursor.execute("SELECT ?", (1,))
            cursor.fetchall()
    assert len(said) == len(sent)


def test_status_comes_with_every_end(raw: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`_handle_server_status` is told of each OK packet, and of each result twice: behind its columns and its rows."""
    told: list[int] = []
    monkeypatch.setattr(Raw, "_handle_server_status", lambda self, flags: told.append(flags))
    raw._have_next_result = False
    raw.cmd_query("SET @a = 1")
    assert len(told) == 1
    raw.cmd_query("SELECT 1")
    assert len(told) == 2
    raw.get_rows()
    assert len(told) == 3


def test_the_socket_is_one_object_per_session(raw: Any) -> None:
    """`_socket` has the socket in `sock`; a reconnect makes another."""
    first = raw._socket
    assert first.sock.fileno() >= 0
    raw.close()
    assert first.sock.fileno() == -1
    raw.reconnect()
    assert raw._socket is not first


def test_packets_pass_the_broker(raw: Any) -> None:
    """`send` and `recv` of the socket object are used for everything; errors come as packets that begin with 0xff."""
    with pytest.raises(mysql.connector.Error):
        raw.cmd_query("SELECT no_such_column")
    seen: list[Any] = []
    recv = raw._socket.recv

    def recorded(*args: Any, **options: Any) -> Any:
        seen.append(recv(*args, **options))
        return seen[-1]

    raw._socket.recv = recorded
    with pytest.raises(mysql.connector.Error):
        raw.cmd_query("SELECT no_such_column")
    assert (seen[0][4], int.from_bytes(seen[0][5:7], "little")) == (0xFF, 1054)
