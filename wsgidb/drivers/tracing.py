"""Statements under tracing tools such as OpenTelemetry's and Datadog's instrumentation of the drivers.

These tools replace the driver's connect function by a wrapper, which calls it and returns the connection with cursors
that make a span for each statement. wsgidb's connections are made in another way, so that deadlines and observation are
its own. So a tool's wrapper is asked for its view of a connection that is there already, and the handlers' cursors come
from that view. wsgidb's own statements (pings, rollbacks) go past it and make no spans.

Both tools wrap by wrapt's FunctionWrapper: https://wrapt.readthedocs.io/en/latest/wrappers.html. A wrapper function is
called with the wrapped function, its instance, and its arguments.
"""

from __future__ import annotations

import logging
from typing import Any

log = logging.getLogger("wsgidb")


def traced(connect: Any, conn: Any, **arguments: Any) -> Any:
    """The connection as the tools see it that have wrapped the driver's `connect`; itself if there are none.

    `arguments` are those of connecting that a tool may change. Never raises for a tool's fault: the statements are not
    traced then, and a log line says why."""
    wrapper = getattr(connect, "_self_wrapper", None)
    if wrapper is None:
        return conn

    def connected(*_: Any, **changed: Any) -> Any:
        return traced(connect.__wrapped__, _set_up(conn, changed), **changed)

    try:
        return wrapper(connected, None, (), dict(arguments))
    except Exception:
        log.exception("a tracing tool failed on a new connection; its statements are not traced")
        return conn


def _set_up(conn: Any, arguments: dict[str, Any]) -> Any:
    """Set what a tool adds to the arguments of connecting: with psycopg, a cursor class that makes spans."""
    for name, value in arguments.items():
        setattr(conn, name, value)
    return conn


def untraced(wrapped: Any) -> Any:
    """The driver's own cursor or connection in a tool's."""
    while (inner := getattr(wrapped, "__wrapped__", None)) is not None:
        wrapped = inner
    return wrapped


def is_method_of(found: Any, owner: Any) -> bool:
    """Whether an attribute that was found on `owner` is a method of it, or of what a tool has wrapped in it."""
    bound = getattr(found, "__self__", None)
    return bound is not None and (bound is owner or bound is untraced(owner))
