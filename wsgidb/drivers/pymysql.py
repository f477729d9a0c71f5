"""MySQL and MariaDB through PyMySQL 1.1 or newer.

Error numbers: https://mariadb.com/kb/en/mariadb-error-codes/ and MySQL's "Server/Client Error Message Reference".
"""

from __future__ import annotations

import inspect as introspect
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pymysql
from pymysql.constants import CR
from pymysql.err import Error, OperationalError

from .. import values
from ..activity import Activity
from ..errors import ConfigError, TransactionLost
from ..settings import Settings
from . import sockets, tls
from .base import SERVER_OPTIONS, Check, Clock, Driver, State, refuse_owned, unknown_option
from .pymysql_connection import IN_TRANSACTION, Connection

GOODBYE = 0.1
"""Seconds that sending COM_QUIT may take: only a full send buffer makes it wait."""

DISCONNECTS = frozenset(
    (
        0,  # PyMySQL's InterfaceError(0, ""): used after it was closed
        1053,  # server shutdown in progress
        1927,  # connection was killed
        2006,  # server has gone away
        2013,  # lost connection during query
        2014,  # commands out of sync
        2045,  # shared memory: connection reset
        2055,  # lost connection, with the system's error
        4031,  # closed by the server because of inactivity (MySQL 8.0.24)
    )
)
OWNED = {
    "autocommit": "transaction",
    "connect_timeout": "connect_timeout",
    "read_timeout": "read_timeout",
    "write_timeout": "write_timeout",
    "ssl": "ssl_mode",
    "ssl_mode": "ssl_mode",
    "ssl_ca": "ssl_ca",
    "ssl_cert": "ssl_cert",
    "ssl_key": "ssl_key",
    "ssl_disabled": "ssl_mode",
    "ssl_key_password": "ssl_key",
    "ssl_verify_cert": "ssl_mode",
    "ssl_verify_identity": "ssl_mode",
    "defer_connect": "",
}
IN_URL = ("user", "password", "passwd", "host", "port", "database", "db")
PARAMETERS = introspect.signature(pymysql.connections.Connection.__init__).parameters


