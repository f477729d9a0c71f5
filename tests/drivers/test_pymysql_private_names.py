"""What wsgidb relies on in PyMySQL beyond its documentation, held against the installed version."""

from __future__ import annotations

import ast
import inspect
import socket
import warnings
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pymysql
import pytest
from pymysql.connections import MySQLResult
from pymysql.cursors import SSCursor

from support.client import connect
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from wsgidb.drivers.mysql.observed import Observed
from wsgidb.drivers.mysql.procedures import Procedures
from wsgidb.drivers.pymysql import commands as pymysql_commands
from wsgidb.drivers.pymysql import connection as pymysql_connection
from wsgidb.drivers.pymysql import driver as driver_module
from wsgidb.drivers.pymysql import session as pymysql_session
from wsgidb.drivers.pymysql import tracked as pymysql_tracked
from wsgidb.drivers.pymysql import wire as pymysql_wire
from wsgidb.drivers.pymysql.wire import PRIVATE_NAMES

Raw: Any = pymysql.connections.Connection
VERSION = tuple(int(part) for part in pymysql.VERSION_STRING.split(".")[:2])
NEW_IN_1_2 = {"_current_timeout"}
UNDOCUMENTED: tuple[str, ...]
UNDOCUMENTED = ("autocommit_mode", "bind_address", "charset", "client_flag", "collation", "db", "host", "host_info")
UNDOCUMENTED += ("init_command", "port", "server_capabilities", "server_status", "sql_mode", "ssl", "unix_socket")

pytestmark = pytest.mark.server


class Recorded(Raw):  # type: ignore[misc]
    """Notes which of the methods that wsgidb overrides were called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.called: list[str] = []
        super().__init__(*args, **kwargs)


def _recording(name: str) -> Any:
    def method(self: Recorded, *args: Any, **kwargs: Any) -> Any:
        self.called.append(name)
        return getattr(Raw, name)(self, *args, **kwargs)

    return method


for _name in ("_execute_command", "_read_ok_packet", "_read_query_result", "_get_server_information"):
    setattr(Recorded, _name, _recording(_name))


@pytest.fixture
def raw(mariadb: MariaDB) -> Iterator[Any]:
    """A connection of PyMySQL's own class."""
    conn = connect(mariadb.url())
    yield conn
    conn._force_close()  # type: ignore[attr-defined]


@pytest.fixture
def recorded(proxy: TCPProxy) -> Iterator[Any]:
    conn = Recorded(host="127.0.0.1", port=proxy.port, user="guest", database="test", ssl_disabled=True)
    yield conn
    conn._force_close()


def accessed(module: ModuleType, owners: set[str]) -> set[str]:
    """The names with an underscore that a module uses of these variables, or of super()."""
    found = set()
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__"):
            owner = node.value.func if isinstance(node.value, ast.Call) else node.value
            if isinstance(owner, ast.Name) and owner.id in owners:
                found.add(node.attr)
    return found


def test_the_list_is_complete(raw: Any) -> None:
    """Every private name of PyMySQL that the driver's modules use is in PRIVATE_NAMES, and nothing else is."""
    ours: set[str] = set()
    modules = (pymysql_wire, pymysql_session, pymysql_commands, pymysql_connection, pymysql_tracked)
    parts = (pymysql_wire.Wire, pymysql_session.Session, pymysql_commands.Commands, pymysql_connection.Connection)
    for cls in (*parts, pymysql_tracked.Tracked, Observed, Procedures):
        ours |= vars(cls).keys() | inspect.get_annotations(cls).keys()
    used = accessed(driver_module, {"conn"})
    for module in modules:
        used |= accessed(module, {"self", "super", "conn", "Base"})
    theirs = set(dir(raw))
    assert {name for name in used if name in theirs or name not in ours} == set(PRIVATE_NAMES)


@pytest.mark.parametrize("name", [*PRIVATE_NAMES, *UNDOCUMENTED])
def test_the_name_is_there(raw: Any, name: str) -> None:
    """The installed version has it, on a connection that is open."""
    assert hasattr(raw, name) is (name not in NEW_IN_1_2 or VERSION >= (1, 2))


