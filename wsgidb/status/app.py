"""The status page as a WSGI application."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from ipaddress import ip_address
from secrets import token_urlsafe
from time import monotonic
from typing import Any
from urllib.parse import parse_qs

from ..config.optional import load
from ..config.settings import Settings
from ..database import Database
from ..observe.server import facts
from ..observe.sources import Source
from .advice import outage, percent
from .view import seconds, view

log = logging.getLogger("wsgidb")

Environ = dict[str, Any]
FORWARDED = ("HTTP_FORWARDED", "HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_VIA")
ASK_EVERY = 60.0
"""Seconds after which the server is asked again how many connections it allows."""


def from_this_machine(environ: Environ) -> bool:
    """Whether a request comes from this machine, and not from a proxy on it that forwards another one's."""
    if any(name in environ for name in FORWARDED):
        return False
    try:
        return ip_address(environ.get("REMOTE_ADDR", "")).is_loopback
    except ValueError:
        return False


class StatusApp:
    """A WSGI application that shows how the connections of a Database are used: who holds them, who waits, how long
    that takes, what happened lately, and what should be changed.

    It is a page for people; with ``?format=json`` it is JSON. It shows the paths of requests, but neither statements
    nor passwords. With the option `board` it tells of all processes of the server, otherwise of the one that answers.

    >>> database = Database("sqlite:///shop.db", name="shop")
    >>> status = StatusApp(database, allow=lambda environ: environ.get("REMOTE_USER") == "admin")
    >>> status({"REQUEST_METHOD": "GET"}, lambda status, headers: print(status))
    403 Forbidden
    [b'This page is not for you.\\n']
    """

    def __init__(self, database: Database, allow: Callable[[Environ], object] = from_this_machine) -> None:
        """Never blocks. `allow` gets the environ of each request and returns whether it may see the page; by default
        only requests from this machine may. Raises ConfigError if Jinja2 is not installed."""
        self._database = database
        self._source = Source(database)
        self._allow = allow
        self._lock = threading.Lock()  # guards the two below
        self._asked = float("-inf")
        self._allowed: int | None = None
        self._template = load(__package__ or "", "template", "page", "status", "status: the page")

    def __call__(self, environ: Environ, start_response: Any) -> list[bytes]:
        """Answer a request. Blocks for reading the board; once a minute also for asking the server, over a connection
        of its own, how many connections it allows, which takes connect_timeout at most."""
        method = environ.get("REQUEST_METHOD", "GET")
        plain = "text/plain; charset=utf-8"
        if not self._allow(environ):
            return _answer(start_response, "403 Forbidden", plain, "This page is not for you.\n", method)
        if method not in ("GET", "HEAD"):
            return _answer(
                start_response, "405 Method Not Allowed", plain, "Use GET.\n", method, ("Allow", "GET, HEAD")
            )
        if environ.get("PATH_INFO", "") not in ("", "/"):
            return _answer(start_response, "404 Not Found", plain, "There is one page only.\n", method)
        pools = [view(pool, self._server_allows(outage(pool) is None)) for pool in self._source.pools()]
        if parse_qs(environ.get("QUERY_STRING", "")).get("format") == ["json"]:
            text = json.dumps({"pools": pools}, indent=2) + "\n"
            return _answer(start_response, "200 OK", "application/json", text, method)
        nonce = token_urlsafe(16)
        text = self._template(pools=pools, nonce=nonce, seconds=seconds, percent=percent)
        policy = f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; connect-src 'self'"
        security = ("Content-Security-Policy", f"{policy}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
        return _answer(start_response, "200 OK", "text/html; charset=utf-8", text, method, security)

    def _server_allows(self, reachable: bool) -> int | None:
        """How many connections the server allows, if it can be asked. While one thread asks, others do not wait."""
        now = monotonic()
        if reachable and now - self._asked >= ASK_EVERY and self._lock.acquire(blocking=False):
            try:
                self._asked = now
                self._allowed = facts(self._asking).get("max_connections")
            except Exception as error:
                log.debug("%s: the server cannot be asked", self._database.settings.address, exc_info=error)
            finally:
                self._lock.release()
        return self._allowed

    @cached_property
    def _asking(self) -> Settings:
        """The settings of the one connection that asks."""
        quiet: dict[str, Any] = {"telemetry": False, "board": None, "leak_after": None, "transaction": "manual"}
        return replace(self._database.settings, name="wsgidb's status page", **quiet)


def _answer(start_response: Any, status: str, kind: str, text: str, method: str, *more: tuple[str, str]) -> list[bytes]:
    body = text.encode()
    start_response(
        status, [("Content-Type", kind), ("Content-Length", str(len(body))), ("Cache-Control", "no-store"), *more]
    )
    return [] if method == "HEAD" else [body]
