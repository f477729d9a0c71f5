"""MySQL and MariaDB through mysqlclient 2.3 or newer, which guards a connection against a second thread.

Its C library knows whole seconds only, and gives no way to cut a statement short: connecting is over at its deadline
to the nearest second, and at least one, for each of its steps; what comes after is waited for outside of the library.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar

import MySQLdb
import MySQLdb.cursors
from MySQLdb import MySQLError, OperationalError, ProgrammingError
from MySQLdb.constants import CLIENT

from ...config import values
from ...config.settings import Settings
from ...errors import ConfigError, ConnectionReturned, TransactionLost
from .. import sockets, tls
from ..mysql.arguments import OWNED, cursor_class
from ..mysql.driver import MySQLDriver
from ..mysql.observed import LOST, NO_TLS
from ..states import Check, Clock, State
from ..tracing import traced
from .connection import Connection

CHARSET = "utf8mb4"
WHOLE_SECONDS = ("connect_timeout", "read_timeout", "write_timeout")

_cursors: Any = MySQLdb.cursors


class MySQLClient(MySQLDriver):
    name = "mysqlclient"
    cursor_attributes: ClassVar[tuple[str, ...]] = ("encoding",)
    local_methods: ClassVar[tuple[str, ...]] = ("literal", "warning_count", "affected_rows", "insert_id")
    nothing_to_read: ClassVar[Mapping[str, tuple[str, Any]]] = {"next_result": ("_seen.incomplete", -1)}
    changed_in_place: ClassVar[tuple[str, ...]] = ("converter", "encoders", "messages")
    when_returned: ClassVar[dict[str, Any]] = {"open": 0, "closed": 1}
    connection_class = Connection
    owned: ClassVar[dict[str, str]] = {**OWNED, "read_default_file": "", "read_default_group": ""}
    parameters: ClassVar[dict[str, Any]] = {
        **dict.fromkeys(("unix_socket", "charset", "collation", "sql_mode", "init_command", "auth_plugin"), str),
        **dict.fromkeys(("server_public_key_path", "local_infile_dir", "executemany_fallback"), str),
        **dict.fromkeys(("use_unicode", "multi_statements", "binary_prefix"), values.boolean),
        **dict.fromkeys(("compress", "local_infile"), values.boolean),
        "client_flag": int,
        "conv": None,
        "cursorclass": cursor_class("mysqlclient", _cursors, _cursors.BaseCursor),
    }
    error: ClassVar[type[Exception]] = MySQLError

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        super().__init__(settings, clock)
        for name in WHOLE_SECONDS:
            seconds = getattr(settings, name)
            if seconds is not None and seconds != int(seconds):
                raise ConfigError(
                    f"{name}: {self.name} takes whole seconds, got {seconds:g}", entry="config-driver-options"
                )
        self._latest: tuple[Any, dict[str, Any]] = (None, {})  # the latest arguments, and how the library takes them
        if not self._tls_off(self._arguments):
            tls.context(settings)  # the library would find out about unusable files when it connects

    def operational_error(self, code: int, text: str) -> Exception:
        return OperationalError(code, text)

    def _open(self, arguments: dict[str, Any], deadline: float) -> Connection:
        latest, given = self._latest
        if arguments is not latest:
            given = self._prepared(arguments)
            self._latest = arguments, given
        if self.clock() >= deadline:  # else it would be another second
            raise OperationalError(LOST, "no time is left to connect")
        seconds = max(round(sockets.remaining(deadline, self.clock)), 1)
        conn = Connection(deadline, self.clock, **given, connect_timeout=seconds)
        try:
            with self._own_work(conn, deadline):
                if self._tls_required and not self._over_tls(conn):
                    raise OperationalError(NO_TLS, "mysqlclient connected without TLS, but ssl_mode requires it")
                conn._own_autocommit = self.autocommit
                conn._set_session(self.autocommit)
                self._run_init_sql(conn)
            self.call_on_connect(conn, deadline)
        except BaseException:
            conn._abandon(busy=False)
            raise
        conn._guarded = conn._seen.guarded = self.settings.transaction == "request"
        conn._seen.used = False
        return conn

    def _prepared(self, arguments: dict[str, Any]) -> dict[str, Any]:
        """The arguments as the library takes them."""
        arguments = {name: value for name, value in arguments.items() if value is not None}
        arguments["charset"] = arguments.get("charset") or CHARSET
        if arguments.get("host") == "localhost" and "port" in arguments and "unix_socket" not in arguments:
            arguments["host"] = "127.0.0.1"  # else the library takes its default Unix socket, whatever the port
        return {**arguments, **self._options(arguments)}

    def _options(self, arguments: dict[str, Any]) -> dict[str, Any]:
        settings = self.settings
        made: dict[str, Any] = {"autocommit": None, "ssl_mode": settings.ssl_mode.upper()}
        if not self._tls_off(arguments):
            files = {"ca": settings.ssl_ca, "cert": settings.ssl_cert, "key": settings.ssl_key}
            made["ssl"] = {name: path for name, path in files.items() if path}
            if settings.ssl_mode == "preferred":  # MariaDB's library asks for no TLS unless told something of it
                made["ssl"].setdefault("cipher", "DEFAULT")
        else:
            made["ssl_mode"] = "DISABLED"
        for name in ("read_timeout", "write_timeout"):
            if (seconds := getattr(settings, name)) is not None:
                made[name] = int(seconds)
        return made

    def _over_tls(self, conn: Connection) -> bool:
        return bool(conn.client_flag & conn.server_capabilities & CLIENT.SSL)

    def _run_init_sql(self, conn: Connection) -> None:
        super()._run_init_sql(conn)
        conn._seen.opaque = False  # what the statements of the settings do is meant

    def end_hook(self, conn: Connection) -> None:
        super().end_hook(conn)
        conn._seen.opaque = False

    def _roll_back(self, conn: Connection) -> None:
        conn._clean_up()

    def _restore_autocommit(self, conn: Connection) -> None:
        conn.autocommit(self.autocommit)  # says nothing where it is so already

    def close(self, conn: Connection) -> None:
        """The library says goodbye, for which it may wait only where the line is full."""
        if conn._unusable() is not None:
            return self.abandon(conn)
        conn.close()

    def commit(self, conn: Connection) -> None:
        """The same, once the rest of the last reply is read: the library sends no command before. That takes up to
        ping_timeout; where it would take longer nothing is committed."""
        if not conn._seen.touched:
            return
        if conn._unusable() is None:
            seconds = self.settings.ping_timeout
            if not conn._finish_reply(self.clock() + seconds):
                raise TransactionLost(f"cannot commit: reading what is left of a result takes more than {seconds:g} s")
        super().commit(conn)

    def inspect(self, conn: Any) -> State | str:
        try:
            return Connection._state(conn, self.autocommit, self._whole_session)  # cheaper than to look it up on `conn`
        except ProgrammingError:  # the library's lock: a thread uses the connection past the lease
            return "in the middle of a statement"

    def watch(self, conn: Connection) -> Check:
        return sockets.watch(conn.fileno())

    def descriptor(self, conn: Connection) -> int | None:
        number: int = conn.fileno()
        return number

    def readable_is_dead(self, conn: Connection) -> bool:
        return not self._over_tls(conn)  # TLS 1.3 may send session tickets at any time

    def traced(self, conn: Connection) -> Any:
        return traced(MySQLdb.connect, conn)

    def adopt(self, cursor: Any, conn: Any) -> Any:
        cursor.connection = conn  # the cursor goes by it for all it does: when the lease ends, it ends
        cursor._close_connection = _close_after_failure
        return cursor


def _close_after_failure(lease: Any) -> None:
    """What a cursor calls when its executemany() has failed in the middle of several statements sent as one, and part
    of the reply may be unread: closing the connection is to undo the transaction, so it must not be committed."""
    with suppress(ConnectionReturned):
        seen = lease.driver_connection._seen
        seen.lost = seen.unfit = "mysqlclient closed the connection, as executemany() failed half-way"
        lease.close()