def test_results_tell_their_end(raw: Any) -> None:
    """has_next is None until a result's end packet came; unbuffered_active tells that rows are to come."""
    fresh = MySQLResult(raw)
    assert (fresh.has_next, fresh.unbuffered_active, fresh.connection) == (None, False, raw)
    cursor = raw.cursor(SSCursor)
    cursor.execute("SELECT seq FROM seq_1_to_3")
    assert (raw._result.has_next, raw._result.unbuffered_active) == (None, True)
    cursor.fetchall()
    assert (raw._result.has_next, raw._result.unbuffered_active, raw._result.field_count) == (0, False, 1)
    raw.query("SELECT 1")
    assert (raw._result.has_next, raw._result.rows) == (0, ((1,),))
    raw.query("SET @a = 1")
    assert (raw._result.has_next, raw._result.field_count) == (0, 0)


def test_every_command_passes_one_method(recorded: Any, proxy: TCPProxy, mariadb: MariaDB) -> None:
    """What goes over the wire after the login has gone by `_execute_command`, but for the goodbye."""
    victim: Any = connect(mariadb.url())
    commands = (
        recorded.begin, recorded.commit, recorded.rollback, recorded.show_warnings, recorded.ping,
        lambda: recorded.select_db("test"), lambda: recorded.set_character_set("utf8mb4"),
        lambda: recorded.autocommit(True), lambda: recorded.kill(victim.thread_id()),
        lambda: recorded.query("SELECT 1"), lambda: recorded.cursor().execute("SELECT 1"),
    )  # fmt: skip
    for command in commands:
        recorded.called.clear()
        with proxy.counting() as said:
            command()
        assert len(said) == 1
        assert recorded.called.count("_execute_command") == 1, said
    victim._force_close()


def test_replies_pass_two_methods(recorded: Any) -> None:
    """A statement's reply goes by `_read_query_result`, the others' by `_read_ok_packet`, but for two exceptions."""
    for command in (
        recorded.begin,
        recorded.commit,
        recorded.rollback,
        recorded.ping,
        lambda: recorded.select_db("test"),
    ):
        recorded.called.clear()
        command()
        assert recorded.called[-1] == "_read_ok_packet"
    recorded.query("SELECT 1")
    assert recorded.called[-1] == "_read_query_result"
    for exception in (recorded.show_warnings, lambda: recorded.set_character_set("utf8mb4")):
        recorded.called.clear()
        exception()
        assert recorded.called == ["_execute_command"]


def test_the_greeting_comes_before_the_login(recorded: Any) -> None:
    """`_get_server_information` is called once, and first: what it sets decides on TLS."""
    recorded._force_close()
    recorded.called.clear()
    recorded.connect()
    assert recorded.called[0] == "_get_server_information"
    assert recorded.called.count("_get_server_information") == 1


def test_all_bytes_pass_two_methods(raw: Any) -> None:
    """`_read_bytes` and `_write_bytes` of the instance are used for everything, the login included."""
    seen: list[str] = []
    read, write = raw._read_bytes, raw._write_bytes

    def reading(size: int) -> Any:
        seen.append("read")
        return read(size)

    def writing(data: bytes) -> Any:
        seen.append("write")
        return write(data)

    raw._read_bytes, raw._write_bytes = reading, writing
    for use in (raw.ping, lambda: raw.query("SELECT 1"), lambda: (raw._force_close(), raw.connect())):
        seen.clear()
        use()
        assert {"read", "write"} == set(seen)


def test_the_socket_is_the_connection(raw: Any) -> None:
    """`_sock` is a socket with a buffered reader `_rfile`; `_force_close` drops both; a reconnect makes another."""
    first = raw._sock
    assert isinstance(first, socket.socket)
    assert callable(raw._rfile.read1)
    assert callable(raw._rfile.peek)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        raw.close()
        assert raw._sock is None
        raw.ping(reconnect=True)
    assert raw._sock is not first
    raw._force_close()
    assert (raw._sock, raw._rfile) == (None, None)


def test_server_status_is_that_of_ok_packets(raw: Any) -> None:
    """The transaction rule: neither the end of a result set nor an error renews server_status."""
    in_transaction = 1
    raw.query("SELECT 1 FROM information_schema.tables LIMIT 1")
    raw.query("BEGIN")
    assert raw.server_status & in_transaction
    raw.server_status &= ~in_transaction
    raw.query("SELECT 1")
    assert not raw.server_status & in_transaction
    with pytest.raises(pymysql.OperationalError):
        raw.query("SELECT no_such_column")
    assert not raw.server_status & in_transaction
    raw.ping()
    assert raw.server_status & in_transaction
