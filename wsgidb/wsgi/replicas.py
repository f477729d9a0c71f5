"""The option replicas: requests that only read are sent to a replica, if it has what their client has written.

    Router ┬ reads ─ a replica that has reached the position, or else the primary ─ the application, with its connection
           │                                   └ beside it a lease of the primary, which acquires when it is first used
           └ writes ─ the primary ─────────────────────────────────────────────── the application, with its connection

In both cases the position of what was written on the primary goes into the head of the response.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from ..database import Database
from ..errors import DatabaseUnavailable
from ..lease.proxy import ConnectionProxy
from ..lease.state import FirstUse, first_use_of, set_written
from ..scale.positions import Needed
from ..scale.replicas import replicas_of
from ..scale.second import acquire_beside
from ..strategies import Request, Slot
from .exchange import CommitFailed, Environ, StartResponse
from .positions import Head, Names
from .reading import ReadingExchange, TimedReadingExchange
from .requests import request_of
from .retry import ATTEMPT
from .timing import ServerTiming

HEAD = "wsgidb.head"
"""The key of environ that holds the `Head` of a request that may write."""


def primary_key(key: str) -> str:
    """The key of environ for the connection of the primary: db.primary beside db.conn."""
    return f"{key.removesuffix('.conn')}.primary"


def only_reads(environ: Environ) -> bool:
    """Decide that a request only reads, unless replica_if is given."""
    return environ.get("REQUEST_METHOD") in ("GET", "HEAD")


class NoReplica(Exception):
    """No replica has what the client needs to see."""


class Router:
    """Serves the requests of a middleware that has replicas."""

    def __init__(self, middleware: Any) -> None:
        """Prepare the Database of a DatabaseMiddleware. Never blocks. Raises ConfigError."""
        self._database: Database = middleware.database
        settings = middleware.settings
        self._app = middleware.app
        self._key, self._primary_key = settings.key, primary_key(settings.key)
        self._only_reads = settings.replica_if or only_reads
        self._names = Names(settings.key)
        self._replicas = replicas_of(self._database, settings.replicas) if self._database.has_replicas else None
        own = replace(settings, replicas=(), replica_if=None, status=None, exclude=())
        self._writing = middleware.variant(self._write, own, holds=True)
        self._from_primary = middleware.variant(self._read_from_primary, own)
        self._reading = middleware.variant(self._app, replace(own, key=self._primary_key, acquire="first-use"))
        self._lazy = settings.acquire == "first-use"
        self._timed = settings.server_timing

    def __call__(self, environ: Environ, start_response: StartResponse) -> Any:
        needed = self._names.needed(environ)
        if self._replicas is None or not self._only_reads(environ):
            head = environ[HEAD] = Head(self._names, environ, start_response, needed)
            return self._writing(environ, head)
        request = request_of(environ)
        if self._lazy or self._timed:
            return self._take_care(environ, start_response, needed, request)
        slot = self._replicas.take(request, needed)
        if slot is None:
            return self._from_primary(environ, start_response)
        primary = self._database.lease_on_first_use(request)
        return self._read(environ, start_response, needed, primary, self._database.lease_of(slot))

    def _take_care(self, environ: Environ, server: StartResponse, needed: Needed | None, request: Request) -> Any:
        """Serve a request that reads, where the middleware itself alters or replaces heads."""
        primary = self._database.lease_on_first_use(request)
        start_response, lease = server, partial(self._lease, needed, primary)
        if self._timed:
            start_response = timing = ServerTiming(server, self._database.clock)
            lease = partial(timing.lease, lease)
        try:
            replica = lease(request)
        except NoReplica:
            return self._from_primary(environ, server)
        return self._read(environ, start_response, needed, primary, replica)

    def _lease(self, needed: Needed | None, primary: ConnectionProxy, request: Request) -> ConnectionProxy:
        """A lease of a replica that has what the client needs to see. Raises NoReplica if there is none.

        With acquire=first-use that is found out at the first use, and the primary is used in place of it, beside the
        request's other lease of the `primary`."""
        assert self._replicas is not None, "there are replicas"
        if not self._lazy:
            slot = self._replicas.take(request, needed)
            if slot is None:
                raise NoReplica
            return self._database.lease_of(slot)
        replica = self._database.lease_on_first_use(request)
        _first(replica).acquire = partial(self._acquire, needed, primary)
        self._go_beside(primary, replica)
        return replica

    def _acquire(self, needed: Needed | None, primary: ConnectionProxy, request: Request | None) -> Slot:
        assert self._replicas is not None, "there are replicas"
        slot = self._replicas.take(request, needed)
        return slot or acquire_beside(self._database.engine, primary, request)

    def _go_beside(self, primary: ConnectionProxy, other: ConnectionProxy) -> None:
        """Let the lease of the primary mind that the request's other one may have a connection of the same pool."""
        _first(primary).acquire = partial(acquire_beside, self._database.engine, other)

    def _read(
        self,
        environ: Environ,
        start_response: StartResponse,
        needed: Needed | None,
        lease: ConnectionProxy,
        replica: ConnectionProxy | None,
    ) -> Any:
        """Call the application with the lease of a replica, or of the primary, which the caller then ends; and with
        another `lease` of the primary."""
        timed = False
        if replica is not None:
            environ[self._key], timed = replica, self._timed
        environ[self._primary_key] = lease
        reading = self._reading
        if reading.settings.retry:
            environ.setdefault(ATTEMPT, 1)
        if reading.hook is not None:
            if replica is not None:
                reading.call_hook(reading.hook, replica, environ)
            reading.call_hook(reading.hook, lease, environ)
        exchange = (TimedReadingExchange if timed else ReadingExchange)(environ, lease, start_response, reading.veto)
        exchange.follow(self._names, needed, self._renews(needed), replica)
        set_written(lease, exchange)
        try:
            return reading.respond(exchange)
        except DatabaseUnavailable as error:
            if exchange.sent:
                raise
            environ.pop(self._key, None)
            return reading.refuse(environ, start_response, error)
        except CommitFailed as error:
            return reading.fail(environ, exchange.tell, error)

    def _renews(self, needed: Needed | None) -> bool:
        return needed is not None and self._replicas is not None and not self._replicas.all_have(needed)

    # -- in place of the application

    def _write(self, environ: Environ, start_response: StartResponse) -> Any:
        """Call the application for a request that may write: both keys hold the same connection, of the primary."""
        lease = environ[self._primary_key] = environ[self._key]
        environ[HEAD].follow(lease)
        return self._app(environ, start_response)

    def _read_from_primary(self, environ: Environ, start_response: StartResponse) -> Any:
        """Call the application for a request that reads from the primary."""
        lease = self._database.lease_on_first_use(request_of(environ))
        self._go_beside(lease, environ[self._key])
        return self._read(environ, start_response, self._names.needed(environ), lease, None)


def _first(lease: ConnectionProxy) -> FirstUse:
    first = first_use_of(lease)
    assert first is not None, "it has just been made"
    return first
