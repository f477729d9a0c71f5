"""The options of the middleware."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import databases, values
from .option import WEEK, option


@dataclass(frozen=True, kw_only=True)
class MiddlewareOptions:
    """How requests get their connection and their answer."""

    commit_veto: Any = option(
        None,
        values.function(),
        "With transaction=request, a callable that gets environ, status and headers, and returns true if the request "
        "is to be rolled back. Without it, a status of 400 or above is rolled back.",
    )
    retry: int = option(
        0,
        values.number(least=0, most=100, whole=True),
        "With transaction=request, how often a request is repeated whose transaction is known to be undone, such as "
        "the victim of a deadlock (docs/transactions.md).",
        unit="times",
    )
    retry_if: Any = option(
        None,
        values.function(),
        "With retry, a callable that gets environ before the first attempt, and returns true if the request may be "
        "repeated. Without it, GET, HEAD, PUT and DELETE may.",
    )
    status: str | None = option(
        None,
        values.path,
        "The path at which the middleware answers with the status page (docs/observing.md), such as /-/wsgidb. It "
        "needs Jinja2. Without it, there is no such page.",
    )
    status_allow: Any = option(
        None,
        values.function(),
        "A callable that gets environ, and returns true if the request may see the status page. Without it, only "
        "requests from this machine may, and none that a proxy has forwarded.",
    )
    key: str = option(
        "db.conn",
        values.string(),
        "The key of environ that holds the connection. It must contain a dot.",
    )
    acquire: str = option(
        "request",
        values.choice("request", "first-use"),
        "When the connection is acquired. request: before the application is called; a client that sends the body of "
        "its request slowly then holds a connection meanwhile, unless the server reads the body first. first-use: when "
        "the application first uses it.",
    )
    on_lease: Any = option(
        None,
        values.function(),
        "A callable that gets the connection and environ when the lease of a request begins, and may set what belongs "
        "to the request, such as its tenant. If it is a generator function, what follows its yield is run at the end "
        "of the lease (docs/hooks.md).",
    )
    exclude: Any = option(
        (),
        values.paths,
        "The requests that get no connection: path prefixes, which match whole segments of PATH_INFO, or a callable "
        "that gets environ and returns true for them.",
    )
    retry_after: int = option(
        1,
        values.number(least=0, most=WEEK, whole=True),
        "The value of the Retry-After header of a 503 response.",
        unit="seconds",
    )
    on_unavailable: Any = option(
        None,
        values.function("raise"),
        "What answers a request for which no connection can be acquired: a WSGI application, or raise, which raises "
        "DatabaseUnavailable. Without it, the answer is a plain 503.",
    )
    replicas: Any = option(
        (),
        databases.several,
        "The replicas of the database, to which the requests go that only read (docs/replicas.md).",
        hidden=True,
    )
    replica_if: Any = option(
        None,
        values.function(),
        "With replicas, a callable that gets environ, and returns true if the request only reads. Without it, that is "
        "so for GET and HEAD.",
    )
    server_timing: bool = option(
        False,
        values.flag,
        "Whether responses get the header Server-Timing, which browsers show: the time of the request's statements "
        "(db) and the time that it waited for its connection (db-wait).",
    )
