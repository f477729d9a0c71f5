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

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from .config.settings import Settings
from .database import Database
from .drivers import Driver
from .drivers.sandbox import Sandbox
from .errors import ConfigError, DatabaseUnavailable
from .pool.engine import Engine
from .strategies import Request, Slot

if TYPE_CHECKING:
    from .keywords import SandboxOptions, Unpack

ONE_CONNECTION = {
    "strategy": "pooled",
    "pool_size": 1,
    "host_connections": None,
    "max_lifetime": None,
    "max_idle": None,
    "ping_after": None,
}


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
            raise DatabaseUnavailable("the sandbox is in an outage()", entry="sandbox")


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
            raise ConfigError(
                f"{name}: cannot be given to a sandbox, which has one connection and keeps it", entry="config-sandbox"
            )
        given: Any = {**options, **ONE_CONNECTION}
        if url is None and "creator" not in options:
            super().__init__(Settings.from_env(overrides=given))
        else:
            super().__init__(url, **given)

    def _make_driver(self) -> Driver:
        self._sandbox = Sandbox(self.settings, self.clock)
        return self._sandbox

    @contextmanager
    def outage(self) -> Iterator[None]:
        """Refuse every acquire with DatabaseUnavailable inside the ``with`` block, and let health checks fail. A
        connection that is already leased keeps working.

        >>> with SandboxDatabase("sqlite:///test.db") as database, database.outage():
        ...     try:
        ...         database.check()
        ...     except DatabaseUnavailable as error:
        ...         print(error.text)
        the sandbox is in an outage()
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
