"""The options as keyword arguments, for type checkers and editors.

Each docstring is the option's row in the table in `config.options`; a test compares the two. The types are those of
Python code. Their text forms, which the environment and PasteDeploy give, are left out, so that a type checker finds
``pool_size="ten"``.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

from .drivers.base import Driver
from .strategies.base import Store

if sys.version_info >= (3, 11):
    from typing import Unpack as Unpack
elif TYPE_CHECKING:
    from typing_extensions import Unpack as Unpack

Arguments = Mapping[str, Any] | Callable[[], Mapping[str, Any]]
Environ = dict[str, Any]
Strategy = Literal["per-request", "thread-local", "pooled", "dbutils-persistent", "dbutils-pooled", "sqlalchemy"]


class Engine(Protocol):
    """What is needed of a SQLAlchemy Engine."""

    def raw_connection(self) -> Any: ...


class Replica(Protocol):
    """What is needed of a Database that is given as a replica."""

    @property
    def replicas(self) -> list[Any]: ...

    @property
    def name(self) -> str: ...


class ConnectionOptions(TypedDict, total=False):
    """The options for opening, leasing and ending a connection."""

    url: str | None
    """The database to connect to. Several hosts have commas between them, and are tried in that order;
    target_session_attrs and load_balance_hosts in the query choose among them (docs/drivers.md). Other values in the
    query are the driver's own options and are converted to its types. Default: None."""
    driver: type[Driver] | None
    """A subclass of wsgidb.drivers.Driver, which is used in place of the driver that the url's scheme names. Default:
    None."""
    creator: Callable[..., Any] | Engine | None
    """A callable that returns a new DB-API connection, in place of a url. With strategy=sqlalchemy it may also be a
    SQLAlchemy Engine, whose pool is then shared. Default: None."""
    connect_args: Arguments | None
    """Further arguments for the driver's connect function. A callable is called for every new connection, which allows
    credentials to be rotated. Default: None."""
    ssl_mode: Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"]
    """How TLS is used, in MySQL's terms; wsgidb checks the finished connection. preferred uses TLS if the server offers
    it, without verification. verify_ca and verify_identity verify the server's certificate with ssl_ca, or with the
    driver's default authorities. Default: preferred."""
    ssl_ca: str | None
    """The file of the certificate authorities that are trusted. Default: None."""
    ssl_cert: str | None
    """The file of the client's certificate. Default: None."""
    ssl_key: str | None
    """The file of the client's private key. Default: None."""
    acquire_timeout: float
    """The time limit for acquiring a connection, which covers waiting, connecting and validating together. Unit:
    seconds. Default: 5."""
    connect_timeout: float
    """The time limit for opening a connection, which covers TCP, greeting, TLS and login together. Unit: seconds.
    Default: 3."""
    read_timeout: float | None
    """The driver's time limit for each read of a statement's reply. Unit: seconds. Default: None."""
    write_timeout: float | None
    """The driver's time limit for each write of a statement. Unit: seconds. Default: None."""
    max_waiting: int | None
    """How many requests may wait for a connection. Further ones are refused at once. Unit: requests. Default: None."""
    queue_target: float | None
    """The pool is overloaded when all requests have waited longer than this for a connection, for all of
    queue_interval. While it is, only as many requests may wait as are served soon, and further ones are refused at
    once. none means never. It has no effect with strategies that have no limit. Unit: seconds. Default: 0.1."""
    queue_interval: float
    """How long requests must have waited longer than queue_target before any is refused for it. A burst that is shorter
    than this costs nobody a refusal. Unit: seconds. Default: 5."""
    ping_timeout: float
    """The time limit for a ping, a rollback or a reset. The connection is discarded when it is exceeded. Unit: seconds.
    Default: 2."""
    ping_query: str | None
    """A statement, such as SELECT 1, that is sent in place of the driver's ping. Default: None."""
    transaction: Literal["manual", "autocommit", "request"]
    """manual: the application commits, and what it did not commit is rolled back. autocommit: each statement is a
    transaction of its own. request: the request is one transaction, which is committed if the request succeeds. wsgidb
    sets the driver's autocommit accordingly, and restores it if a handler changed it. Default: manual."""
    reset: Literal["rollback", "session"]
    """What is cleared between requests. rollback: the transaction. session: the state of the session too, such as
    variables, temporary tables and locks. Default: rollback."""
    init_sql: str | Iterable[str] | None
    """Statements that are run on each new connection, and again after the session was cleared. Default: None."""
    on_connect: Callable[[Any], object] | None
    """A callable that gets each new connection, the driver's own, after init_sql, and may register types on it or set
    what SQL cannot. It is called again after the session was cleared. What it raises is a failure to connect
    (docs/hooks.md). Default: None."""
    discard_read_only: bool
    """Whether a connection is discarded at the end of its lease after an error which means that the server is read-only
    or not ready, as after a failover. The next request then connects again, and each other connection is asked by one
    round trip whether its server is fit, before it is used again. Default: True."""
    leak_after: float | None
    """The time after which a lease that is still held is logged once, with the request's method and path and the calls
    that hold it. Leases are looked at whenever any lease begins or ends. Unit: seconds. Default: None."""
    name: str | None
    """The name of the pool in metrics and on the status page. Without it, that is the address of the server and the
    name of the database. Default: None."""
    telemetry: bool
    """Whether durations of waiting, use and opening are counted, and metrics are registered where opentelemetry-api is
    installed (docs/observing.md). Default: True."""
    board: str | None
    """A directory, such as one below /run or /dev/shm, in which all processes of a server keep their statistics. Then
    the status page and the Prometheus collector of each process tell of all of them. Default: None."""


