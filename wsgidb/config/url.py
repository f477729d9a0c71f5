"""The address of a database in one line: ``driver://user:password@host:port/name?driver-option=value``."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from ..errors import ConfigError

FORM = "driver://user:password@host:port/name?driver-option=value"
ADVICE = (
    "the port is a number; "
    "percent-encode special characters in user, password and name (@ is %40, / is %2F, ? is %3F, # is %23, % is %25)"
)
BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
LOGIN = re.compile(r":.*@")


@dataclass(frozen=True)
class Url:
    """A parsed url. Neither its string nor its repr shows a password."""

    scheme: str
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    host: str | None = None
    port: int | None = None
    name: str = ""
    query: dict[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def parse(cls, text: Any) -> Url:
        """Parse a url. Raises ConfigError, which quotes no part of it: any part may be a password."""
        if not isinstance(text, str):
            raise ConfigError(f"url: takes a string of the form {FORM}, got {type(text).__name__}")
        if not text.strip():
            raise ConfigError(f"url: is empty; takes {FORM}")
        found = _split(text)
        if found is None:  # raised here, because the context of an error raised in there would quote the text
            raise ConfigError(f"url: malformed; takes {FORM}; {ADVICE}")
        parts, pairs = found
        query = dict(pairs)
        if len(query) != len(pairs):
            raise ConfigError("url: an option is given twice in its query")
        return cls(
            scheme=parts.scheme,
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password is not None else None,
            host=unquote(parts.hostname) if parts.hostname else None,
            port=parts.port,
            name=unquote(parts.path[1:]),
            query=query,
        )

    def __str__(self) -> str:
        user = f"{self.user or ''}:***@" if self.password else f"{self.user}@" if self.user else ""
        host = f"[{self.host}]" if self.host and ":" in self.host else self.host or ""
        port = f":{self.port}" if self.port else ""
        return f"{self.scheme}://{user}{host}{port}/{self.name}"


def _split(text: str) -> tuple[SplitResult, list[tuple[str, str]]] | None:
    """Split a url into its parts and the pairs of its query. None means that it is malformed."""
    try:
        parts = urlsplit(text)
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=True) if parts.query else []
        _ = parts.port
        unquote(parts.netloc + parts.path, errors="strict")
    except ValueError:
        return None
    address = parts.netloc + parts.path
    if not parts.scheme or "://" not in text or parts.fragment or BAD_ESCAPE.search(address):
        return None
    # An @ here means that the password contains a / or a ?, or that there is one slash too many. The rest of the
    # password would then be shown as the name.
    login_behind = "@" in parts.path if parts.netloc else LOGIN.search(parts.path)
    if not parts.path and "@" not in parts.netloc:
        login_behind = login_behind or "@" in parts.query
    return None if login_behind else (parts, pairs)
