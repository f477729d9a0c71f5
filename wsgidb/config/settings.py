"""Settings: the options of one Database, read from keywords or from the environment, and checked against each other."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from ..errors import ConfigError
from . import hints, values
from .options import OF_MIDDLEWARE, OPTIONS, Options


@dataclass(frozen=True, kw_only=True)
class Settings(Options):
    """Validated options. `Settings.of` and `Settings.from_env` make them."""

    given: frozenset[str] = frozenset()
    """The names of the options that were given and not left at their defaults."""

    @classmethod
    def of(cls, options: Mapping[str, Any], shown: Callable[[str], str] = str) -> Settings:
        """Make settings of options by name. `shown` turns a name into what the user wrote, such as the name of an
        environment variable.

        Raises ConfigError, which names the option, what it got and what it takes, but never shows the text of a url.
        """
        return cls._made(_parsed(options, shown))

    @classmethod
    def _made(cls, parsed: Mapping[str, Any]) -> Settings:
        settings = cls(**parsed, given=frozenset(parsed))
        settings._check_agreement()
        return settings

    @classmethod
    def from_env(cls, prefix: str = "WSGIDB_", overrides: Mapping[str, Any] | None = None) -> Settings:
        """Make settings of the environment variables that begin with `prefix`. `overrides` take precedence.

        Raises ConfigError, also for a variable with that prefix that is not an option.
        """
        found = {name[len(prefix) :].lower(): text for name, text in os.environ.items() if name.startswith(prefix)}
        if not found.keys() & {"url", "creator"} and not (overrides or {}).keys() & {"url", "creator"}:
            raise ConfigError(
                f"no url and no Database was given, and the environment has no {prefix}URL", entry="config-no-url"
            )
        parsed = _parsed(found, lambda name: prefix + name.upper())  # an error names the variable as it was written
        return cls._made({**parsed, **_parsed(overrides or {})})

    def with_middleware(self, options: Mapping[str, Any]) -> Settings:
        """Copy these settings with other options of the middleware, for a Database that exists. Raises ConfigError."""
        for name in options.keys() & (OPTIONS.keys() - OF_MIDDLEWARE):
            raise ConfigError(
                f"{name}: is an option of the Database, which was made before; give it there",
                entry="config-made-before",
            )
        own = {"transaction": self.transaction, "retry": self.retry, "replicas": self.replicas}
        parsed = Settings.of({"url": "sqlite:///", **own, **options})
        return replace(self, **{name: getattr(parsed, name) for name in options})

    def of_middleware(self) -> dict[str, Any]:
        """The options of the middleware that are not at their defaults, as keyword arguments."""
        found = {name: getattr(self, name) for name in OF_MIDDLEWARE}
        return {name: value for name, value in found.items() if value != OPTIONS[name].default}

    def _check_agreement(self) -> None:
        """Raise ConfigError if options contradict each other."""
        if self.url is None and self.creator is None:
            raise ConfigError("url: is missing, or None; give a url or a creator", entry="config-no-url")
        if self.url is not None and self.creator is not None:
            raise ConfigError("url and creator: give only one of them", entry="config-no-url")
        if hasattr(self.creator, "raw_connection") and self.strategy != "sqlalchemy":
            raise ConfigError(
                f"creator: sharing an Engine's pool needs strategy=sqlalchemy, got {self.strategy_name}",
                entry="config-own-classes",
            )
        if self.commit_veto is not None and self.transaction != "request":
            raise ConfigError(
                f"commit_veto: needs transaction=request, got {self.transaction}", entry="config-contradiction"
            )
        if self.retry and self.transaction != "request":
            raise ConfigError(f"retry: needs transaction=request, got {self.transaction}", entry="config-contradiction")
        if self.retry_if is not None and not self.retry:
            raise ConfigError("retry_if: needs retry", entry="config-contradiction")
        if self.replica_if is not None and not self.replicas:
            raise ConfigError("replica_if: needs replicas", entry="config-replicas")
        if self.name is not None and "://" in self.name:
            raise ConfigError("name: takes a short text; this is a url", entry="config-contradiction")
        if self.host_connections is not None and self.board is None:
            raise ConfigError(
                "host_connections: needs board, the directory in which the processes find each other",
                entry="config-contradiction",
            )
        if self.host_connections is not None and self.shares_engine:
            raise ConfigError(
                "host_connections: the Engine makes its connections itself, and does not count them",
                entry="config-contradiction",
            )
        if "." not in self.key:
            raise ConfigError(
                f"key: takes an environ key with a dot in it{values.quoted(self.key)}", entry="config-contradiction"
            )
        if self.ssl_ca and not self.ssl_mode.startswith("verify"):
            raise ConfigError(
                f"ssl_ca: needs ssl_mode verify_ca or verify_identity, got {self.ssl_mode}", entry="config-tls"
            )
        if (self.ssl_cert or self.ssl_key) and self.ssl_mode == "disabled":
            raise ConfigError("ssl_cert, ssl_key: need TLS, but ssl_mode is disabled", entry="config-tls")
        if self.ssl_key and not self.ssl_cert:
            raise ConfigError("ssl_key: needs ssl_cert", entry="config-tls")

    @property
    def shares_engine(self) -> bool:
        """Whether connections come from a SQLAlchemy Engine of the application."""
        return self.strategy == "sqlalchemy" and hasattr(self.creator, "raw_connection")

    @property
    def strategy_name(self) -> str:
        """The strategy's name, or the name of the application's own class."""
        return str(getattr(self.strategy, "__name__", self.strategy))

    @property
    def pool_name(self) -> str:
        """What metrics call the pool: as the conventions have it, server:port/database; where no server is named, the
        database alone."""
        if self.name is not None:
            return self.name
        if self.url is None:
            return "creator"
        return f"{self.url.server}/{self.url.name}" if self.url.server else self.url.name

    @property
    def most_connections(self) -> int | None:
        """How many connections there may be at once in a process; None where nothing bounds them."""
        pooled = self.strategy in ("pooled", "dbutils-pooled", "sqlalchemy") and not self.shares_engine
        return self.pool_size if pooled else None

    @cached_property
    def address(self) -> str:
        """What a log line or a repr shows of the database. It never contains a password."""
        return str(self.url) if self.url is not None else "creator"


def _parsed(options: Mapping[str, Any], shown: Callable[[str], str] = str) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name, value in options.items():
        if name not in OPTIONS:
            raise hints.unknown(name, shown)
        parsed[name] = _parse(name, value, shown(name))
    return parsed


def _parse(name: str, value: Any, shown: str) -> Any:
    takes = OPTIONS[name].metadata["takes"]
    try:
        return takes(value)
    except ConfigError as error:
        refused, entry = error.text.removeprefix(f"{name}: "), error.entry
    except (ValueError, TypeError, OverflowError) as error:
        said = error.args[0] if error.args else None  # str() of an error fails where str() of its argument does
        detail = said if isinstance(said, str) and said.startswith(" (") and "://" not in said else ""
        refused, entry = f"takes {takes.takes}{_got(name, value)}{detail}", ConfigError.entry
    # Raised outside the except clauses, because the error's context would quote the value.
    raise ConfigError(f"{shown}: {refused}", entry=entry)


def _got(name: str, value: Any) -> str:
    """The part of an error that shows the value. Any option may be given a url by mistake."""
    return "" if name in ("url", "connect_args", "replicas") else values.quoted(value)
