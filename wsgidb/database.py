"""`Database`, which lives as long as the process: the settings, driver and engine of one database."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from .config.settings import Settings
from .dbapi import Connection
from .drivers import Driver, make_driver
from .errors import ConfigError
from .lease.classes import ProxyClasses
from .lease.hooks import LeaseHook
from .lease.proxy import ConnectionProxy, interrupt, settle
from .lease.state import begin, lazy, new, set_raw, set_slot
from .observe import telemetry
from .pool.engine import Engine
from .pool.leaks import watched
from .pool.probe import check
from .pool.renewal import drain, trim, warm
from .pool.snapshot import snapshot
from .pool.stats import Stats
from .strategies import Request, Slot

if TYPE_CHECKING:
    from .keywords import DatabaseOptions, Unpack

D = TypeVar("D", bound="Database")


class Database:
    """The connections to one database, for as long as the process lives.

    It opens no connection until one is needed. Threads may share it, and it may be used after a fork: a child process
    opens connections of its own.

    >>> database = Database("sqlite:///shop.db", pool_size=4)
    >>> with database.connection() as conn:
    ...     conn.execute("SELECT 6 * 7").fetchone()
    (42,)
    >>> database.close()
    """

    _engine_class: ClassVar[type[Engine]] = Engine
    has_replicas: ClassVar[bool] = True
    """Whether the option `replicas` has an effect."""

    def __init__(
        self,
        url: str | Settings | None = None,
        /,
        *,
        clock: Callable[[], float] = time.monotonic,
        **options: Unpack[DatabaseOptions],
    ) -> None:
        """Check the options and load the driver. Never blocks.

        `url` is ``driver://user:password@host:port/name``; the option `creator` can take its place. `options` are
        described in docs/options.md. `clock` returns monotonic seconds, and is an argument for the sake of tests.
        Raises ConfigError for an unknown option, a bad value, or a driver that is not installed.

        >>> Database("sqlite:///shop.db", strategy="thread-local", max_idle=60)
        <Database sqlite:///shop.db strategy=thread-local>
        """
        if url is not None and (options if isinstance(url, Settings) else "url" in options):
            raise ConfigError("url: given twice", entry="config-no-url")
        if not isinstance(url, Settings):
            url = Settings.of({**options, **({} if url is None else {"url": url})})
        self.settings = url
        self.clock = clock
        self._driver = self._make_driver()
        self._proxies = ProxyClasses(self._driver)
        engine_class = self._engine_class
        if url.host_connections is not None:
            from .pool.sharing import sharing

            engine_class = sharing(engine_class)
        if url.leak_after is not None:
            engine_class = watched(engine_class)
        if url.board is not None:
            from .observe.publish import published

            engine_class = published(engine_class, url.board)
        self._engine = engine_class(url, self._driver, clock)
        self.replicas: list[Database] = []
        """The replicas to which a middleware sends requests that only read."""
        self.owned_replicas: list[Database] = []
        """Those of them that are closed with this Database."""
        self.replica_sets: list[Any] = []
        """What `scale.replicas` has made for it."""
        telemetry.register(url, self._engine.name, self.stats)
        self._finalize = weakref.finalize(self, self._engine.close)  # also at the exit of the interpreter

    def _make_driver(self) -> Driver:
        return make_driver(self.settings, self.clock)

    @classmethod
    def from_env(cls, prefix: str = "WSGIDB_") -> Database:
        """Make a Database from environment variables. Each is named `prefix` and then the option in capitals.

        Raises ConfigError for a bad value, and for a variable with that prefix which is not an option.

        >>> import os
        >>> os.environ["SHOP_DB_URL"], os.environ["SHOP_DB_POOL_SIZE"] = "sqlite:///shop.db", "4"
        >>> Database.from_env("SHOP_DB_")
        <Database sqlite:///shop.db strategy=pooled>
        """
        return cls(Settings.from_env(prefix))

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """Lease a validated connection for a ``with`` block, under the same rules as for a request. It is meant for
        scripts and background jobs.

        Blocks for up to acquire_timeout seconds at the beginning, and for a rollback or commit at the end. Raises
        DatabaseUnavailable if no connection can be acquired, and with transaction=request what a failed commit raises.

        >>> with Database("sqlite:///shop.db") as database:
        ...     with database.connection() as conn:
        ...         conn.execute("CREATE TABLE IF NOT EXISTS orders (item TEXT)").close()
        ...         conn.execute("INSERT INTO orders VALUES (?)", ("tea",)).rowcount
        ...         conn.commit()
        1
        """
        conn = self.lease()
        try:
            yield cast(Connection, conn)  # the proxy has those methods through __getattr__
        except BaseException as error:
            interrupt(conn, error)
            raise
        settle(conn, success=True)

    def lease(self, request: Request | None = None, deadline: float | None = None) -> ConnectionProxy:
        """Acquire a connection. The caller must `settle` the lease, as `connection` does. Log lines name `request`.

        Blocks for up to acquire_timeout seconds, or until the deadline. Raises DatabaseUnavailable."""
        slot = self._engine.acquire(request, deadline)
        raw = slot.raw
        proxy = new(self._proxies[type(raw)])
        slot.activity.lease = proxy  # as `begin` does it, with two calls less
        set_slot(proxy, slot)
        set_raw(proxy, raw)
        return proxy

    def lease_of(self, slot: Slot) -> ConnectionProxy:
        """Make a lease of an acquired slot. The caller must `settle` the lease. Never blocks."""
        return begin(new(self._proxies[type(slot.raw)]), slot)

    def lease_on_first_use(self, request: Request | None = None) -> ConnectionProxy:
        """Make a lease that acquires its connection when it is first used, and may then raise DatabaseUnavailable."""
        return lazy(self._engine, self._proxies[self._driver.connection_class], request)

    @property
    def name(self) -> str:
        """The name of the pool in metrics and on the status page. No other Database in this process has the same: of
        two with the same option `name` the second one gets a number, as in shop#2."""
        return self._engine.name

    def lease_hook(self, on_lease: Callable[[Any, dict[str, Any]], Any]) -> LeaseHook:
        """What calls the option on_lease of a middleware for leases of this Database."""
        return LeaseHook(on_lease, self._proxies)

    @property
    def tells_outcome(self) -> bool:
        """Whether it can be known of a transaction that nothing remains of it, so that a request may be repeated."""
        return self._driver.tells_outcome

    def count_retry(self) -> None:
        """Count that a request is repeated. Never blocks."""
        process = self._engine.process
        with process.lock:
            process.totals.retries += 1

    @property
    def engine(self) -> Engine:
        """What acquires and releases, for the use of wsgidb itself."""
        return self._engine

    def owns(self, lease: Engine | None) -> bool:
        """Whether this engine, which is a lease's, belongs to this Database or to one of its replicas."""
        return lease is self._engine or any(replica.owns(lease) for replica in self.replicas)

    def check(self) -> float:
        """Acquire a connection, ping it, and return how many seconds the ping took.

        It waits for a connection as a request does, so that it fails where the pool is merely busy: health checks use
        `wsgidb.health`, which never waits for one. Blocks for up to acquire_timeout, and then for up to ping_timeout
        seconds. Raises DatabaseUnavailable if no connection can be acquired or if the ping fails.

        >>> with Database("sqlite:///shop.db") as database:
        ...     database.check() < 2
        True
        """
        return check(self._engine)

    def probe(self) -> bool:
        """Find out whether the database answers, by a connection that is idle or can be opened. Return False if all
        connections are in use; it never waits for one of them. `wsgidb.health` makes health checks of it.

        Blocks for up to ping_timeout or connect_timeout seconds, whichever is longer. Raises DatabaseUnavailable if the
        database does not answer, and does so at once while no connection may be opened yet after a failure.

        >>> with Database("sqlite:///shop.db", pool_size=1) as database, database.connection():
        ...     database.probe()
        False
        """
        return self._engine.probe()

    def warm(self, n: int | None = None) -> int:
        """Open connections before they are needed, until `n` are open, or pool_size if `n` is None. Return how many
        this process has open then, those included that are in use.

        It is meant for the start of a process, before there is traffic, and does no harm later on: it opens no more
        than pool_size, and takes nothing from a request that waits. With thread-local and dbutils-persistent it opens
        the calling thread's own connection. With per-request, and with an existing SQLAlchemy Engine, it opens none.

        Connections are opened one after another. It begins to open the last one within acquire_timeout seconds, and
        each takes up to connect_timeout or acquire_timeout, whichever is shorter. Raises DatabaseUnavailable if one
        cannot be opened, while those opened before stay open, and ConfigError for a bad `n`.

        >>> with Database("sqlite:///shop.db", pool_size=4) as database:
        ...     database.warm(2), database.warm()
        (2, 4)
        """
        return warm(self._engine, self.settings.pool_size if n is None else n)

    def trim(self, keep: int = 0) -> int:
        """Close idle connections now, except for the `keep` that were used last. Return how many were closed.

        wsgidb starts no thread, so that without any request nothing else closes them: an application that wants this
        calls `trim` when it knows that it is idle, or from a timer of its own. With DBUtils and SQLAlchemy the library
        decides which ones stay. Blocks briefly for each connection, while the driver tells the server that it closes.
        Raises ConfigError for a bad `keep`.

        >>> with Database("sqlite:///shop.db", pool_size=4) as database:
        ...     database.warm(), database.trim(keep=1), database.stats().open
        (4, 3, 1)
        """
        return trim(self._engine, keep)

    def drain(self, over: float = 10.0) -> int:
        """Have all connections replaced that are open in this process. Return how many these are.

        It is meant for changed passwords, for changed addresses, and before the server is switched over. It closes
        nothing itself. Each connection gets a moment of its own within the next `over` seconds. From then on it is not
        leased any more: it is closed when a request would get it or gives it back, and that request or a later one
        opens another one. Idle connections that no request takes are closed one by one, as requests end. A leased
        connection is never closed. While the server refuses new connections, those that are open are kept.

        A signal handler may call it: it takes no lock, sends nothing, writes nothing to the log, and never blocks. What
        an existing SQLAlchemy Engine keeps is not replaced; call the Engine's dispose(). Raises ConfigError for a bad
        `over`.

        >>> with Database("sqlite:///shop.db", pool_size=4) as database:
        ...     database.warm(3), database.drain(over=0)
        (3, 3)
        """
        return drain(self._engine, over)

    def stats(self) -> Stats:
        """Return a snapshot of this process's counters. It makes no round trip to the server.

        >>> with Database("sqlite:///shop.db") as database, database.connection():
        ...     database.stats().leased
        1
        """
        return snapshot(self._engine, self.clock())

    def close(self) -> None:
        """Close idle connections, and refuse waiting and later callers with DatabaseUnavailable. A leased connection is
        closed when its lease ends. Closing again does nothing.

        Blocks briefly for each connection, while the driver tells the server that it closes."""
        self._engine.close()
        for replica in self.owned_replicas:
            replica.close()

    def __enter__(self: D) -> D:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Database {self.settings.address} strategy={self.settings.strategy_name}>"
