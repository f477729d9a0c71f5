"""The address of a database in one line: ``driver://user:password@host:port/name?driver-option=value``.

As in libpq's urls there may be several hosts, with commas between them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..errors import ConfigError

FORM = "driver://user:password@host:port/name?driver-option=value"
SEVERAL = "several hosts are host1:port1,host2:port2, IPv6 addresses in brackets"
ADVICE = (
    "the port is a number; "
    "percent-encode special characters in user, password and name (@ is %40, / is %2F, ? is %3F, # is %23, % is %25)"
)
AUTHORITY = re.compile(r"([^/?#]*://)([^/?#]*)(.*)", re.DOTALL)
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
PORT = re.compile(r"(:\d*)?", re.ASCII)
LOGIN = re.compile(r":.*@")


class Host(NamedTuple):
    """One of a url's hosts."""

    name: str
    """A name, an IPv4 or IPv6 address, or a Unix socket's path or directory; empty where the url has only a port."""
    port: int | None = None

    def __str__(self) -> str:
        shown = self.name.replace("/", "%2F").replace(",", "%2C")
        return (f"[{shown}]" if ":" in shown else shown) + (f":{self.port}" if self.port else "")


@dataclass(frozen=True)
class Url:
    """A parsed url. Neither its string nor its repr shows a password."""

    scheme: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    hosts: tuple[Host, ...] = ()
    name: str = ""
    query: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, text: Any) -> Url:
        """Parse a url. Raises ConfigError, which quotes no part of it: any part may be a password."""
        if not isinstance(text, str):
            raise ConfigError(f"url: takes a string of the form {FORM}, got {type(text).__name__}", entry="config-url")
        if not text.strip():
            raise ConfigError(f"url: is empty; takes {FORM}", entry="config-url")
        found = _split(text)
        if found is None:  # raised here, because the context of an error raised in there would quote the text
            raise ConfigError(f"url: malformed; takes {FORM}; {ADVICE}", entry="config-url")
        parts, pairs, hosts = found
        query = dict(pairs)
        if len(query) != len(pairs):
            raise ConfigError("url: an option is given twice in its query", entry="config-url")
        return cls(
            scheme=parts.scheme,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
            hosts=_hosts(hosts),
            name=unquote(parts.path[1:]),
            query=query,
        )

    @property
    def host(self) -> str | None:
        """The first host's name, or None if the url has no host."""
        return self.hosts[0].name or None if self.hosts else None

    @property
    def server(self) -> str:
        """All hosts with their ports, as the url has them."""
        return ",".join(map(str, self.hosts))

    def __str__(self) -> str:
        user = f"{self.user or ''}:***@" if self.password else f"{self.user}@" if self.user else ""
        return f"{self.scheme}://{user}{self.server}/{self.name}"


def _hosts(texts: list[str]) -> tuple[Host, ...]:
    """The hosts of a url. Raises ConfigError for one that is none, which it calls by its number only."""
    found = [_host(text) for text in texts]
    for number, each in enumerate(found, 1):
        if len(found) == 1 and each is None:
            raise ConfigError(f"url: malformed; takes {FORM}; {ADVICE}", entry="config-url")
        if each is None:
            raise ConfigError(
                f"url: host {number} of {len(found)} is malformed; {SEVERAL}; {ADVICE}", entry="config-url"
            )
        if len(found) > 1 and not each.name:
            raise ConfigError(f"url: host {number} of {len(found)} is empty; {SEVERAL}", entry="config-url")
    return tuple(each for each in found if each is not None and each != Host(""))


def _host(text: str) -> Host | None:
    if "]" in text and not PORT.fullmatch(text.rpartition("]")[2]):
        return None
    try:
        parts = urlsplit(f"//{text}")
        if any(map(str.isspace, parts.netloc)):
            return None
        return Host(unquote(parts.hostname or "", errors="strict"), parts.port)
    except ValueError:
        return None


def _split(text: str) -> tuple[SplitResult, list[tuple[str, str]], list[str]] | None:
    """Split a url into its parts, without its hosts, the pairs of its query, and its hosts. None means that it is
    malformed."""
    found = AUTHORITY.match(text)
    if found is None:
        return None
    before, authority, after = found.groups()
    login, at, hosts = authority.rpartition("@")
    try:
        parts = urlsplit(f"{before}{login}{at}{hosts and 'host'}{after}")
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
        unquote(authority + parts.path, errors="strict")
    except ValueError:
        return None
    if not parts.scheme or parts.fragment or BAD_ESCAPE.search(authority + parts.path):
        return None
    # An @ here means that the password contains a / or a ?, or that there is one slash too many. The rest of the
    # password would then be shown as the name.
    login_behind = "@" in parts.path if authority else LOGIN.search(parts.path)
    if not parts.path and not at:
        login_behind = login_behind or "@" in parts.query
    return None if login_behind else (parts, pairs, hosts.split(","))
