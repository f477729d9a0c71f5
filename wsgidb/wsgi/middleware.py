"""The middleware: it begins a lease for each request and makes sure that the lease ends, whatever the request does."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ..config.settings import Settings
from ..config.values import quoted
from ..database import Database
from ..dbapi import Connection
from ..errors import ConfigError, DatabaseUnavailable
from ..lease.hooks import LeaseHook
from ..lease.proxy import ConnectionProxy
from ..lease.state import engine_of, first_use_of, slot_of
from ..strategies import Request, named
from .answers import default_veto, plain_answer
from .exchange import CommitFailed, Environ, Exchange, HeldExchange, StartResponse
from .requests import excluder, request_of
from .response import SizedStream, Stream, is_file
from .retry import Attempt, Retry
from .timing import ServerTiming, TimedExchange

if TYPE_CHECKING:
    from ..keywords import DatabaseOptions, Unpack

App = Callable[[Environ, Any], Any]
Lease = Callable[[Request], ConnectionProxy]

log = logging.getLogger("wsgidb")


class DatabaseMiddleware:
    """WSGI middleware that puts a validated database connection into ``environ["db.conn"]`` for each request.

    The connection is taken back at the end of the response, and what is not committed is rolled back. If no connection
    can be acquired within acquire_timeout seconds, the client gets a 503 and the application is not called.

    >>> def application(environ, start_response):
    ...     (number,) = environ["db.conn"].execute("SELECT 6 * 7").fetchone()
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     return [str(number).encode()]
    >>> application = DatabaseMiddleware(application, "sqlite:///shop.db", pool_size=16)
    >>> application({}, lambda status, headers: print(status))
    200 OK
    [b'42']
    """

    def __init__(
        self, app: App, database_or_url: Database | str | None = None, /, **options: Unpack[DatabaseOptions]
    ) -> None:
        """Wrap `app`. Never blocks: the first connection is opened for the first request that needs one.

        `database_or_url` is an existing Database or the url for a new one. With neither, the settings are read from the
        environment, as by `Database.from_env`, and `options` take precedence over it. `options` are described in
        docs/options.md; with an existing Database, only those of the middleware may be given. Raises ConfigError.

        >>> database = Database("sqlite:///shop.db")
        >>> DatabaseMiddleware(application, database, exclude=["/static"])
        <DatabaseMiddleware db.conn <Database sqlite:///shop.db strategy=pooled>>
        """
        if isinstance(database_or_url, Database):
            database = database_or_url
            settings = database.settings.with_middleware(options)
        elif database_or_url is not None or options.keys() & {"url", "creator"}:
            database = Database(database_or_url, **options)
            settings = database.settings
        else:
            database = Database(Settings.from_env(overrides=options))
            settings = database.settings
        self._configure(app, database, settings)
        if settings.replicas:
            from .replicas import Router

            self._take_care = Router(self)  # type: ignore[assignment, method-assign]
            self._takes_care = True

    def _configure(self, app: App, database: Database, settings: Settings, holds: bool = False) -> None:
        self.app = app
        self.database = database
        self.settings = settings
        self.key = settings.key
        self._excludes = excluder(settings.exclude)
        self._lazy = settings.acquire == "first-use"
        self._lease = database.lease_on_first_use if self._lazy else database.lease
        self.veto = (settings.commit_veto or default_veto) if settings.transaction == "request" else None
        self._timed = settings.server_timing
        self._held = TimedExchange if self._timed else HeldExchange
        self._holds = holds or self._lazy or self.veto is not None  # because the response may still be replaced
        self.hook = None if settings.on_lease is None else database.lease_hook(settings.on_lease)
        self._takes_care = self._timed or self._holds or self.hook is not None
        repeats = settings.retry and not settings.replicas  # else the Router's own middlewares do
        self._retry = Retry(settings, database, database.clock) if repeats else None
        self._status = self._status_app()

    def variant(self, app: App, settings: Settings, *, holds: bool = False) -> DatabaseMiddleware:
        """Make a middleware of the same Database, for the use of this one. If it `holds`, it holds each head back."""
        made = object.__new__(DatabaseMiddleware)
        made._configure(app, self.database, settings, holds)
        return made

    @property
    def database(self) -> Database:
        """The Database that the connections come from. Another may be assigned, as tests do (docs/testing-your-app.md).

        The options that the middleware was given stay. Requests that have begun end with the Database that they began
        with. Neither Database is closed. Raises ConfigError if the other one has another value of `transaction`, which
        decides what the application's commits mean, or if it contradicts an option of the middleware.

        >>> middleware = DatabaseMiddleware(application, "sqlite:///shop.db")
        >>> middleware.database = Database("sqlite:///other.db")
        >>> middleware
        <DatabaseMiddleware db.conn <Database sqlite:///other.db strategy=pooled>>
        """
        return self._database

    @database.setter
    def database(self, database: Database) -> None:
        if "_database" not in vars(self):  # the constructor assigns the first one
            self._database = database
            return
        if not isinstance(database, Database):
            raise ConfigError(f"database: takes a Database{quoted(database)}", entry="config-made-before")
        ours, theirs = self.settings.transaction, database.settings.transaction
        if ours != theirs:
            raise ConfigError(
                f"transaction: this application needs a Database with {ours}, and that one has {theirs}",
                entry="config-made-before",
            )
        self.__dict__ = vars(type(self)(self.app, database, **self.settings.of_middleware()))

    def __repr__(self) -> str:
        return f"<DatabaseMiddleware {self.key} {self.database!r}>"

    def _status_app(self) -> Callable[[Environ, StartResponse], Any] | None:
        """The status page, if the option `status` has its path."""
        if self.settings.status is None:
            return None
        from ..status import StatusApp, from_this_machine

        return StatusApp(self.database, self.settings.status_allow or from_this_machine)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        if self._status is not None and environ.get("PATH_INFO", "").rstrip("/") == self.settings.status:
            return self._status({**environ, "PATH_INFO": ""}, start_response)
        if (self._excludes is not None and self._excludes(environ)) or (self.key in environ and self._is_held(environ)):
            return self.app(environ, start_response)
        if self._takes_care:
            if self._retry is not None:
                return self._retry.serve(self._take_care, environ, start_response)
            return self._take_care(environ, start_response)
        try:
            conn = environ[self.key] = self._lease(request_of(environ))
        except DatabaseUnavailable as error:
            return self.refuse(environ, start_response, error)
        return self.respond(Exchange(environ, conn, start_response))

    def _take_care(self, environ: Environ, start_response: StartResponse, attempt: Attempt | None = None) -> Any:
        """Serve a request for whose lease on_lease is called, or whose head does not go out as it is: it gets one more
        header, or it is held back, so that the response can be replaced if an error comes while nothing was sent.
        Raises Repeat if the `attempt` is to be repeated."""
        lease: Lease = self._lease if attempt is None else attempt.lease
        if self._timed:
            start_response = timing = ServerTiming(start_response, self.database.clock)
            lease = partial(timing.lease, lease)
        try:
            conn = environ[self.key] = lease(request_of(environ))
        except DatabaseUnavailable as error:
            return self.refuse(environ, start_response, error)
        if self.hook is not None:
            self.call_hook(self.hook, conn, environ)
        if not self._holds:
            return self.respond(Exchange(environ, conn, start_response))
        held = self._held if attempt is None else partial(attempt.exchange, self._held)
        exchange = held(environ, conn, start_response, self.veto)
        try:
            return self.respond(exchange)
        except DatabaseUnavailable as error:
            if exchange.sent or not self._lazy:  # of another Database
                raise
            return self.refuse(environ, start_response, error)
        except CommitFailed as error:
            return self.fail(environ, start_response, error)

    def call_hook(self, hook: LeaseHook, conn: ConnectionProxy, environ: Environ) -> None:
        """Call on_lease now, or let the first use call it. Raises what it raises, as if the application had."""
        first = first_use_of(conn)
        if first is not None:
            first.hook = partial(hook.run, environ=environ)
            return
        slot = slot_of(conn)
        assert slot is not None, "the lease has just begun"
        hook.begin(conn, slot, environ)

    def respond(self, exchange: Exchange) -> Any:
        """Call the application. A complete body is settled before it is returned; any other body is wrapped, and
        settles the lease when it ends."""
        try:
            body = self.app(exchange.environ, exchange)
            kind = type(body)
            whole = kind is list or kind is tuple or is_file(body, exchange.environ)
        except BaseException as error:
            exchange.interrupt(error)
            raise
        if whole:
            try:
                exchange.complete()
            except BaseException:
                if hasattr(body, "close"):  # PEP 3333; the server will not do it, as it never gets this body
                    body.close()
                raise
            return body
        if body is None:  # an application's bug, which the server or a validator reports
            exchange.interrupt(None)
            exchange.send()
            return None
        stream = SizedStream if hasattr(kind, "__len__") else Stream
        return stream(body, exchange).start()

    def _is_held(self, environ: Environ) -> bool:
        """Whether the request already has a live lease of this Database."""
        held = environ[self.key]
        if not isinstance(held, ConnectionProxy):
            return False
        engine = engine_of(held)
        if engine is None:  # the lease of an earlier request, in a reused environ
            return False
        if not self.database.owns(engine):
            raise ConfigError(
                f"key: {self.key!r} holds a connection of another Database, {engine.settings.address}: the application "
                "is wrapped twice. For two databases, give each middleware its own key; in a test, wrap the bare "
                "application, which is the attribute app of the other middleware",
                entry="config-middleware",
            )
        return True

    def refuse(self, environ: Environ, start_response: StartResponse, error: DatabaseUnavailable) -> Any:
        """Answer a request that gets no connection: with on_unavailable, or with a plain 503."""
        environ.pop(self.key, None)
        answer = self.settings.on_unavailable
        if answer == "raise":
            raise error
        if answer is not None:
            return answer(environ, start_response)
        headers = [("Retry-After", str(self.settings.retry_after)), ("Cache-Control", "no-store")]
        return plain_answer(environ, start_response, "503 Service Unavailable", headers)

    def fail(self, environ: Environ, start_response: StartResponse, error: CommitFailed) -> Any:
        """Answer with a 500, because the commit failed before anything was sent.

        Raising instead would make some servers (uWSGI, Cheroot) close the connection without an answer."""
        cause = error.__cause__
        log.error("%s: commit failed, answered with 500: %r", named(request_of(environ)), cause, exc_info=cause)
        return plain_answer(environ, start_response, "500 Internal Server Error", [("Cache-Control", "no-store")])


def get_connection(environ: Environ, key: str = "db.conn") -> Connection:
    """Return the request's connection with the type `Connection`, since the values of environ are untyped.

    `key` is the option `key` of the middleware. To use what only your driver has, annotate with the driver's class
    instead. Never blocks. Raises ConfigError if there is no connection: the request is excluded, or the application is
    not wrapped.

    >>> def application(environ, start_response):
    ...     (number,) = get_connection(environ).execute("SELECT 6 * 7").fetchone()
    ...     start_response("200 OK", [("Content-Type", "text/plain")])
    ...     return [str(number).encode()]
    """
    try:
        conn: Connection = environ[key]
    except KeyError:
        raise ConfigError(
            f"environ has no {key!r}: the request is excluded, or the application is not wrapped by DatabaseMiddleware",
            entry="config-middleware",
        ) from None
    return conn
