"""Tools for the tests of an application: a Database whose work is undone, and which can pretend to be unavailable.

    @pytest.fixture
    def database():
        with SandboxDatabase("mysql+pymysql://test@127.0.0.1/test", transaction="request") as database:
            yield database      # then what the test did is rolled back

    def test_order(database):
        client = Client(DatabaseMiddleware(application, database))
        client.post("/order")
        with database.outage():
            assert client.get("/").status_code == 503

docs/testing-your-app.md has whole examples, with pytest and without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .config.settings import Settings
from .database import Database
from .drivers import Driver, make_driver
from .drivers.activity import Activity
from .drivers.base import SERVER_OPTIONS
from .drivers.states import DIRTY, Check, State
from .errors import ConfigError, DatabaseUnavailable
from .pool.engine import Engine
from .strategies import Request, Slot

if TYPE_CHECKING:
    from .keywords import SandboxOptions, Unpack

SAVEPOINT = "wsgidb_sandbox"
ONE_CONNECTION = {
    "strategy": "pooled",
    "pool_size": 1,
    "host_connections": None,
    "max_lifetime": None,
    "max_idle": None,
    "ping_after": None,
}
DESCRIBED = (
    *("cursor_methods", "cursor_attributes", "cursor_state", "handing_out", "unobserved_methods"),
    "when_returned",
)
"""What a driver tells the lease of its connections."""


class _Engine(Engine):
    """An engine that can pretend that there is no server."""

    unavailable = False

    def acquire(self, request: Request | None = None, deadline: float | None = None) -> Slot:
        self._pretend()
        return super().acquire(request, deadline)

    def probe(self) -> bool:
        self._pretend()
        return super().probe()

    def _pretend(self) -> None:
        if self.unavailable:
            raise DatabaseUnavailable("the sandbox is in an outage()")


class SandboxDatabase(Database):
    """A Database with one connection in one transaction, which is rolled back by `close` or `undo`.

    All leases share that connection, one after another. The application's commits and rollbacks act on savepoints
    within the transaction, so they mean what they always mean, but nothing outlasts the test. A statement that commits
    implicitly cannot be undone: on MySQL and MariaDB DDL and a BEGIN sent as SQL, with sqlite3 executescript().

    >>> with SandboxDatabase("sqlite:///test.db") as database:
    ...     with database.connection() as conn:
    ...         conn.execute("CREATE TABLE orders (item TEXT)").close()
    ...         conn.commit()
    ...     with database.connection() as conn:
    ...         conn.execute("SELECT COUNT(*) FROM orders").fetchone()
    (0,)
    >>> with Database("sqlite:///test.db") as database, database.connection() as conn:
    ...     conn.execute("SELECT COUNT(*) FROM sqlite_master").fetchone()
    (0,)
    """

    _engine_class = _Engine
    _engine: _Engine
    has_replicas = False

    def __init__(self, url: str | None = None, /, **options: Unpack[SandboxOptions]) -> None:
        """Take the arguments of `Database`, without the options that a sandbox sets itself: `strategy`, `pool_size`,
        `host_connections`, `max_lifetime`, `max_idle` and `ping_after`.

        With neither a url nor a creator the environment is read, as by `Database.from_env`. Never blocks. Raises
        ConfigError."""
        for name in options.keys() & ONE_CONNECTION.keys():
            raise ConfigError(f"{name}: cannot be given to a sandbox, which has one connection and keeps it")
        given: Any = {**options, **ONE_CONNECTION}
        if url is None and "creator" not in options:
            super().__init__(Settings.from_env(overrides=given))
        else:
            super().__init__(url, **given)

    def _make_driver(self) -> Driver:
        self._sandbox = _Sandbox(self.settings, self.clock)
        return self._sandbox

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Refuse every acquire with DatabaseUnavailable inside the ``with`` block, and let health checks fail. A
        connection that is already leased keeps working.

        >>> with SandboxDatabase("sqlite:///test.db") as database, database.outage(), database.connection():
        ...     pass
        Traceback (most recent call last):
        wsgidb.errors.DatabaseUnavailable: the sandbox is in an outage()
        """
        self._engine.unavailable = True
        try:
            yield
        finally:
            self._engine.unavailable = False

    def trim(self, keep: int = 0) -> int:
        """Close nothing, as the sandbox keeps its one connection. Return 0.

        >>> with SandboxDatabase("sqlite:///test.db") as database:
        ...     database.warm(), database.trim()
        (1, 0)
        """
        return 0

    def drain(self, over: float = 10.0) -> int:
        """Replace nothing, as the sandbox keeps its one connection. Return 0.

        >>> with SandboxDatabase("sqlite:///test.db") as database:
        ...     database.warm(), database.drain()
        (1, 0)
        """
        return 0

    def undo(self) -> None:
        """Roll back everything that was done so far; the sandbox can be used further.

        Blocks for the rollback. Raises DatabaseUnavailable, also while another lease holds the connection.

        >>> with SandboxDatabase("sqlite:///test.db") as database:
        ...     with database.connection() as conn:
        ...         conn.execute("CREATE TABLE IF NOT EXISTS visits (page TEXT)").close()
        ...         conn.commit()
        ...     database.undo()
        """
        with self.connection() as conn:
            self._sandbox.begin_anew(conn.driver_connection)


