"""The options of psycopg and libpq that the url and connect_args may hold."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg import pq

from ...config import values
from ...config.hints import refuse_owned, unknown_to_driver
from ...errors import ConfigError
from ..hosts import CHOICES, chosen

SSL_MODES = {
    "disabled": "disable",
    "preferred": "prefer",
    "required": "require",
    "verify_ca": "verify-ca",
    "verify_identity": "verify-full",
}
OWNED = {
    "autocommit": "transaction",
    "connect_timeout": "connect_timeout",
    "sslmode": "ssl_mode",
    "requiressl": "ssl_mode",
    "sslrootcert": "ssl_ca",
    "sslcert": "ssl_cert",
    "sslkey": "ssl_key",
    "conninfo": "url",
    "service": "url",
}
IN_URL = ("user", "password", "port", "dbname")
PYTHON = ("prepare_threshold", "row_factory", "cursor_factory", "context")
"""The arguments that psycopg takes besides libpq's own parameters."""
PARAMETERS = {option.keyword.decode() for option in pq.Conninfo.get_defaults()} | {*PYTHON}


def converted(name: str, text: str) -> Any:
    """The value of a url's query, converted to the type that psycopg takes. Raises ConfigError."""
    if name in IN_URL:
        raise ConfigError(f"{name}: belongs before the url's question mark", entry="config-driver-options")
    checked({name: text})
    if name in CHOICES:
        return text
    if name == "prepare_threshold":
        try:
            return None if values.is_none(text) else int(text)
        except ValueError:
            raise ConfigError(
                f"{name}: takes a whole number or none, got {text!r}", entry="config-driver-options"
            ) from None
    if name == "cursor_factory":
        found = getattr(psycopg, text, None)
        if not (isinstance(found, type) and issubclass(found, psycopg.Cursor)):
            raise ConfigError(f"{name}: psycopg has no cursor class {text!r}", entry="config-driver-options")
        return found
    if name == "row_factory":
        found = getattr(psycopg.rows, text, None)
        if not (callable(found) and text.endswith("_row")):
            raise ConfigError(f"{name}: psycopg.rows has no row factory {text!r}", entry="config-driver-options")
        return found
    if name == "context":
        raise ConfigError(f"{name}: cannot be given as text; use connect_args", entry="config-driver-options")
    return text


def checked(arguments: dict[str, Any]) -> dict[str, Any]:
    """The arguments themselves. Raises ConfigError for one that is wsgidb's own, or unknown."""
    for name in arguments:
        refuse_owned(name, OWNED)
        if name not in PARAMETERS and name not in CHOICES:
            raise unknown_to_driver(name, {*PARAMETERS, *CHOICES} - OWNED.keys(), "psycopg")
        if name in CHOICES:
            chosen(name, arguments[name])
    return arguments
