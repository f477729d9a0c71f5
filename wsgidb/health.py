"""Health checks that never queue behind requests: is the process alive, and is it ready for requests?

    from wsgidb.health import liveness, readiness

    checks = {"/livez": liveness, "/readyz": readiness(database)}

    def application(environ, start_response):
        return checks.get(environ["PATH_INFO"], app)(environ, start_response)

`app` is the application with its DatabaseMiddleware. The checks stand outside of it, as a request for them must not
wait for a connection.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .database import Database
from .errors import DatabaseUnavailable
from .strategies.base import CLOSED

__all__ = ["Health", "health", "liveness", "readiness"]

log = logging.getLogger("wsgidb")

Environ = dict[str, Any]
App = Callable[[Environ, Any], list[bytes]]

WHAT = r"(?P<what>cannot connect|not connecting again yet; last failure to connect): "
FAILURE = re.compile(WHAT + r"((?P<error>\w+): (\(?(?P<number>\d{4})\b)?)?")
"""What is shown of a failure to connect: the class of the driver's error, and the number with which its text begins."""


@dataclass(frozen=True)
class Health:
    """Whether a process can serve requests that need its database, and why."""

    ready: bool
    """Whether requests should be sent to this process."""
    reason: str
    """Why, in words that may be shown to anyone. A failure is told by the class of the driver's error, and its number
    if it has one; the log has the rest."""


def health(database: Database) -> Health:
    """Find out whether the database answers, or the pool is merely busy. Never raises.

    Blocks up to ping_timeout or connect_timeout, whichever is longer, for a ping or a connect; not at all while
    connections are in use, were used within ping_after, or must not be opened yet after a failure.

    >>> with Database("sqlite:///shop.db") as database:
    ...     health(database)
    Health(ready=True, reason='the database answers')
    """
    try:
        return Health(True, "the database answers" if database.probe() else "all connections are in use")
    except DatabaseUnavailable as error:
        return Health(False, _public(error.text))
    except Exception as error:  # a driver or a strategy of the application's own, say
        log.exception("%s: the health check failed", database.settings.address)
        return Health(False, f"the health check failed: {type(error).__name__}")


def _public(text: str) -> str:
    """What may be shown of an error's text. What a driver or server said may quote a statement, and names users."""
    failure = FAILURE.match(text)
    if failure is None:
        return CLOSED if text == CLOSED else "the database is unavailable"
    told = " ".join(filter(None, (failure["error"], failure["number"])))
    return f"{failure['what']}: {told}" if told else failure["what"]


def liveness(environ: Environ, start_response: Any) -> list[bytes]:
    """Answer 200, as a WSGI application: this process takes requests. Never blocks, and touches no database."""
    return _answer(environ, start_response, "200 OK", {"alive": True})


def readiness(database: Database) -> App:
    """Make a WSGI application that answers what `health` finds: 200 if the process is ready for requests, else 503.

    The body is JSON: ``{"ready": false, "reason": "cannot connect: OperationalError 2003"}``.

    >>> checks = {"/livez": liveness, "/readyz": readiness(Database("sqlite:///shop.db"))}
    >>> checks["/readyz"]({}, lambda status, headers: print(status))
    200 OK
    [b'{"ready": true, "reason": "the database answers"}']
    """

    def ready(environ: Environ, start_response: Any) -> list[bytes]:
        found = health(database)
        status = "200 OK" if found.ready else "503 Service Unavailable"
        return _answer(environ, start_response, status, {"ready": found.ready, "reason": found.reason})

    return ready


def _answer(environ: Environ, start_response: Any, status: str, told: dict[str, Any]) -> list[bytes]:
    text = json.dumps(told).encode()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(text))), ("Cache-Control", "no-store")]
    start_response(status, headers)
    return [] if environ.get("REQUEST_METHOD") == "HEAD" else [text]