class _Sandbox(Driver):
    """A driver whose transactions are savepoints of one transaction that is never committed."""

    name = "a sandbox"
    options = SERVER_OPTIONS  # the inner driver refuses those that it does not have; the same holds for `reset`
    clears_sessions = True
    tells_outcome = True

    def __init__(self, settings: Settings, *args: Any) -> None:
        super().__init__(settings, *args)
        self._inner = make_driver(replace(settings, transaction="manual"), *args)
        for name in DESCRIBED:  # the same as the driver that it wraps
            setattr(self, name, getattr(self._inner, name))
        self.connection_class = self._inner.connection_class
        self._connected = False
        self._settled_rows = 0

    def connect(self, deadline: float) -> Any:
        if self._connected:
            raise DatabaseUnavailable("the sandbox has lost its connection, and with it what the test had done")
        conn = self._inner.connect(deadline)
        try:
            self._take_over(conn, deadline)
            self._run(conn, "BEGIN", f"SAVEPOINT {SAVEPOINT}")
        except BaseException:
            self._inner.abandon(conn)
            raise
        self._connected = True
        return conn

    def _take_over(self, conn: Any, deadline: float) -> None:
        """Make the application's commits and rollbacks act on the savepoint."""
        try:
            conn.commit, conn.rollback = (lambda: self.commit(conn)), (lambda: self.rollback(conn, deadline))
            if hasattr(conn, "begin"):
                conn.begin = conn.commit
        except AttributeError:
            kind = f"{type(conn).__module__}.{type(conn).__name__}"
            raise ConfigError(
                f"creator: a sandbox must replace commit(), which {kind} does not allow; return a subclass of it"
            ) from None

    def begin_anew(self, conn: Any) -> None:
        self._run(conn, "ROLLBACK", "BEGIN", f"SAVEPOINT {SAVEPOINT}")

    def _run(self, conn: Any, *statements: str) -> None:
        self.run(conn, statements)
        self._settled_rows = self._inner.rows_written(conn)

    def commit(self, conn: Any) -> None:
        self._run(conn, f"RELEASE SAVEPOINT {SAVEPOINT}", f"SAVEPOINT {SAVEPOINT}")

    def run_hook(self, conn: Any, hook: Callable[[], object], deadline: float) -> None:
        super().run_hook(conn, hook, deadline)
        self._settled_rows = self._inner.rows_written(conn)

    def limited(self, conn: Any, deadline: float) -> AbstractContextManager[Any]:
        return self._inner.limited(conn, deadline)

    def rollback(self, conn: Any, deadline: float) -> None:
        if self.autocommit:  # each statement was a transaction of its own
            return self.commit(conn)
        self._run(conn, f"ROLLBACK TO SAVEPOINT {SAVEPOINT}")

    def reset(self, conn: Any, deadline: float) -> None:
        self.rollback(conn, deadline)  # clearing the session would end the sandbox's transaction

    def inspect(self, conn: Any) -> State | str:
        found = self._inner.inspect(conn)
        return found if isinstance(found, str) else DIRTY

    def rows_written(self, conn: Any) -> int:
        return 0 if self.autocommit else self._inner.rows_written(conn) - self._settled_rows

    def ping(self, conn: Any, deadline: float) -> None:
        self._inner.ping(conn, deadline)

    def close(self, conn: Any) -> None:
        try:
            self._run(conn, "ROLLBACK")
        finally:
            self._inner.close(conn)

    def abandon(self, conn: Any) -> None:
        self._inner.abandon(conn)

    def watch(self, conn: Any) -> Check:
        return self._inner.watch(conn)

    def readable_is_dead(self, conn: Any) -> bool:
        return self._inner.readable_is_dead(conn)

    def activity(self, conn: Any) -> Activity:
        return self._inner.activity(conn)

    def is_disconnect(self, error: BaseException) -> bool:
        return self._inner.is_disconnect(error)

    def is_read_only(self, error: BaseException) -> bool:
        return self._inner.is_read_only(error)

    def undoes(self, error: BaseException) -> bool:
        """A transaction that the server ends is the whole sandbox's: there is nothing to be repeated in."""
        return False

    def traced(self, conn: Any) -> Any:
        return self._inner.traced(conn)

    def adopt(self, cursor: Any, conn: Any) -> Any:
        return self._inner.adopt(cursor, conn)

    def bind(self, value: Any, conn: Any) -> Any:
        return self._inner.bind(value, conn)

    def retire_cursor(self, cursor: Any) -> str | None:
        return self._inner.retire_cursor(cursor)
