"""The option table. Names, defaults, accepted values and meanings stand here once; error messages, the names of
environment variables and docs/options.md are derived from it, and `keywords` is compared with it by a test."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from . import values
from .url import FORM, Url

STRATEGIES = ("per-request", "thread-local", "pooled", "dbutils-persistent", "dbutils-pooled", "sqlalchemy")
SSL_MODES = ("disabled", "preferred", "required", "verify_ca", "verify_identity")
# Time limits need a bound, because drivers and poll() hold them as milliseconds in 32 bits: above 24 days some raise
# OverflowError, and others wrap around to a short time.
WEEK = 604_800
YEAR = 31_536_000


def option(
    default: Any, takes: values.Parser, meaning: str, *, unit: str = "", of: str = "database", hidden: bool = False
) -> Any:
    """One row of the table. `of` says whether it is an option of the database or of the middleware. A `hidden` value
    may contain a password, so no repr shows it."""
    metadata = {"takes": takes, "meaning": meaning, "unit": unit, "of": of, "default": default}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), repr=not hidden, metadata=metadata)
    return field(default=default, repr=not hidden, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Options:
    """The options of one Database and its middleware, one attribute each."""

    url: Url | None = option(
        None,
        values.Parser(FORM, lambda value: None if value is None else Url.parse(value)),
        "The database to connect to. Values in the query are the driver's own options and are converted to its types.",
    )
    driver: Any = option(
        None,
        values.class_(),
        "A subclass of wsgidb.drivers.Driver, which is used in place of the driver that the url's scheme names.",
    )
    creator: Any = option(
        None,
        values.creator,
        "A callable that returns a new DB-API connection, in place of a url. With strategy=sqlalchemy it may also be a "
        "SQLAlchemy Engine, whose pool is then shared.",
        hidden=True,
    )
    connect_args: Any = option(
        {},
        values.arguments,
        "Further arguments for the driver's connect function. A callable is called for every new connection, which "
        "allows credentials to be rotated.",
        hidden=True,
    )
    ssl_mode: str = option(
        "preferred",
        values.choice(*SSL_MODES),
        "How TLS is used, in MySQL's terms; wsgidb checks the finished connection. preferred uses TLS if the server "
        "offers it, without verification. verify_ca and verify_identity verify the server's certificate with ssl_ca, "
        "or with the driver's default authorities.",
    )
    ssl_ca: str | None = option(
        None, values.string(none=True), "The file of the certificate authorities that are trusted."
    )
    ssl_cert: str | None = option(None, values.string(none=True), "The file of the client's certificate.")
    ssl_key: str | None = option(None, values.string(none=True), "The file of the client's private key.")
    strategy: Any = option(
        "pooled",
        values.named(*STRATEGIES),
        "How connections are kept between requests: in a pool, one per thread, or not at all.",
    )
    strategy_args: Any = option(
        {}, values.arguments, "Further arguments for the pool of the strategy's library (DBUtils or SQLAlchemy)."
    )
    pool_size: int = option(
        10,
        values.number(least=1, most=100_000, whole=True),
        "The largest number of connections of one process, including those that are being opened. The strategies "
        "per-request, thread-local and dbutils-persistent have no such limit.",
        unit="connections",
    )
    acquire_timeout: float = option(
        5.0,
        values.number(above=0, most=WEEK),
        "The time limit for acquiring a connection, which covers waiting, connecting and validating together.",
        unit="seconds",
    )
    connect_timeout: float = option(
        3.0,
        values.number(above=0, most=WEEK),
        "The time limit for opening a connection, which covers TCP, greeting, TLS and login together.",
        unit="seconds",
    )
    read_timeout: float | None = option(
        None,
        values.number(above=0, most=WEEK, none=True),
        "The driver's time limit for each read of a statement's reply.",
        unit="seconds",
    )
    write_timeout: float | None = option(
        None,
        values.number(above=0, most=WEEK, none=True),
        "The driver's time limit for each write of a statement.",
        unit="seconds",
    )
    max_waiting: int | None = option(
        None,
        values.number(least=0, most=1_000_000, whole=True, none=True),
        "How many requests may wait for a connection. Further ones are refused at once.",
        unit="requests",
    )
    max_lifetime: float | None = option(
        1800.0,
        values.number(above=0, most=YEAR, none=True),
        "The age after which a connection is closed when it is not in use. It varies by up to 10 % at random, so that "
        "connections that were opened together are not replaced together.",
        unit="seconds",
    )
    max_idle: float | None = option(
        600.0,
        values.number(above=0, most=YEAR, none=True),
        "The time after which a connection that was not used is closed.",
        unit="seconds",
    )
    ping_after: float | None = option(
        1.0,
        values.number(least=0, most=YEAR, none=True),
        "The idle time after which a connection is pinged before it is used, at the cost of a round trip. 0 means "
        "always, none means never.",
        unit="seconds",
    )
    ping_timeout: float = option(
        2.0,
        values.number(above=0, most=WEEK),
        "The time limit for a ping, a rollback or a reset. The connection is discarded when it is exceeded.",
        unit="seconds",
    )
    ping_query: str | None = option(
        None, values.string(none=True), "A statement, such as SELECT 1, that is sent in place of the driver's ping."
    )
    transaction: str = option(
        "manual",
        values.choice("manual", "autocommit", "request"),
        "manual: the application commits, and what it did not commit is rolled back. autocommit: each statement is a "
        "transaction of its own. request: the request is one transaction, which is committed if the request succeeds. "
        "wsgidb sets the driver's autocommit accordingly, and restores it if a handler changed it.",
    )
    commit_veto: Any = option(
        None,
        values.function(),
        "With transaction=request, a callable that gets environ, status and headers, and returns true if the request "
        "is to be rolled back. Without it, a status of 400 or above is rolled back.",
        of="middleware",
    )
    reset: str = option(
        "rollback",
        values.choice("rollback", "session"),
        "What is cleared between requests. rollback: the transaction. session: the state of the session too, such as "
        "variables, temporary tables and locks.",
    )
    init_sql: tuple[str, ...] = option(
        (),
        values.statements,
        "Statements that are run on each new connection, and again after the session was cleared.",
    )
    discard_read_only: bool = option(
        True,
        values.flag,
        "Whether a connection is discarded at the end of its lease after an error which means that the server is "
        "read-only or not ready, as after a failover. The next request then connects again.",
    )
    leak_after: float | None = option(
        None,
        values.number(above=0, most=YEAR, none=True),
        "The time after which a lease that is still held is logged once, with the request's method and path and the "
        "calls that hold it. Leases are looked at whenever any lease begins or ends.",
        unit="seconds",
    )
    name: str | None = option(
        None,
        values.string(none=True),
        "The name of the pool in metrics and on the status page. Without it, that is the address of the server and the "
        "name of the database.",
    )
    telemetry: bool = option(
        True,
        values.flag,
        "Whether durations of waiting, use and opening are counted, and metrics are registered where opentelemetry-api "
        "is installed (docs/observing.md).",
    )
    board: str | None = option(
        None,
        values.directory,
        "A directory, such as one below /run or /dev/shm, in which all processes of a server keep their statistics. "
        "Then the status page and the Prometheus collector of each process tell of all of them.",
    )
    status: str | None = option(
        None,
        values.path,
        "The path at which the middleware answers with the status page (docs/observing.md), such as /-/wsgidb. It "
        "needs Jinja2. Without it, there is no such page.",
        of="middleware",
    )
    status_allow: Any = option(
        None,
        values.function(),
        "A callable that gets environ, and returns true if the request may see the status page. Without it, only "
        "requests from this machine may, and none that a proxy has forwarded.",
        of="middleware",
    )
    key: str = option(
        "db.conn",
        values.string(),
        "The key of environ that holds the connection. It must contain a dot.",
        of="middleware",
    )
    acquire: str = option(
        "request",
        values.choice("request", "first-use"),
        "When the connection is acquired. request: before the application is called; a client that sends the body of "
        "its request slowly then holds a connection meanwhile, unless the server reads the body first. first-use: when "
        "the application first uses it.",
        of="middleware",
    )
    exclude: Any = option(
        (),
        values.paths,
        "The requests that get no connection: path prefixes, which match whole segments of PATH_INFO, or a callable "
        "that gets environ and returns true for them.",
        of="middleware",
    )
    retry_after: int = option(
        1,
        values.number(least=0, most=WEEK, whole=True),
        "The value of the Retry-After header of a 503 response.",
        unit="seconds",
        of="middleware",
    )
    on_unavailable: Any = option(
        None,
        values.function("raise"),
        "What answers a request for which no connection can be acquired: a WSGI application, or raise, which raises "
        "DatabaseUnavailable. Without it, the answer is a plain 503.",
        of="middleware",
    )
    server_timing: bool = option(
        False,
        values.flag,
        "Whether responses get the header Server-Timing, which browsers show: the time of the request's statements "
        "(db) and the time that it waited for its connection (db-wait).",
        of="middleware",
    )


OPTIONS = {option.name: option for option in fields(Options)}
"""The rows of the table by name. A row's metadata has the arguments of `option`."""
