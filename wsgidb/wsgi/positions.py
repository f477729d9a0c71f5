"""How a position travels: from the response of a request that wrote to the client's next requests.

It travels in a cookie, and for clients without cookies in a header of the same value, which they send back.

Each write has a cookie of its own. If there were one for all, the response of an earlier write that arrives late would
replace a later position by its own. A response merges what its request brought; the few cookies that this leaves behind
expire, or are removed when there are many of them.
"""

from __future__ import annotations

import re
from typing import Any
from zlib import crc32

from ..drivers.states import Position
from ..lease.proxy import ConnectionProxy
from ..lease.state import set_written, slot_of
from ..scale.positions import ONLY_PRIMARY, PRIMARY, Needed, merged, parse, text_of
from .exchange import Environ, StartResponse, Write

NAME = "wsgidb-position"
"""The name of the header, and how the names of the cookies begin, where the option `key` has its default value."""
LASTS = 60
"""Seconds until a cookie expires."""
MANY = 4
"""With more cookies than this in one request, its response removes those that it replaces."""
KEPT = 500
"""How many parsed cookies are remembered."""

Headers = list[tuple[str, str]]


class Names:
    """The names of one middleware's cookies and header. Those of two middlewares with two keys do not meet."""

    def __init__(self, key: str) -> None:
        name = NAME if key == "db.conn" else f"{NAME}-{re.sub('[^0-9A-Za-z]+', '-', key).lower()}"
        self._begin = f"{name}-"
        self._header = name.title()
        self._variable = f"HTTP_{name.upper().replace('-', '_')}"
        self._cookies = re.compile(rf"(?:^|[;,\s]){re.escape(name)}-([0-9a-f]{{8}})=([^;,\s]*)")
        self._parsed: dict[str, Needed | None] = {}  # by the part of the header Cookie that may be about positions

    def needed(self, environ: Environ) -> Needed | None:
        """The position that a request brings, if it brings one. What is malformed is ignored."""
        cookies, header = environ.get("HTTP_COOKIE"), environ.get(self._variable)
        needed = None
        if cookies is not None and (at := cookies.find(self._begin)) >= 0:
            end = cookies.find(";", cookies.rfind(self._begin))
            part = cookies[max(at - 1, 0) :] if end < 0 else cookies[max(at - 1, 0) : end]
            try:
                needed = self._parsed[part]
            except KeyError:
                needed = self._parse(part)
        if header is not None:
            needed = Needed(merged([needed or {}, parse(header)]))
        return needed or None

    def _parse(self, part: str) -> Needed | None:
        needed = Needed(merged(parse(text) for _, text in self._cookies.findall(part))) or None
        if len(self._parsed) >= KEPT:
            self._parsed = {}
        if len(part) < KEPT:
            self._parsed[part] = needed
        return needed

    def headers(self, environ: Environ, position: Position) -> Headers:
        """The headers that give a position to the client."""
        text = text_of(position)
        name = f"{self._begin}{crc32(text.encode()):08x}"
        end = "; Path=/; HttpOnly; SameSite=Lax"
        if environ.get("wsgi.url_scheme") == "https":
            end += "; Secure"
        headers = [("Set-Cookie", f"{name}={text}; Max-Age={LASTS}{end}"), (self._header, text)]
        brought = dict(self._cookies.findall(environ.get("HTTP_COOKIE") or ""))
        if len(brought) > MANY:
            for each, value in brought.items():
                if f"{self._begin}{each}" != name and PRIMARY not in parse(value):
                    headers.append(("Set-Cookie", f"{self._begin}{each}=; Max-Age=0{end}"))
        return headers


class Telling:
    """What adds the position of a request's writes to the head of its response. Subclasses have the attributes."""

    __slots__ = ()
    environ: Environ
    names: Names
    needed: Needed | None
    """What the request brought."""
    noted: Position | None
    """What it has written so far."""
    renews: bool
    """Whether the client is to go on with what it brought, as not every replica is known to have that."""

    def note(self, position: Position | None) -> None:
        """Take what a lease of the primary has written, when it ends; None if that is not known."""
        if position is None:
            position = ONLY_PRIMARY
        if position:
            self.noted = merged([self.noted or {}, position])  # type: ignore[misc]  # a slot of the subclass

    def with_position(self, headers: Headers, lease: ConnectionProxy | None) -> Headers:
        """The headers of the response, and those for the position. `lease` is the one of the primary."""
        if lease is not None and slot_of(lease) is not None:
            self.note(None)  # the response goes out before the lease has ended, and it may write more
        position = self.noted or {}
        if PRIMARY in position:
            position = ONLY_PRIMARY  # what it brought has cookies of its own
        elif self.needed and (position or self.renews):
            brought = {source: number for source, number in self.needed.items() if source != PRIMARY}
            position = merged([position, brought])
        return [*headers, *self.names.headers(self.environ, position)] if position else headers


class Head(Telling):
    """In place of the server's start_response, for a request that may write."""

    __slots__ = ("_lease", "_server", "environ", "names", "needed", "noted", "renews")

    def __init__(self, names: Names, environ: Environ, server: StartResponse, needed: Needed | None) -> None:
        self.names = names
        self.environ = environ
        self.needed = needed
        self.noted, self.renews = None, False
        self._server = server
        self._lease: ConnectionProxy | None = None

    def follow(self, lease: ConnectionProxy) -> None:
        """Let the request's lease tell what it writes."""
        set_written(lease, self)
        self._lease = lease

    def __call__(self, status: str, headers: Headers, exc_info: Any = None) -> Write:
        headers = self.with_position(headers, self._lease)
        if exc_info is None:
            return self._server(status, headers)
        try:
            return self._server(status, headers, exc_info)
        finally:
            exc_info = None  # PEP 3333: the traceback must not keep this frame alive