class PoolOptions(TypedDict, total=False):
    """The options that decide how many connections are kept, and for how long."""

    strategy: Strategy | type[Store]
    """How connections are kept between requests: in a pool, one per thread, or not at all. Default: pooled."""
    strategy_args: Arguments | None
    """Further arguments for the pool of the strategy's library (DBUtils or SQLAlchemy). Default: None."""
    pool_size: int
    """The largest number of connections of one process, including those that are being opened. The strategies
    per-request, thread-local and dbutils-persistent have no such limit. Unit: connections. Default: 10."""
    host_connections: int | None
    """The largest number of connections of all processes of this machine together that have the same board and the same
    name of the pool. A request waits where pool_size would allow one more, but this does not (docs/deployment.md).
    Unit: connections. Default: None."""
    max_lifetime: float | None
    """The age after which a connection is closed when it is not in use. It varies by up to 10 % at random, so that
    connections that were opened together are not replaced together. Unit: seconds. Default: 1800."""
    max_idle: float | None
    """The time after which a connection that was not used is closed. Unit: seconds. Default: 600."""
    ping_after: float | None
    """The idle time after which a connection is pinged before it is used, at the cost of a round trip. 0 means always,
    none means never. Unit: seconds. Default: 1."""


class MiddlewareOptions(TypedDict, total=False):
    """The options of a middleware, which may be given with an existing Database."""

    commit_veto: Callable[[Environ, str, list[tuple[str, str]]], object] | None
    """With transaction=request, a callable that gets environ, status and headers, and returns true if the request is to
    be rolled back. Without it, a status of 400 or above is rolled back. Default: None."""
    retry: int
    """With transaction=request, how often a request is repeated whose transaction is known to be undone, such as the
    victim of a deadlock (docs/transactions.md). Unit: times. Default: 0."""
    retry_if: Callable[[Environ], object] | None
    """With retry, a callable that gets environ before the first attempt, and returns true if the request may be
    repeated. Without it, GET, HEAD, PUT and DELETE may. Default: None."""
    key: str
    """The key of environ that holds the connection. It must contain a dot. Default: db.conn."""
    acquire: Literal["request", "first-use"]
    """When the connection is acquired. request: before the application is called; a client that sends the body of its
    request slowly then holds a connection meanwhile, unless the server reads the body first. first-use: when the
    application first uses it. Default: request."""
    on_lease: Callable[[Any, Environ], object] | None
    """A callable that gets the connection and environ when the lease of a request begins, and may set what belongs to
    the request, such as its tenant. If it is a generator function, what follows its yield is run at the end of the
    lease (docs/hooks.md). Default: None."""
    exclude: str | Iterable[str] | Callable[[Environ], object] | None
    """The requests that get no connection: path prefixes, which match whole segments of PATH_INFO, or a callable that
    gets environ and returns true for them. Default: None."""
    retry_after: int
    """The value of the Retry-After header of a 503 response. Unit: seconds. Default: 1."""
    on_unavailable: Callable[[Environ, Any], Any] | Literal["raise"] | None
    """What answers a request for which no connection can be acquired: a WSGI application, or raise, which raises
    DatabaseUnavailable. Without it, the answer is a plain 503. Default: None."""
    replicas: str | Iterable[str | Replica] | None
    """The replicas of the database, to which the requests go that only read (docs/replicas.md). Default: None."""
    replica_if: Callable[[Environ], object] | None
    """With replicas, a callable that gets environ, and returns true if the request only reads. Without it, that is so
    for GET and HEAD. Default: None."""
    server_timing: bool
    """Whether responses get the header Server-Timing, which browsers show: the time of the request's statements (db)
    and the time that it waited for its connection (db-wait). Default: False."""
    status: str | None
    """The path at which the middleware answers with the status page (docs/observing.md), such as /-/wsgidb. It needs
    Jinja2. Without it, there is no such page. Default: None."""
    status_allow: Callable[[Environ], object] | None
    """A callable that gets environ, and returns true if the request may see the status page. Without it, only requests
    from this machine may, and none that a proxy has forwarded. Default: None."""


class SandboxOptions(ConnectionOptions, MiddlewareOptions, total=False):
    """The options of a `wsgidb.testing.SandboxDatabase`, which sets those of `PoolOptions` itself."""


class DatabaseOptions(ConnectionOptions, PoolOptions, MiddlewareOptions, total=False):
    """All options. Those of the middleware may be given to a Database, whose middleware then uses them."""
