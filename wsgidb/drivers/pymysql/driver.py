"""MySQL and MariaDB through PyMySQL 1.1.2 or newer."""

from __future__ import annotations

import inspect as introspect
import os
import socket
import ssl
import time
from collections import deque
from collections.abc import Mapping
from itertools import repeat
from typing import Any, ClassVar

import pymysql
from pymysql.constants import CLIENT
from pymysql.err import Error, OperationalError

from ...config.settings import Settings
from ...errors import TransactionLost
from .. import sockets, tls
from ..mysql import positions
from ..mysql.arguments import OWNED, converter, cursor_class
from ..mysql.driver import MySQLDriver
from ..mysql.observed import DISCONNECTS, NO_TLS
from ..mysql.sessions import USUAL
from ..states import Check, Clock, Position
from ..tracing import traced
from .connection import Connection
from .tracked import Tracked

GOODBYE = 0.1
"""Seconds that sending COM_QUIT may take: only a full send buffer makes it wait."""

PARAMETERS = introspect.signature(pymysql.connections.Connection.__init__).parameters


class PyMySQL(MySQLDriver):
    name = "PyMySQL"
    cursor_attributes: ClassVar[tuple[str, ...]] = ("_result", "escape")
    changed_in_place: ClassVar[tuple[str, ...]] = ("encoders", "decoders")
    when_returned: ClassVar[Mapping[str, Any]] = {"open": False}
    connection_class: Any = Connection
    owned: ClassVar[dict[str, str]] = {**OWNED, "defer_connect": ""}
    parameters: ClassVar[dict[str, Any]] = {
        **{name: converter(each.default) for name, each in PARAMETERS.items() if name != "self"},
        "conv": None,
        "auth_plugin_map": None,
        "cursorclass": cursor_class("PyMySQL", pymysql.cursors, pymysql.cursors.Cursor),
    }
    disconnects: ClassVar[frozenset[Any]] = DISCONNECTS | {"Already closed"}
    error: ClassVar[type[Exception]] = Error

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        super().__init__(settings, clock)
        self._context = None if self._tls_off(self._arguments) else tls.context(settings)
        self._tracks = False
        # The latest arguments, and of a connection object that was made by them: class, attributes, which are copied.
        self._latest: tuple[Any, Any, dict[str, Any], list[str]] = (None, None, {}, [])

    def operational_error(self, code: int, text: str) -> Exception:
        return OperationalError(code, text)

    # -- may block

    def _open(self, arguments: dict[str, Any], deadline: float) -> Connection:
        """TCP, greeting, TLS, login and init_sql, all before the deadline, but for looking the host's name up."""
        conn = self._constructed(arguments)
        conn._begin_record(self.clock)
        conn._tls = None if self._tls_off(arguments) else self._context
        conn._tls_required = self._tls_required
        try:
            with self._own_work(conn, deadline):
                conn._log_in(self._socket(conn, deadline), self.autocommit)
                if self._tls_required and not isinstance(conn._sock, ssl.SSLSocket):
                    raise OperationalError(NO_TLS, "PyMySQL connected without TLS, but ssl_mode requires it")
                if self._tracks:
                    conn._own_assignments = (positions.TRACK[self._is_mariadb(conn)],)
                conn._set_session()
                conn._run_init_command()
                if self._whole_session:
                    conn._remember_role()
                self._run_init_sql(conn)
            conn._own_socket = conn._sock
            self.call_on_connect(conn, deadline)
        except BaseException:
            conn._abandon(busy=False)
            raise
        conn._guarded, conn._shows_all = self.settings.transaction == "request", self.autocommit
        conn._usual = frozenset() if conn.client_flag & CLIENT.MULTI_STATEMENTS else USUAL
        conn._seen.used = False
        return conn

    def _constructed(self, arguments: dict[str, Any]) -> Connection:
        """A connection object that is not connected. PyMySQL's constructor takes as long as sending a command, so it is
        called for the first of several with the same arguments, and the others are made like that one."""
        latest, cls, attributes, copied = self._latest
        if arguments is not latest:
            given = dict(arguments)
            if isinstance(given["password"], str):
                given["password"] = given["password"].encode()  # PyMySQL itself would take Latin-1
            if self._tracks:
                given["client_flag"] = given.get("client_flag", 0) | positions.SESSION_TRACK
            conn: Connection = self.connection_class(
                **given,
                autocommit=self.autocommit,
                read_timeout=self.settings.read_timeout,
                write_timeout=self.settings.write_timeout,
                defer_connect=True,
                ssl_disabled=True,
            )
            found = dict(vars(conn))
            copied = [name for name, value in found.items() if type(value) is dict]
            self._latest = arguments, type(conn), found, copied
            return conn
        made: Connection = cls.__new__(cls)
        # Not by vars(made), after which CPython finds attributes more slowly.
        deque(map(setattr, repeat(made), attributes.keys(), attributes.values()), maxlen=0)
        for name in copied:
            setattr(made, name, attributes[name].copy())
        made._connect_attrs["_pid"] = str(os.getpid())
        return made

    def written(self, conn: Connection, deadline: float, ask: bool) -> Position:
        if not isinstance(conn, Tracked):
            return super().written(conn, deadline, ask)
        position, untold = conn._take_position()
        if not (ask and untold):
            return position
        return {**super().written(conn, deadline, ask), **position}

    def _socket(self, conn: Connection, deadline: float) -> socket.socket:
        """PyMySQL's own connecting would give each of a host's addresses the whole timeout."""
        where = conn.unix_socket or f"{conn.host}:{conn.port}"
        try:
            if not conn.unix_socket:
                made = sockets.connect_tcp(conn.host, conn.port, deadline, self.clock, conn.bind_address)
            else:
                made = sockets.connect_unix(conn.unix_socket, deadline, self.clock)
                conn._secure = True
        except OSError as error:
            raise OperationalError(2003, f"cannot connect to {where} ({error})") from error
        conn.host_info = f"socket {where}"
        return made

    def commit(self, conn: Connection) -> None:
        if not conn._seen.touched:
            return
        if conn._unusable() is None and conn._unread():
            self._read_unread(conn)
        super().commit(conn)

    def _read_unread(self, conn: Connection) -> None:
        """Read what is left of a reply, as no COMMIT can be sent before that; it takes ping_timeout at the most. Raises
        what the rest of the reply says, or TransactionLost."""
        seconds = self.settings.ping_timeout
        try:
            with conn._within(self.clock() + seconds, self.clock):
                conn._read_the_rest(conn._result)
        except Error as error:
            if conn.open:
                raise
            message = f"cannot commit: rows were left unread, and reading them failed, or took more than {seconds:g} s"
            raise TransactionLost(message) from error

    def _restore_autocommit(self, conn: Connection) -> None:
        if conn.get_autocommit() is not self.autocommit:
            conn.autocommit(self.autocommit)

    def close(self, conn: Connection) -> None:
        if conn._sock is None or conn._seen.busy:
            return self.abandon(conn)
        with conn._within(self.clock() + GOODBYE, self.clock):
            conn.close()

    # -- never block

    def track_writes(self) -> None:
        self._tracks, self.connection_class = True, Tracked
        self._latest = (None, None, {}, [])

    def watch(self, conn: Connection) -> Check:
        return sockets.watch(conn._sock.fileno())

    def descriptor(self, conn: Connection) -> int | None:
        return None if conn._sock is None else conn._sock.fileno()

    def readable_is_dead(self, conn: Connection) -> bool:
        return not isinstance(conn._sock, ssl.SSLSocket)  # TLS 1.3 may send session tickets at any time

    def traced(self, conn: Connection) -> Any:
        return traced(pymysql.connect, conn)

    def adopt(self, cursor: Any, conn: Any) -> Any:
        cursor.connection = conn  # PyMySQL's cursors go by it for all they do: when the lease ends, they end
        return cursor
