"""One site with transaction=request on the fake driver: handlers, and all that was seen of a request, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from support.fakedb import FakeDB
from support.wsgi import environment
from wsgidb import Database, DatabaseMiddleware

Environ = dict[str, Any]
LOST = FakeDB.OperationalError("the server has gone")


class Surprise(Exception):
    pass


class Body(list[bytes]):
    """Chunks whose close() writes another row, where it gets a connection, or raises."""

    conn: Any = None
    fails = False
    closed = 0

    def close(self) -> None:
        self.closed += 1
        if self.fails:
            raise Surprise("close")
        if self.conn is not None:
            self.conn.cursor().execute("INSERT INTO log")


class Site:
    """A middleware with transaction=request, and what the database and the client got of a request, in order."""

    def __init__(self, fakedb: FakeDB, database: Database, **options: Any) -> None:
        self.fakedb, self.database = fakedb, database
        self.middleware = DatabaseMiddleware(self._app, database, **options)
        self.handler: Callable[[Environ, Any], Any] = lambda environ, start_response: []
        self.started: list[tuple[Any, ...]] = []

    def _app(self, environ: Environ, start_response: Any) -> Any:
        return self.handler(environ, start_response)

    def start_response(self, *args: Any) -> Callable[[bytes], None]:
        self.started.append(args)
        self.fakedb.call(0, args[0])
        return self.send

    def send(self, data: bytes) -> None:
        self.fakedb.call(0, data.decode())

    def call(self, **environ: Any) -> Any:
        """The body, as it came back; nothing was read of it."""
        return self.middleware(environment(**environ), self.start_response)

    def serve(self, **environ: Any) -> None:
        """As a server does."""
        body = self.call(**environ)
        try:
            for chunk in body:
                self.send(chunk)
        finally:
            if hasattr(body, "close"):
                body.close()

    @property
    def seen(self) -> list[str]:
        """Commits, rollbacks, statements, and what was sent to the client."""
        return [sql or name for _, name, sql in self.fakedb.calls if name not in ("connect", "cursor", "close")]

    @property
    def is_whole(self) -> bool:
        """Whether the only connection is in the pool, as good as new."""
        stats = self.database.stats()
        return (stats.open, stats.idle, stats.leased, stats.discards) == (1, 1, 0, {})


def answering(
    body: Any, length: int | None = None, status: str = "200 OK", write: tuple[bytes, ...] = ()
) -> Callable[[Environ, Any], Any]:
    """A handler that writes a row, and answers."""

    def handler(environ: Environ, start_response: Any) -> Any:
        environ["db.conn"].cursor().execute("INSERT")
        put = start_response(status, [("Content-Length", str(length))] if length is not None else [])
        for data in write:
            put(data)
        return body() if callable(body) else body

    return handler


def stream(*chunks: bytes, fails: bool = False) -> Callable[[], Iterator[bytes]]:
    def chunked() -> Iterator[bytes]:
        yield from chunks
        if fails:
            raise Surprise("in the body")

    return chunked


COMMITTED, ROLLED_BACK = ["INSERT", "commit", "rollback"], ["INSERT", "rollback"]
"""The rollback after a commit is the unknown driver's, of which nobody knows what state it is in."""