class PyMySQL(Driver):
    name = "PyMySQL"
    clears_sessions = True
    cursor_attributes: ClassVar[tuple[str, ...]] = ("_result", "query", "escape")
    options: ClassVar[frozenset[str]] = SERVER_OPTIONS
    connection_class = Connection

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        super().__init__(settings, clock)
        url = settings.url
        assert url is not None, "made for urls only"
        if not url.host and "unix_socket" not in url.query:
            raise ConfigError(f"url: {url} names no host (and its query no unix_socket)")
        self._arguments: dict[str, Any] = {
            "user": url.user,
            "password": url.password,
            "host": url.host,
            "port": url.port,
            "database": url.name or None,
            **{name: self._converted(name, text) for name, text in url.query.items()},
        }
        if not callable(settings.connect_args):
            self._checked(settings.connect_args)
        local = "unix_socket" in url.query and settings.ssl_mode == "preferred"  # nobody listens in on a Unix socket
        self._context = None if local else tls.context(settings)
        self._whole_session = settings.reset == "session"
        self._tls_required = settings.ssl_mode not in ("disabled", "preferred")

    @staticmethod
    def _converted(name: str, text: str) -> Any:
        """A url query's value as PyMySQL wants it."""
        if name in IN_URL:
            raise ConfigError(f"{name}: belongs before the url's question mark")
        refuse_owned(name, OWNED)
        if name not in PARAMETERS or name in ("self", "conv", "auth_plugin_map"):
            raise unknown_option(name, set(PARAMETERS) - {"self"}, PyMySQL.name)
        if name == "cursorclass":
            found = getattr(pymysql.cursors, text, None)
            if not (isinstance(found, type) and issubclass(found, pymysql.cursors.Cursor)):
                raise ConfigError(f"cursorclass: PyMySQL has no cursor class {text!r}")
            return found
        kind = type(PARAMETERS[name].default)
        try:
            return values.boolean(text) if kind is bool else int(text) if kind is int else text
        except ValueError:
            raise ConfigError(f"{name}: takes {kind.__name__}, got {text!r}") from None

    @staticmethod
    def _checked(arguments: dict[str, Any]) -> dict[str, Any]:
        for name in arguments:
            refuse_owned(name, OWNED)
            if name not in PARAMETERS:
                raise unknown_option(name, set(PARAMETERS) - {"self"}, PyMySQL.name)
        return arguments

    # -- may block

    def connect(self, deadline: float) -> Connection:
        """TCP, greeting, TLS, login and init_sql, all before the deadline, but for looking the host's name up."""
        given = self.settings.connect_args
        arguments = {**self._arguments, **self._checked(given() if callable(given) else given)}
        if isinstance(arguments["password"], str):
            arguments["password"] = arguments["password"].encode()  # PyMySQL itself would take Latin-1
        conn = Connection(
            **arguments,
            autocommit=self.autocommit,
            read_timeout=self.settings.read_timeout,
            write_timeout=self.settings.write_timeout,
            defer_connect=True,
            ssl_disabled=True,
        )
        conn._seen, conn._clock = Activity(), self.clock
        conn._tls, conn._tls_required = self._context, self._tls_required
        try:
            with self._own_work(conn, deadline):
                conn.connect(self._socket(conn, deadline))
                if self._tls_required and not isinstance(conn._sock, ssl.SSLSocket):
                    raise OperationalError(2026, "PyMySQL connected without TLS, but ssl_mode requires it")
                self._run_init_sql(conn)
        except BaseException:
            conn._abandon(busy=False)
            raise
        conn._own_socket, conn._own_charset = conn._sock, (conn.charset, conn.collation)
        conn._guarded = self.settings.transaction == "request"
        conn._seen.used = False
        return conn

    def _run_init_sql(self, conn: Connection) -> None:
        self.run(conn, self.settings.init_sql)
        if self.settings.init_sql and not self.autocommit:
            conn.commit()

    def _socket(self, conn: Connection, deadline: float) -> socket.socket:
        """PyMySQL's own connecting would give each of a host's addresses the whole timeout."""
        where = conn.unix_socket or f"{conn.host}:{conn.port}"
        try:
            if not conn.unix_socket:
                made = sockets.connect_tcp(conn.host, conn.port, deadline, self.clock, conn.bind_address)
            else:
                made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                made.settimeout(sockets.remaining(deadline, self.clock))
                try:
                    made.connect(conn.unix_socket)
                except BaseException:
                    made.close()
                    raise
                conn._secure = True
        except OSError as error:
            raise OperationalError(2003, f"cannot connect to {where} ({error})") from error
        conn.host_info = f"socket {where}"
        return made

    def ping(self, conn: Connection, deadline: float) -> None:
        seen = conn._seen
        statements, seconds = seen.statements, seen.seconds
        with conn._within(deadline, self.clock):
            if self.settings.ping_query is not None:
                self.run(conn, (self.settings.ping_query,))
            else:
                conn._unseen_ping()
        seen.statements, seen.seconds = statements, seconds

    def rollback(self, conn: Connection, deadline: float) -> None:
        with self._own_work(conn, deadline):
            conn.rollback()
            self._restore_autocommit(conn)

    def reset(self, conn: Connection, deadline: float) -> None:
        with self._own_work(conn, deadline):
            conn._reset_session()
            self._restore_autocommit(conn)
            self._run_init_sql(conn)
        conn._seen.used = False

    def _restore_autocommit(self, conn: Connection) -> None:
        if conn.get_autocommit() is not self.autocommit:
            conn.autocommit(self.autocommit)

    @contextmanager
    def _own_work(self, conn: Connection, deadline: float) -> Iterator[None]:
        """Statements of wsgidb's own, before the deadline; they are not counted as a handler's."""
        seen = conn._seen
        statements, seconds, used = seen.statements, seen.seconds, seen.used
        with conn._within(deadline, self.clock):
            yield
        if conn.server_status & IN_TRANSACTION:  # with completion_type=CHAIN each ROLLBACK begins another one
            raise OperationalError(CR.CR_UNKNOWN_ERROR, "a transaction is still open")
        seen.settled()
        seen.statements, seen.seconds, seen.used = statements, seconds, used

    def commit(self, conn: Connection) -> None:
        seen = conn._seen
        if not seen.touched:
            return
        reason = conn._unusable()
        if reason is not None:
            raise TransactionLost(f"cannot commit: {reason}")
        conn.commit()

    def close(self, conn: Connection) -> None:
        if conn._sock is None or conn._seen.busy:
            return self.abandon(conn)
        with conn._within(self.clock() + GOODBYE, self.clock):
            conn.close()

    # -- never block

    def watch(self, conn: Connection) -> Check:
        return sockets.watch(conn._sock.fileno())

    def readable_is_dead(self, conn: Connection) -> bool:
        return not isinstance(conn._sock, ssl.SSLSocket)  # TLS 1.3 may send session tickets at any time

    def inspect(self, conn: Connection) -> State | str:
        return conn._state(self.autocommit, self._whole_session)

    def activity(self, conn: Connection) -> Activity:
        return conn._seen

    def abandon(self, conn: Connection) -> None:
        conn._abandon(conn._seen.busy)

    def is_disconnect(self, error: BaseException) -> bool:
        if not isinstance(error, Error) or not error.args:
            return False
        return error.args[0] in DISCONNECTS or error.args[0] == "Already closed"

    def adopt(self, cursor: Any, conn: Any) -> Any:
        cursor.connection = conn  # PyMySQL's cursors go by it for all they do: when the lease ends, they end
        return cursor
