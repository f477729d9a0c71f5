"""PostgreSQL through psycopg 3.1.20 or newer.

Besides a handler's statements psycopg sends the following by itself: without autocommit, a BEGIN before the first
statement of each transaction; and after a ROLLBACK, a DEALLOCATE ALL if it has prepared statements on the server (those
that were executed five times; see its prepare_threshold). A new connection asks for the server's process, to find a
pooler, unless prepare_threshold is none.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, ClassVar

import psycopg

from ...config.settings import Settings
from ...errors import ConfigError, TransactionLost
from .. import sockets, tls
from ..activity import Activity
from ..base import SERVER_OPTIONS
from ..hosts import Server, in_arguments
from ..networked import Networked
from ..states import Check, Clock, Position, State
from ..tracing import traced
from .connection import Connection
from .errors import PsycopgErrors
from .options import PYTHON, SSL_MODES, checked, converted
from .pooler import Pooler
from .session import IDLE, NOTHING, QUESTION
from .statements import leaves_copy
from .wire import WRITE, Limit, before, connect

NO_CONNECTION = SimpleNamespace(
    transaction_status=psycopg.pq.TransactionStatus.UNKNOWN, pipeline_status=psycopg.pq.PipelineStatus.OFF
)
"""What is left of libpq's connection for a cursor whose lease is over: there is nothing to cancel."""

WRITTEN = "SELECT pg_current_wal_insert_lsn()"
REACHED = """
SELECT concat(inet_server_addr(), ':', inet_server_port(), '/', pg_postmaster_start_time()),
CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END"""


def position(lsn: str) -> Position:
    """A position in the log: https://www.postgresql.org/docs/current/datatype-pg-lsn.html"""
    high, low = lsn.split("/")
    return {"lsn": int(high, 16) << 32 | int(low, 16)}


