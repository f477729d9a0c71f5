"""MySQL and MariaDB through MySQL Connector/Python 9.2 or newer, its pure implementation.

Its C implementation keeps the socket and the server's status to itself: no free check, no deadline shorter than whole
seconds, and no statement can be cut short.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import mysql.connector.cursor
from mysql.connector.constants import DEFAULT_CONFIGURATION
from mysql.connector.errors import Error, OperationalError, ReadTimeoutError, WriteTimeoutError

from ...config.settings import Settings
from ...errors import TransactionLost
from .. import sockets, tls
from ..mysql.arguments import OWNED, converter, cursor_class
from ..mysql.driver import MySQLDriver
from ..mysql.observed import NO_TLS
from ..states import Check, Clock
from ..tracing import traced
from .connection import Connection
from .handed_out import Receiver, Results
from .wire import Socket

GOODBYE = 0.1
"""Seconds that sending COM_QUIT may take. It waits only if the send buffer is full."""
NOT_AVAILABLE = "MySQL Connection not available"
"""The text of the driver's error for a connection that was closed; it has no number."""

IGNORED = frozenset(("dsn", "dns_srv", "force_ipv6"))
"""Options that would have no effect here: wsgidb finds the server's addresses itself."""

_module: Any = mysql.connector.cursor


class MySQLConnector(MySQLDriver):
    name = "mysql-connector-python"
    connection_class = Connection
    owned: ClassVar[dict[str, str]] = {
        **OWNED,
        "connection_timeout": "connect_timeout",
        "ssl_cipher": "ssl_mode",
        "tls_versions": "ssl_mode",
        "tls_ciphersuites": "ssl_mode",
        "use_pure": "",
    }
    parameters: ClassVar[dict[str, Any]] = {
        **{name: converter(each) for name, each in DEFAULT_CONFIGURATION.items() if name not in IGNORED},
        "converter_class": None,
        "conn_attrs": None,
        "webauthn_callback": None,
        "cursorclass": cursor_class("mysql-connector-python", _module, _module.MySQLCursor),
    }
    error: ClassVar[type[Exception]] = Error
    cursor_attributes: ClassVar[tuple[str, ...]] = (
        *("_have_next_result", "can_consume_results", "charset", "converter", "get_warnings"),
        *("python_charset", "query_attrs", "raise_on_warnings", "unread_result"),
    )
    nothing_to_read: ClassVar[Mapping[str, tuple[str, Any]]] = {"handle_unread_result": ("_unread_result", None)}
    cursor_state: ClassVar[frozenset[str]] = frozenset(("unread_result",))
    handing_out: ClassVar[tuple[str, ...]] = ("_socket", "cmd_query_iter")
    when_returned: ClassVar[Mapping[str, Any]] = {"is_connected": lambda: False}

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        super().__init__(settings, clock)
        self._context = None if self._tls_off(self._arguments) else tls.context(settings)

    def operational_error(self, code: int, text: str) -> Exception:
        return OperationalError(errno=code, msg=text)

    def _open(self, arguments: dict[str, Any], deadline: float) -> Connection:
        """Connect, log in and run init_sql before the deadline, which does not cover looking up the host's name."""
        arguments = {name: value for name, value in arguments.items() if value is not None}
        conn = Connection()
        conn._begin_record(self.clock)
        conn._tls = None if self._tls_off(arguments) else self._context
        conn._tls_required = self._tls_required
        conn._cursorclass = arguments.pop("cursorclass", None)
        try:
            with self._own_work(conn, deadline):
                conn.connect(**arguments, autocommit=self.autocommit, ssl_disabled=conn._tls is None)
                if self._tls_required and not isinstance(conn._socket.sock, ssl.SSLSocket):
                    raise self.operational_error(NO_TLS, f"{self.name} connected without TLS, but ssl_mode requires it")
                self._run_init_sql(conn)
            self.call_on_connect(conn, deadline)
            with self._own_work(conn, deadline):
                if self._whole_session:
                    conn._own_role = conn._look_at_session()[1]
                # Under the deadline, because tools read the connection's `database`, which asks the server.
                conn._view = traced(mysql.connector.connect, conn)
        except BaseException:
            conn._abandon(busy=False)
            raise
        conn._connected()
        # Set past the driver's properties, which accept whole seconds only.
        conn._read_timeout, conn._write_timeout = self.settings.read_timeout, self.settings.write_timeout
        conn._guarded = self.settings.transaction == "request"
        conn._seen.used = False
        return conn

    def _restore_autocommit(self, conn: Connection) -> None:
        conn.autocommit = self.autocommit  # sends nothing if it has that value already

    def end_hook(self, conn: Connection) -> None:
        if not conn._socket.open:
            conn.commit()  # raises the driver's error
        conn._read_rest()
        super().end_hook(conn)
        conn._next_set = False  # the COMMIT has ended it

    def _roll_back(self, conn: Connection) -> None:
        conn._put_back()
        conn.rollback()

    def close(self, conn: Connection) -> None:
        if conn._unusable() is not None:
            return self.abandon(conn)
        with conn._within(self.clock() + GOODBYE, self.clock):
            conn.close()

    def watch(self, conn: Connection) -> Check:
        return sockets.watch(conn._socket.sock.fileno())

    def descriptor(self, conn: Connection) -> int | None:
        number: int = conn._socket.sock.fileno()
        return number

    def readable_is_dead(self, conn: Connection) -> bool:
        return not isinstance(conn._socket.sock, ssl.SSLSocket)  # TLS 1.3 may send session tickets at any time

    def is_disconnect(self, error: BaseException) -> bool:
        timed_out = isinstance(error, (ReadTimeoutError, WriteTimeoutError))  # numbered like a server's
        return timed_out or super().is_disconnect(error) or (isinstance(error, Error) and str(error) == NOT_AVAILABLE)

    def traced(self, conn: Connection) -> Any:
        return conn._view

    def commit(self, conn: Connection) -> None:
        """Commit. What the handler has left unread is read before, as COMMIT cannot be sent otherwise; that may take up
        to ping_timeout."""
        if not conn._seen.touched:
            return
        if conn._unusable() is None and (conn._rows_begun or conn._have_next_result):
            with conn._within(self.clock() + self.settings.ping_timeout, self.clock):
                try:
                    conn._read_rest()
                except Error as error:
                    if conn._unusable() is None:
                        raise  # it is the server's: a statement has failed, and the handler has not seen that
                    raise TransactionLost("cannot commit: the rest of a result did not come in time") from error
        conn._unread_result = False
        super().commit(conn)

    def adopt(self, cursor: Any, conn: Any) -> Any:
        cursor._connection = cursor.connection = conn  # the driver's reference leads past the lease
        return cursor

    def bind(self, value: Any, conn: Any) -> Any:
        raw = conn.driver_connection
        return Receiver(raw, raw._seen, conn) if isinstance(value, Socket) else Results(value, raw._seen, conn)

    def run(self, conn: Connection, statements: tuple[str, ...]) -> None:
        """Execute statements one by one, and read all their results. May block as long as they do."""
        next_set = conn._next_set
        for statement in statements:
            cursor = conn.cursor(buffered=True)
            try:
                cursor.execute(statement)
                conn._read_rest()
            finally:
                cursor.close()
        conn._next_set = next_set  # no request has run these statements
