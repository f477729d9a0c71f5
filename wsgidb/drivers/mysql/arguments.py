"""What a MySQL driver is given to connect with, from the url and connect_args, and what is wrong with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ...config import values
from ...config.hints import refuse_owned, unknown_to_driver
from ...config.settings import Settings
from ...errors import ConfigError
from ..hosts import CHOICES, chosen, in_arguments
from ..networked import Networked
from ..states import Clock
from .charsets import character_set

IN_URL = frozenset(("user", "password", "passwd", "host", "port", "database", "db"))
OWNED = {
    "autocommit": "transaction",
    "connect_timeout": "connect_timeout",
    "read_timeout": "read_timeout",
    "write_timeout": "write_timeout",
    "ssl": "ssl_mode",
    "ssl_mode": "ssl_mode",
    "ssl_ca": "ssl_ca",
    "ssl_cert": "ssl_cert",
    "ssl_key": "ssl_key",
    "ssl_disabled": "ssl_mode",
    "ssl_key_password": "ssl_key",
    "ssl_verify_cert": "ssl_mode",
    "ssl_verify_identity": "ssl_mode",
}
"""Options that drivers have, and that wsgidb has one of its own for."""
ALIASES = {"db": "database", "passwd": "password"}
"""Older names of options, which some drivers take."""


class Arguments(Networked):
    """The part of a MySQL driver that deals with its arguments."""

    socket_argument = "unix_socket"
    owned: ClassVar[dict[str, str]] = OWNED
    parameters: ClassVar[Mapping[str, Callable[[str], Any] | None]]
    """What the driver can be given, by name, and how a url's text becomes it, if a text can."""

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        super().__init__(settings, clock)
        url = settings.url
        assert url is not None, "made for urls only"
        if not url.host and "unix_socket" not in url.query:
            raise ConfigError(f"url: {url} names no host (and its query no unix_socket)", entry="config-url")
        given = {
            "user": url.user,
            "password": url.password,
            **in_arguments(url),
            "database": url.name or None,
            **{name: self._converted(name, text) for name, text in url.query.items()},
        }
        self._arguments: dict[str, Any] = given
        if not callable(settings.connect_args):
            self._checked(settings.connect_args)
        self._check_hosts(given)
        self._tls_required = settings.ssl_mode not in ("disabled", "preferred")

    def _tls_off(self, arguments: Mapping[str, Any]) -> bool:
        """Whether a connection with these arguments does without TLS: nobody listens in on a Unix socket."""
        mode = self.settings.ssl_mode
        return mode == "disabled" or (mode == "preferred" and bool(arguments.get("unix_socket")))

    def _converted(self, name: str, text: str) -> Any:
        """A url query's value as the driver wants it."""
        if name in IN_URL:
            raise ConfigError(f"{name}: belongs before the url's question mark", entry="config-driver-options")
        self._check_name(name)
        if name in CHOICES:
            return chosen(name, text)
        convert = self.parameters[name]
        if convert is None:
            raise ConfigError(f"{name}: is no text; give it by connect_args", entry="config-driver-options")
        try:
            return character_set(text) if name == "charset" else convert(text)
        except ConfigError:
            raise
        except ValueError:
            takes = "bool" if convert is values.boolean else getattr(convert, "__name__", "text")
            raise ConfigError(f"{name}: takes {takes}, got {text!r}") from None

    def _check_name(self, name: str) -> None:
        refuse_owned(name, self.owned)
        known = {*self.parameters, *IN_URL, *CHOICES}
        if name not in known:
            raise unknown_to_driver(name, known, self.name)

    def _checked(self, arguments: dict[str, Any]) -> dict[str, Any]:
        for name, value in arguments.items():
            self._check_name(name)
            if name == "charset" and isinstance(value, str):
                character_set(value)
        return arguments

    def _given(self, deadline: float) -> dict[str, Any]:
        """The driver's arguments for one more connection."""
        checked = self._checked(self.connect_args(deadline))
        return {**self._arguments, **{ALIASES.get(name, name): value for name, value in checked.items()}}


def cursor_class(driver: str, module: Any, base: type) -> Callable[[str], Any]:
    """The converter of a cursor class that is given by its name in a url."""

    def convert(text: str) -> Any:
        found = getattr(module, text, None)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise ConfigError(f"cursorclass: {driver} has no cursor class {text!r}", entry="config-driver-options")
        return found

    return convert


def converter(default: Any) -> Callable[[str], Any]:
    """The converter of an option with that default."""
    kind = type(default)
    return values.boolean if kind is bool else int if kind is int else str
