"""The WSGI protocol (PEP 3333), and nothing else: a lease for each request, and its end in every case."""

from __future__ import annotations

import logging
from collections.abc import Callable
from operator import itemgetter
from typing import Any

from ..config.settings import Settings
from ..database import Database
from ..dbapi import Connection
from ..errors import ConfigError, DatabaseUnavailable
from ..lease.proxy import ConnectionProxy, engine_of, interrupt
from ..strategies import Request, named
from .exchange import CommitFailed, Environ, Exchange, HeldExchange, StartResponse
from .response import SizedStream, Stream, is_file

App = Callable[[Environ, Any], Any]

log = logging.getLogger("wsgidb")


class DatabaseMiddleware:
    """Wraps a WSGI application; its handlers find a validated connection in ``environ["db.conn"]``.

    A request that can get none within acquire_timeout is answered with a 503, and the application is not called.
    """

    def __init__(self, app: App, database_or_url: Database | str | None = None, /, **options: Any) -> None:
        """`options` are those of docs/options.md; with a ready-made Database, only the middleware's own.

        With neither a url nor a Database, the environment is asked, where `options` are not given: `Database.from_env`.
        Raises ConfigError."""
        self.app = app
        if isinstance(database_or_url, Database):
            self.database = database_or_url
            self.settings = database_or_url.settings.with_middleware(options)
        elif database_or_url is not None or options.keys() & {"url", "creator"}:
            self.database = Database(database_or_url, **options)
            self.settings = self.database.settings
        else:
            self.database = Database(Settings.from_env(overrides=options))
            self.settings = self.database.settings
        self.key = self.settings.key
        self._excludes = _excluder(self.settings.exclude)
        self._lazy = self.settings.acquire == "first-use"
        self._lease = self.database.lease_on_first_use if self._lazy else self.database.lease
        self._veto = (self.settings.commit_veto or default_veto) if self.settings.transaction == "request" else None
        self._hold = self._lazy or self._veto is not None  # until it is known what to answer

    def __repr__(self) -> str:
        return f"<DatabaseMiddleware {self.key} {self.database!r}>"

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        if (self._excludes is not None and self._excludes(environ)) or (self.key in environ and self._is_held(environ)):
            return self.app(environ, start_response)
        try:
            conn = environ[self.key] = self._lease(_request(environ))
        except DatabaseUnavailable as error:
            return self._refuse(environ, start_response, error)
        if self._hold:
            return self._hold_back(HeldExchange(environ, conn, start_response, self._veto))
        return self._respond(Exchange(environ, conn, start_response))

    def _hold_back(self, exchange: HeldExchange) -> Any:
        """The application's response, or an error's as long as nothing was sent."""
        try:
            return self._respond(exchange)
        except DatabaseUnavailable as error:
            if exchange.sent or not self._lazy:  # else it is another Database's
                raise
            return self._refuse(exchange.environ, exchange.server, error)
        except CommitFailed as error:
            return self._fail(exchange.environ, exchange.server, error)

    def _respond(self, exchange: Exchange) -> Any:
        """The application's response; the lease is settled at its return, unless the body still needs it."""
        try:
            body = self.app(exchange.environ, exchange)
            kind = type(body)
            whole = kind is list or kind is tuple or is_file(body, exchange.environ)
        except BaseException as error:
            interrupt(exchange.conn, error)
            raise
        if whole:
            try:
                exchange.complete()
            except BaseException:
                if hasattr(body, "close"):  # the server never gets it
                    body.close()
                raise
            return body
        if body is None:  # for the server, or a lint, to complain about
            interrupt(exchange.conn, None)
            exchange.send()
            return None
        stream = SizedStream if hasattr(kind, "__len__") else Stream
        return stream(body, exchange).start()

    def _is_held(self, environ: Environ) -> bool:
        """Whether the request has a lease of the same Database already."""
        held = environ[self.key]
        if not isinstance(held, ConnectionProxy):
            return False
        engine = engine_of(held)
        if engine is None:  # of an earlier request, in a reused environ
            return False
        if not self.database.owns(engine):
            raise ConfigError(f"key: {self.key!r} holds a connection of another Database; give each its own key")
        return True

    def _refuse(self, environ: Environ, start_response: StartResponse, error: DatabaseUnavailable) -> Any:
        """There is no connection: what the configuration says, or a plain 503."""
        environ.pop(self.key, None)
        answer = self.settings.on_unavailable
        if answer == "raise":
            raise error
        if answer is not None:
            return answer(environ, start_response)
        headers = [("Retry-After", str(self.settings.retry_after)), ("Cache-Control", "no-store")]
        return _answer(environ, start_response, "503 Service Unavailable", headers)

    def _fail(self, environ: Environ, start_response: StartResponse, error: CommitFailed) -> Any:
        """The commit failed, and the client knows nothing yet. To raise would make some servers hang up instead."""
        cause = error.__cause__
        log.error("%s: commit failed, answered with 500: %r", named(_request(environ)), cause, exc_info=cause)
        return _answer(environ, start_response, "500 Internal Server Error", [("Cache-Control", "no-store")])


def get_connection(environ: Environ, key: str = "db.conn") -> Connection:
    """The request's connection, typed; with a driver's own class of cursors, annotate with the driver's class.

    Raises ConfigError where there is none: the request is excluded, or the application is not wrapped."""
    try:
        conn: Connection = environ[key]
    except KeyError:
        raise ConfigError(f"environ has no {key!r}: excluded from, or not wrapped by DatabaseMiddleware") from None
    return conn


def default_veto(environ: Environ, status: str, headers: list[tuple[str, str]]) -> bool:
    """Whether a response is rolled back under transaction=request: with a status of 400 and above."""
    return status[:1] not in ("1", "2", "3")


_names = itemgetter("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO")


def _request(environ: Environ) -> Request:
    try:
        names: Request = _names(environ)
        return names
    except KeyError:  # PEP 3333: the paths may be left out where they are empty
        return environ.get("REQUEST_METHOD", ""), environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")


def _answer(environ: Environ, start_response: StartResponse, status: str, extra: list[tuple[str, str]]) -> list[bytes]:
    """A plain response that tells nothing of the database."""
    text = f"{status[4:]}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(text))), *extra]
    start_response(status, headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [text]


def _excluder(exclude: Any) -> Callable[[Environ], Any] | None:
    """The option `exclude` as a function: /static covers /static and /static/x, but not /statics."""
    if callable(exclude) or not exclude:
        return exclude or None
    below = tuple(f"{prefix}/" for prefix in exclude)

    def excludes(environ: Environ) -> bool:
        return f"{environ.get('PATH_INFO', '')}/".startswith(below)

    return excludes
