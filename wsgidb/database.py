"""The noun that lives as long as the process: settings, driver and engine of one database."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar, cast

from .config.settings import Settings
from .dbapi import Connection
from .drivers import Driver, make_driver
from .errors import ConfigError, DatabaseUnavailable
from .lease.classes import ProxyClasses
from .lease.proxy import ConnectionProxy, interrupt, lazy, lease, settle
from .pool.engine import Engine
from .pool.leaks import watched
from .pool.stats import Stats, snapshot
from .strategies import Request

D = TypeVar("D", bound="Database")


class Database:
    """Where connections come from. Opens none until one is asked for. Safe to share between threads, and across a
    fork: a child opens its own connections."""

    _engine_class: ClassVar[type[Engine]] = Engine

    def __init__(
        self,
        url: str | Settings | None = None,
        /,
        *,
        clock: Callable[[], float] = time.monotonic,
        **options: Any,
    ) -> None:
        """`options` are those of docs/options.md. Never blocks. Raises ConfigError for what is wrong with them.

        `clock` tells monotonic seconds; it is there for tests."""
        if url is not None and (options if isinstance(url, Settings) else "url" in options):
            raise ConfigError("url: given twice")
        if not isinstance(url, Settings):
            url = Settings.of({**options, **({} if url is None else {"url": url})})
        self.settings = url
        self._clock = clock
        self._driver = self._make_driver()
        self._proxies = ProxyClasses(self._driver)
        engine_class = self._engine_class if url.leak_after is None else watched(self._engine_class)
        self._engine = engine_class(url, self._driver, clock)
        self._finalize = weakref.finalize(self, self._engine.close)  # at the interpreter's exit, too

    def _make_driver(self) -> Driver:
        return make_driver(self.settings, self._clock)

    @classmethod
    def from_env(cls, prefix: str = "WSGIDB_") -> Database:
        """A Database of the environment: each option is a variable, in capitals, behind `prefix`.

        Raises ConfigError; also for a variable of that prefix that is no option."""
        return cls(Settings.from_env(prefix))

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A validated connection for scripts and background jobs, under the same rules as a request's.

        Blocks up to acquire_timeout, and at the end for a rollback or commit. Raises DatabaseUnavailable, and with
        transaction=request what a failed commit raises."""
        conn = self.lease()
        try:
            yield cast(Connection, conn)  # it passes on what it has no method for
        except BaseException as error:
            interrupt(conn, error)
            raise
        settle(conn, success=True)

    def lease(self, request: Request | None = None) -> ConnectionProxy:
        """A lease that its caller must `settle`; see `connection`, which does. `request` is what log lines call it."""
        slot = self._engine.acquire()
        slot.request = request
        return lease(slot, self._proxies[type(slot.raw)])

    def lease_on_first_use(self, request: Request | None = None) -> ConnectionProxy:
        """A lease that acquires nothing until it is used, and then may raise DatabaseUnavailable."""
        return lazy(self._engine, self._proxies[self._driver.connection_class], request)

    def owns(self, lease: Engine | None) -> bool:
        """Whether a lease's engine is this Database's."""
        return lease is self._engine

    def check(self) -> float:
        """Borrow a connection, ping it, and return the seconds that the ping took: for health pages.

        Blocks up to acquire_timeout and ping_timeout. Raises DatabaseUnavailable."""
        slot = self._engine.acquire()
        try:
            began = self._clock()
            self._driver.ping(slot.raw, began + self.settings.ping_timeout)
            return self._clock() - began
        except Exception as error:
            slot.fault = "ping failed"
            raise DatabaseUnavailable(f"ping failed: {type(error).__name__}: {error}") from error
        except BaseException:
            slot.fault = "interrupted"
            raise
        finally:
            self._engine.release(slot)

    def stats(self) -> Stats:
        """What this process's connections have done so far. Never blocks on the server."""
        return snapshot(self._engine.process, self._clock())

    def close(self) -> None:
        """Close idle connections, fail who waits for one, and close leased ones as they come back. May be repeated.

        Blocks briefly for each connection's goodbye."""
        self._engine.close()

    def __enter__(self: D) -> D:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Database {self.settings.address} strategy={self.settings.strategy_name}>"