class Psycopg(PsycopgErrors, Networked):
    """The driver for PostgreSQL, by way of psycopg 3 and libpq."""

    name = "psycopg"
    usual_port = 5432
    clears_sessions = True
    tells_outcome = True
    limit_query = "SHOW max_connections"
    replicates = True
    read_only = "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"
    options: ClassVar[frozenset[str]] = SERVER_OPTIONS
    connection_class = Connection
    lease_members: ClassVar[tuple[str, ...]] = (
        *("connection", "execute", "notifies", "pipeline", "transaction"),
        "_pipeline_nolock",  # executemany() calls it, since 3.2
    )
    cursor_attributes: ClassVar[tuple[str, ...]] = (
        *("_num_transactions", "_pipeline", "_prepared", "lock", "pgconn"),
        *("_exec_command", "_get_tx_start_command", "_start_query"),  # these make what wait() then drives
    )
    cursor_state: ClassVar[frozenset[str]] = frozenset(("_num_transactions", "_pipeline"))
    when_returned: ClassVar[dict[str, Any]] = {"broken": False, "closed": True}
    ended_anyway: ClassVar[dict[str, Callable[..., bool]]] = {
        "wait": leaves_copy,
        "_try_cancel": lambda *args, **kwargs: True,  # what stream() and copy() call, since 3.2
    }
    cursor_told: ClassVar[dict[str, Any]] = {"_pgconn": NO_CONNECTION}  # what stream() asks

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        super().__init__(settings, clock)
        url = settings.url
        assert url is not None, "made for urls only"
        if url.host and "host" in url.query:
            raise ConfigError(
                "host: belongs before the url's question mark, where there is one already", entry="config-url"
            )
        if not url.host and "host" not in url.query:
            raise ConfigError(
                f"url: {url} names no host (and its query no host=/directory of a socket)", entry="config-url"
            )
        for name in ("ssl_ca", "ssl_cert"):
            if getattr(settings, name) is not None:
                tls.context(settings)  # raises the errors that name the file
                break
        given = {
            "user": url.user,
            "password": url.password,
            **in_arguments(url),
            "dbname": url.name or None,
            "sslmode": SSL_MODES[settings.ssl_mode],
            "sslrootcert": settings.ssl_ca,
            "sslcert": settings.ssl_cert,
            "sslkey": settings.ssl_key or settings.ssl_cert,  # one file may hold both
        }
        self._arguments: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        for name, text in url.query.items():
            belongs_to_hosts = name == "port" and "host" in url.query
            self._arguments[name] = text if belongs_to_hosts else converted(name, text)
        if not callable(settings.connect_args):
            checked(settings.connect_args)
        self._check_hosts(self._arguments)
        self._whole_session = settings.reset == "session"
        self._tls_required = settings.ssl_mode not in ("disabled", "preferred")
        self._limit = self._statement_limit()
        self._pooler = Pooler(settings)

    def _statement_limit(self) -> Limit | None:
        read, write = self.settings.read_timeout, self.settings.write_timeout
        if read is None and write is None:
            return None
        return lambda wanted: write if wanted & WRITE else read

    # -- may block

    def _given(self, deadline: float) -> dict[str, Any]:
        return {**self._arguments, **checked(self.connect_args(deadline))}

    def _open(self, arguments: dict[str, Any], deadline: float) -> Connection:
        """Connect, log in and run init_sql, all before the deadline, except for looking up the host's name."""
        arguments = dict(arguments)
        own = {name: arguments.pop(name) for name in PYTHON if name in arguments}
        conn = Connection(connect(arguments, deadline, self.clock))
        try:
            if self._tls_required and not conn.pgconn.ssl_in_use:
                raise psycopg.OperationalError("connected without TLS, but ssl_mode requires it")
            conn._clock, conn._limit, conn._context = self.clock, self._limit, own.pop("context", None)
            conn._autocommit = self.autocommit
            conn.renew_adapters()
            for name, value in own.items():
                setattr(conn, name, value)
            if conn.prepare_threshold is not None:
                work = self._pooler.prepare(conn, chosen="prepare_threshold" in own)
                conn.own(work, deadline, self.clock)
            conn.own(conn.initialize(self.settings.init_sql, self.autocommit), deadline, self.clock)
            self.call_on_connect(conn, deadline)
        except BaseException:
            conn.close()
            raise
        return conn

    def _look(self, conn: Connection, deadline: float, new: bool) -> Server:
        """A server of version 14 or newer tells at the login."""
        told = conn.told_at_login() if new else None
        if told is None:
            told = conn.own(conn.ask(QUESTION), deadline, self.clock)
        read_only, standby = (each == b"on" for each in told)
        return Server(read_only or standby, standby)

    def ping(self, conn: Connection, deadline: float) -> None:
        conn.own(conn.ask(self.settings.ping_query or ""), deadline, self.clock)

    def rollback(self, conn: Connection, deadline: float) -> None:
        conn.own(conn.clean(self.autocommit), deadline, self.clock)

    def reset(self, conn: Connection, deadline: float) -> None:
        conn._ours = NOTHING  # on_connect makes its settings again
        conn.own(conn.renew(self.settings.init_sql, self.autocommit), deadline, self.clock)
        self.call_on_connect(conn, deadline)

    def call_on_connect(self, conn: Connection, deadline: float) -> None:
        super().call_on_connect(conn, deadline)
        if self.settings.on_connect is not None:
            conn.keep_settings()

    @contextmanager
    def limited(self, conn: Connection, deadline: float) -> Iterator[None]:
        usual, conn._limit = conn._limit, before(deadline, self.clock)
        try:
            yield
        finally:
            conn._limit = usual

    def end_hook(self, conn: Connection) -> None:
        if conn.pgconn.transaction_status != IDLE:
            conn.commit()
        reason = conn.unusable()
        if reason is not None:
            raise psycopg.OperationalError(reason)
        conn._autocommit = self.autocommit

    def commit(self, conn: Connection) -> None:
        """PostgreSQL accepts no COMMIT before all rows are read; what stream() or COPY TO has left is read, for up to
        ping_timeout."""
        if not conn._seen.touched:
            return
        conn.free_lock()
        if conn.has_unread_rows:
            try:
                conn.own(conn.read_rest(), self.clock() + self.settings.ping_timeout, self.clock)
            except psycopg.Error as error:
                raise TransactionLost(f"cannot commit: rows were left unread ({error})") from error
        reason = conn.unusable()
        if reason is not None:
            raise TransactionLost(f"cannot commit: {reason}")
        conn.commit()

    def close(self, conn: Connection) -> None:
        """Never blocks: libpq's socket is non-blocking, so a farewell that cannot be sent at once is not sent."""
        if conn._seen.users or conn._seen.busy:
            return self.abandon(conn)
        conn.close()

    def written(self, conn: Connection, deadline: float, ask: bool) -> Position:
        """The server is asked, if a transaction has ended. The answer covers what other sessions have written, too."""
        ended, conn._ended_one = conn._ended_one, False
        return position(self._ask(conn, WRITTEN, deadline)[0]) if ended and ask else {}

    def reached(self, conn: Connection, deadline: float) -> tuple[str, Position]:
        server, lsn = self._ask(conn, REACHED, deadline)
        return server, position(lsn)

    def _ask(self, conn: Connection, question: str, deadline: float) -> list[str]:
        return [each.decode() for each in conn.own(conn.ask(question), deadline, self.clock)]

    # -- never block

    def watch(self, conn: Connection) -> Check:
        return sockets.watch(conn.pgconn.socket)

    def descriptor(self, conn: Connection) -> int | None:
        number: int = conn.pgconn.socket
        return number

    def readable_is_dead(self, conn: Connection) -> bool:
        """A notification, a changed parameter or a notice is read, and does not count as the end. Never waits."""
        return conn.is_at_its_end()

    def inspect(self, conn: Connection) -> State | str:
        return conn.state(self.autocommit, self._whole_session)

    def activity(self, conn: Connection) -> Activity:
        return conn._seen

    def abandon(self, conn: Connection) -> None:
        """libpq's memory must last until no thread is inside libpq any more. The last call of a lease frees it. If
        psycopg's own connection was used directly, nobody knows that moment, and garbage collection frees it."""
        seen = conn._seen
        if seen.users or seen.busy:
            conn.shut_down()
        if seen.users or not seen.busy:
            seen.close_when_unused(conn.drop)

    def traced(self, conn: Connection) -> Any:
        return traced(psycopg.connect, conn, cursor_factory=conn.cursor_factory)

    def adopt(self, cursor: Any, conn: Any) -> Any:
        cursor._conn = conn  # its ``connection``, through which it talks to the server
        return cursor
