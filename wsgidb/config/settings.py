"""Settings: THE option table, and reading it from keywords and from the environment.

Names, defaults, accepted values and meanings stand here once; error messages, environment names and
docs/options.md come from this table.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from ..errors import ConfigError
from . import values
from .url import FORM, Url

STRATEGIES = ("per-request", "thread-local", "pooled", "dbutils-persistent", "dbutils-pooled", "sqlalchemy")
SSL_MODES = ("disabled", "preferred", "required", "verify_ca", "verify_identity")


def option(
    default: Any, takes: values.Parser, meaning: str, *, unit: str = "", of: str = "database", hidden: bool = False
) -> Any:
    """One row of the table. `of` tells whose option it is: the database's or the middleware's. What is `hidden` may
    hold a password, which no repr shows."""
    metadata = {"takes": takes, "meaning": meaning, "unit": unit, "of": of}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), repr=not hidden, metadata={**metadata, "default": default})
    return field(default=default, repr=not hidden, metadata={**metadata, "default": default})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Validated options; an attribute each. Read `Settings.of` for how they are made."""

    url: Url | None = option(
        None,
        values.Parser(FORM, lambda value: None if value is None else Url.parse(value)),
        "the database; values of the query go to the driver, converted to its types",
    )
    driver: Any = option(None, values.class_(), "in place of the scheme's: a subclass of wsgidb.drivers.Driver")
    creator: Any = option(
        None,
        values.creator,
        "in place of url: returns a new DB-API connection; with strategy=sqlalchemy also an Engine of SQLAlchemy's, "
        "whose pool is shared then",
        hidden=True,
    )
    connect_args: Any = option(
        {},
        values.arguments,
        "further driver arguments; a callable is asked at every connect (credential rotation)",
        hidden=True,
    )
    ssl_mode: str = option(
        "preferred",
        values.choice(*SSL_MODES),
        "MySQL's names; enforced by looking at the connection that came out. preferred takes TLS where the server "
        "offers it and does not verify; verify_ca and verify_identity use ssl_ca, or the driver's default authorities",
    )
    ssl_ca: str | None = option(None, values.text(none=True), "file of the certificate authorities to trust")
    ssl_cert: str | None = option(None, values.text(none=True), "file of the client's certificate")
    ssl_key: str | None = option(None, values.text(none=True), "file of the client's private key")
    strategy: Any = option("pooled", values.named(*STRATEGIES), "where connections come from")
    strategy_args: Any = option(
        {}, values.arguments, "further arguments for the pool of a strategy's library (DBUtils, SQLAlchemy)"
    )
    pool_size: int = option(
        10, values.number(least=1, whole=True), "upper bound, opening ones included", unit="connections"
    )
    acquire_timeout: float = option(
        5.0, values.number(above=0), "one deadline for waiting, connecting and validating together", unit="seconds"
    )
    connect_timeout: float = option(
        3.0, values.number(above=0), "for TCP, greeting, TLS and login together", unit="seconds"
    )
    read_timeout: float | None = option(
        None, values.number(above=0, none=True), "the driver's, for each read of a statement's reply", unit="seconds"
    )
    write_timeout: float | None = option(
        None, values.number(above=0, none=True), "the driver's, for each write of a statement", unit="seconds"
    )
    max_waiting: int | None = option(
        None,
        values.number(least=0, whole=True, none=True),
        "how many may wait for a connection; past it a request is refused at once",
        unit="requests",
    )
    max_lifetime: float | None = option(
        1800.0, values.number(above=0, none=True), "retire by age, with a jitter of 10 %", unit="seconds"
    )
    max_idle: float | None = option(600.0, values.number(above=0, none=True), "retire when unused", unit="seconds")
    ping_after: float | None = option(
        1.0,
        values.number(least=0, none=True),
        "how long idle until the free check is backed by a round trip; 0 is always, none never",
        unit="seconds",
    )
    ping_timeout: float = option(
        2.0, values.number(above=0), "a slower ping, rollback or reset counts as dead", unit="seconds"
    )
    ping_query: str | None = option(None, values.text(none=True), "statement in place of the driver's ping")
    transaction: str = option(
        "manual",
        values.choice("manual", "autocommit", "request"),
        "manual: the application commits, the rest is rolled back. autocommit: each statement stands by itself. "
        "request: commit on success, roll back otherwise. "
        "wsgidb sets the driver's autocommit accordingly, and restores it where a handler changed it",
    )
    commit_veto: Any = option(
        None,
        values.function(),
        "with transaction=request: a callable of environ, status and headers that is true where the response is to be "
        "rolled back; without it, a status of 400 and above",
        of="middleware",
    )
    reset: str = option(
        "rollback", values.choice("rollback", "session"), "session: also clear session state between requests"
    )
    init_sql: tuple[str, ...] = option(
        (), values.statements, "run on each new connection, and again after a session reset"
    )
    discard_read_only: bool = option(
        True,
        values.flag,
        "after an error that means that the server is read-only or not ready, as after a failover, discard the "
        "connection at the end of its lease, so that the next request connects anew",
    )
    leak_after: float | None = option(
        None,
        values.number(above=0, none=True),
        "a lease held for longer is logged once, with method, path and the stack that acquired it; looked for "
        "whenever any lease begins or ends",
        unit="seconds",
    )
    key: str = option("db.conn", values.text(), "environ key, with a dot in it", of="middleware")
    acquire: str = option(
        "request", values.choice("request", "first-use"), "when the connection is acquired", of="middleware"
    )
    exclude: Any = option(
        (),
        values.paths,
        "requests that get no connection: prefixes of whole path segments, after SCRIPT_NAME, or a callable on environ",
        of="middleware",
    )
    retry_after: int = option(
        1, values.number(least=0, whole=True), "the 503's Retry-After header", unit="seconds", of="middleware"
    )
    on_unavailable: Any = option(
        None,
        values.function("raise"),
        "what the client gets when there is no connection: a WSGI app, or raise; without it a plain 503",
        of="middleware",
    )
    given: frozenset[str] = frozenset()
    """Names of the options that were given rather than defaulted."""

    @classmethod
    def of(cls, options: Mapping[str, Any], shown: Callable[[str], str] = str) -> Settings:
        """Settings of options by name. `shown` makes a name into what the user wrote (an environment variable).

        Raises ConfigError naming the option, what it got and what it takes; a url's text is never shown.
        """
        return cls._made(_parsed(options, shown))

    @classmethod
    def _made(cls, parsed: Mapping[str, Any]) -> Settings:
        settings = cls(**parsed, given=frozenset(parsed))
        settings._agree()
        return settings

    @classmethod
    def from_env(cls, prefix: str = "WSGIDB_", overrides: Mapping[str, Any] | None = None) -> Settings:
        """Settings of the environment variables that begin with `prefix`; `overrides` count for more.

        Raises ConfigError for a variable of that prefix that is no option.
        """
        found = {name[len(prefix) :].lower(): text for name, text in os.environ.items() if name.startswith(prefix)}
        if not found.keys() & {"url", "creator"} and not (overrides or {}).keys() & {"url", "creator"}:
            raise ConfigError(f"no url, no Database, and the environment has no {prefix}URL")
        parsed = _parsed(found, lambda name: prefix + name.upper())  # a bad variable is named as it was written
        return cls._made({**parsed, **_parsed(overrides or {})})

    def with_middleware(self, options: Mapping[str, Any]) -> Settings:
        """A copy with other middleware options, for a Database that is given ready-made. Raises ConfigError."""
        for name in options.keys() & OPTIONS.keys():
            if OPTIONS[name].metadata["of"] == "database":
                raise ConfigError(f"{name}: belongs to the Database, which is given ready-made")
        parsed = Settings.of({"url": "sqlite:///", "transaction": self.transaction, **options})
        return replace(self, **{name: getattr(parsed, name) for name in options})

    def _agree(self) -> None:
        """Raise ConfigError where options contradict each other."""
        if (self.url is None) == (self.creator is None):
            raise ConfigError("url and creator: give one of them")
        if hasattr(self.creator, "raw_connection") and self.strategy != "sqlalchemy":
            raise ConfigError(f"creator: sharing an Engine's pool needs strategy=sqlalchemy, got {self.strategy_name}")
        if self.commit_veto is not None and self.transaction != "request":
            raise ConfigError(f"commit_veto: needs transaction=request, got {self.transaction}")
        if "." not in self.key:
            raise ConfigError(f"key: takes an environ key with a dot in it{values.quoted(self.key)}")
        if self.ssl_ca and not self.ssl_mode.startswith("verify"):
            raise ConfigError(f"ssl_ca: needs ssl_mode verify_ca or verify_identity, got {self.ssl_mode}")
        if (self.ssl_cert or self.ssl_key) and self.ssl_mode == "disabled":
            raise ConfigError("ssl_cert, ssl_key: ssl_mode is disabled")
        if self.ssl_key and not self.ssl_cert:
            raise ConfigError("ssl_key: needs ssl_cert")

    @property
    def shares_engine(self) -> bool:
        """Whether connections come from an Engine of the application's."""
        return self.strategy == "sqlalchemy" and hasattr(self.creator, "raw_connection")

    @property
    def strategy_name(self) -> str:
        return str(getattr(self.strategy, "__name__", self.strategy))

    @property
    def address(self) -> str:
        """What a log line or repr may show of the database: never a password."""
        return str(self.url) if self.url is not None else "creator"


ELSEWHERE = {"pool_timeout": "acquire_timeout", "autocommit": "transaction"}  # what other libraries call them
OPTIONS = {option.name: option for option in fields(Settings) if "takes" in option.metadata}


def _parsed(options: Mapping[str, Any], shown: Callable[[str], str] = str) -> dict[str, Any]:
    parsed: dict[str, Any] = {}
    for name, value in options.items():
        if name not in OPTIONS:
            hint = values.nearest(name, OPTIONS, ELSEWHERE, shown)
            hint = hint or f"; known: {', '.join(OPTIONS)}; the driver's own go into the url"
            raise ConfigError(f"unknown option {shown(name)!r}{hint}")
        parsed[name] = _parse(name, value, shown(name))
    return parsed


def _parse(name: str, value: Any, shown: str) -> Any:
    takes = OPTIONS[name].metadata["takes"]
    try:
        return takes(value)
    except ConfigError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        detail = str(error) if str(error).startswith(" (") and "://" not in str(error) else ""
    # Raised here and not in there, where its context would quote the value. Any option may get a url by mistake.
    got = "" if name in ("url", "connect_args") else values.quoted(value)
    raise ConfigError(f"{shown}: takes {takes.takes}{got}{detail}")
