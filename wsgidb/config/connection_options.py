"""The options of one Database for opening, leasing and ending a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import values
from .option import WEEK, YEAR, option
from .url import FORM, Url

SSL_MODES = ("disabled", "preferred", "required", "verify_ca", "verify_identity")


@dataclass(frozen=True, kw_only=True)
class ConnectionOptions:
    """How a connection is opened, leased and ended."""

    url: Url | None = option(
        None,
        values.Parser(FORM, lambda value: None if value is None else Url.parse(value)),
        "The database to connect to. Several hosts have commas between them, and are tried in that order; "
        "target_session_attrs and load_balance_hosts in the query choose among them (docs/drivers.md). Other values in "
        "the query are the driver's own options and are converted to its types.",
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
    queue_target: float | None = option(
        0.1,
        values.number(above=0, most=WEEK, none=True),
        "The pool is overloaded when all requests have waited longer than this for a connection, for all of "
        "queue_interval. While it is, only as many requests may wait as are served soon, and further ones are refused "
        "at once. none means never. It has no effect with strategies that have no limit.",
        unit="seconds",
    )
    queue_interval: float = option(
        5.0,
        values.number(above=0, most=WEEK),
        "How long requests must have waited longer than queue_target before any is refused for it. A burst that is "
        "shorter than this costs nobody a refusal.",
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
    on_connect: Any = option(
        None,
        values.function(),
        "A callable that gets each new connection, the driver's own, after init_sql, and may register types on it or "
        "set what SQL cannot. It is called again after the session was cleared. What it raises is a failure to connect "
        "(docs/hooks.md).",
    )
    discard_read_only: bool = option(
        True,
        values.flag,
        "Whether a connection is discarded at the end of its lease after an error which means that the server is "
        "read-only or not ready, as after a failover. The next request then connects again, and each other connection "
        "is asked by one round trip whether its server is fit, before it is used again.",
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
