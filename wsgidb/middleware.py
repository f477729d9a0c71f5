"""The WSGI protocol (PEP 3333), and nothing else: a lease for each request, and its end in every case."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .connection import ConnectionProxy, doom, engine_of, release
from .database import Database
from .errors import ConfigError, DatabaseUnavailable
from .response import Head, SizedStream, StartResponse, Stream, is_whole
from .settings import Settings

Environ = dict[str, Any]
App = Callable[[Environ, Any], Any]

UNAVAILABLE = b"Service temporarily unavailable\n"


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
        lazy = self.settings.acquire == "first-use"
        self._lease = self.database.lease_on_first_use if lazy else self.database.lease
        self._hold = lazy  # a failure at the first use can still become a 503

    def __repr__(self) -> str:
        return f"<DatabaseMiddleware {self.key} {self.database!r}>"

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        if self._passes(environ):
            return self.app(environ, start_response)
        try:
            conn = self._lease()
        except DatabaseUnavailable as error:
            environ.pop(self.key, None)
            return self._refuse(environ, start_response, error)
        environ[self.key] = conn
        head = Head(start_response, self._hold)
        try:
            return self._respond(environ, conn, head)
        except DatabaseUnavailable as error:
            if not self._hold or head.sent:
                raise
            environ.pop(self.key, None)
            return self._refuse(environ, start_response, error)

    def _respond(self, environ: Environ, conn: ConnectionProxy, head: Head) -> Any:
        """The application's response; the lease is over at its return, unless the body still needs it."""
        try:
            body = self.app(environ, head)
            complete = body is None or is_whole(body, environ)  # None is for the server, or a lint, to complain about
        except BaseException as error:
            if not isinstance(error, Exception):
                doom(conn, "interrupted")
            release(conn)
            raise
        if complete:
            release(conn)
            head.send()
            return body
        stream = SizedStream if hasattr(type(body), "__len__") else Stream
        return stream(body, conn, head, environ.get("PATH_INFO", "")).start()

    def _passes(self, environ: Environ) -> bool:
        """Whether the request gets no lease here: it is excluded, or has one of the same Database already."""
        exclude = self.settings.exclude
        if exclude and (exclude(environ) if callable(exclude) else _is_below(environ.get("PATH_INFO", ""), exclude)):
            return True
        held = environ.get(self.key)
        if held is None or not isinstance(held, ConnectionProxy):
            return False
        engine = engine_of(held)
        if engine is None:  # of an earlier request, in a reused environ
            return False
        if not self.database.owns(engine):
            raise ConfigError(f"key: {self.key!r} holds a connection of another Database; give each its own key")
        return True

    def _refuse(
        self, environ: Environ, start_response: StartResponse, error: DatabaseUnavailable
    ) -> Any:
        answer = self.settings.on_unavailable
        if answer == "raise":
            raise error
        if answer is not None:
            return answer(environ, start_response)
        headers = [
            ("Content-Type", "text/plain; charset=utf-8"),
            ("Content-Length", str(len(UNAVAILABLE))),
            ("Retry-After", str(self.settings.retry_after)),
            ("Cache-Control", "no-store"),
        ]
        start_response("503 Service Unavailable", headers)
        return [] if environ.get("REQUEST_METHOD") == "HEAD" else [UNAVAILABLE]


def _is_below(path: str, prefixes: tuple[str, ...]) -> bool:
    """Whether a path is one of the prefixes, or lies below it: /static covers /static/x, but not /statics."""
    return any(path == prefix or path.startswith(f"{prefix}/") for prefix in prefixes)
