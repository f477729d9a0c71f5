"""The pools that are compared, each with the settings that its documentation recommends.

`ROWS` has the rows of the table. A row's `make` is called once in the server's process. The source that it returns is
asked for a connection at the start of each request, and is told when the request has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

THREADS = 16
"""The threads of the WSGI server. No pool is smaller, so no request has to wait for a connection."""
SELECT = "SELECT city_id FROM city WHERE city = %s"


class Source:
    """The interface of all sources; `done` returns the connection if that is the application's task."""

    def __init__(self, get: Callable[[], Any], done: Callable[[Any], object] | None = None) -> None:
        self.get = get
        self.done = done or (lambda conn: None)


@dataclass(frozen=True)
class Row:
    name: str
    make: Callable[[Driver, str], Source] | None
    """Makes the source; None means wsgidb, with the options below."""
    settings: str
    documented: str
    """The page that recommends these settings."""
    options: Mapping[str, Any] = field(default_factory=dict)
    keeps: bool = True
    """Whether its connections outlive a request."""
    patience: int = 1
    """The factor by which its runs are longer, for a source so slow that there would be too few requests."""


class Driver:
    """One of the MySQL drivers that the compared pools use."""

    def __init__(self, name: str, url: str, tls: bool = False) -> None:
        """Whether the limit uses TLS is `tls`; the other pools decide that themselves."""
        parts = urlsplit(url)
        self.name = name
        self.tls = tls
        self.place: dict[str, Any] = {"host": parts.hostname, "port": parts.port, "user": parts.username}
        self.database = parts.path[1:]

    def arguments(self, tls: bool | None) -> dict[str, Any]:
        """Arguments for the driver's connect(). With `tls` None the driver's own default applies."""
        switch: dict[str, Any] = {}
        if tls is not None and self.name == "pymysql":
            switch = {"ssl": {"check_hostname": False}} if tls else {"ssl_disabled": True}
        elif tls is not None:
            switch = {"ssl_mode": "REQUIRED" if tls else "DISABLED"}
        return {**self.place, "database": self.database, **switch, "charset": "utf8mb4", "autocommit": True}

    @property
    def module(self) -> Any:
        return import_module({"pymysql": "pymysql", "mysqlclient": "MySQLdb"}[self.name])


def fresh(tls: bool | None) -> Callable[[Driver, str], Source]:
    def make(driver: Driver, url: str) -> Source:
        module, arguments = driver.module, driver.arguments(tls)
        return Source(lambda: module.connect(**arguments), lambda conn: conn.close())

    return make


def persistent_db(driver: Driver, url: str) -> Source:
    from dbutils.persistent_db import PersistentDB

    return Source(PersistentDB(creator=driver.module, **driver.arguments(False)).connection)


def pooled_db(driver: Driver, url: str) -> Source:
    from dbutils.pooled_db import PooledDB

    pool = PooledDB(driver.module, mincached=0, maxcached=THREADS, ping=1, **driver.arguments(False))
    return Source(pool.connection, lambda conn: conn.close())


def sqlalchemy(driver: Driver, url: str) -> Source:
    from sqlalchemy import create_engine

    scheme = {"pymysql": "mysql+pymysql", "mysqlclient": "mysql+mysqldb"}[driver.name]
    engine = create_engine(f"{scheme}://", pool_pre_ping=True, pool_size=THREADS, connect_args=driver.arguments(False))
    return Source(engine.raw_connection, lambda conn: conn.close())


def django(driver: Driver, url: str) -> Source:
    """Django's connection, with only what Django does at the start and the end of each request."""
    if driver.name == "pymysql":
        import pymysql

        pymysql.version_info = (2, 2, 1, "final", 0)  # Django checks the version of MySQLdb
        pymysql.install_as_MySQLdb()
    from django.conf import settings

    arguments = driver.arguments(False)
    names = {"HOST": arguments.pop("host"), "PORT": arguments.pop("port"), "USER": arguments.pop("user")}
    options = {name: value for name, value in arguments.items() if name not in ("database", "autocommit")}
    database = {"ENGINE": "django.db.backends.mysql", "NAME": driver.database, "OPTIONS": options, **names}
    settings.configure(DATABASES={"default": {**database, "CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True}})
    from django.db import close_old_connections, connection

    def get() -> Any:
        close_old_connections()
        return connection

    return Source(get, lambda conn: close_old_connections())


def connector_pool(driver: Driver, url: str) -> Source:
    from mysql.connector.pooling import MySQLConnectionPool

    more: dict[str, Any] = {"autocommit": True, "ssl_disabled": True, "use_pure": True, "charset": "utf8mb4"}
    pool = MySQLConnectionPool(pool_size=THREADS, database=driver.database, **driver.place, **more)
    return Source(pool.get_connection, lambda conn: conn.close())


def limit(driver: Driver, url: str) -> Source:
    """One connection per thread, never checked. Nothing can do less work, but a dead connection is not noticed."""
    local = threading.local()

    def get() -> Any:
        with suppress(AttributeError):
            return local.conn
        local.conn = driver.module.connect(**driver.arguments(driver.tls))
        return local.conn

    return Source(get)


DBUTILS = "https://webwareforpython.github.io/DBUtils/main.html"
WSGIDB = "docs/options.md"
LIMIT = "limit: one unchecked connection per thread"
AGAIN = "the limit a second time"


def ours(**options: Any) -> Row:
    options["transaction"] = "autocommit"
    text = ", ".join(f"{name}={value}" for name, value in options.items())
    keeps = options["strategy"] != "per-request"
    return Row(f"wsgidb {options['strategy']}", None, text, WSGIDB, options, keeps)


ROWS = [
    Row(
        "per request, PyMySQL's defaults",
        fresh(None),
        "opened in the handler, closed at teardown; TLS as PyMySQL has it",
        "https://flask.palletsprojects.com/en/stable/tutorial/database/",
        keeps=False,
        patience=3,
    ),
    Row(
        "per request, TLS off",
        fresh(False),
        "the same with ssl_disabled",
        "https://flask.palletsprojects.com/en/stable/tutorial/database/",
        keeps=False,
    ),
    Row("PersistentDB", persistent_db, "the defaults: ping=1, at each connection()", DBUTILS),
    Row("PooledDB", pooled_db, f"maxcached={THREADS}, ping=1 (the default)", DBUTILS),
    Row(
        "SQLAlchemy pre_ping",
        sqlalchemy,
        f"pool_pre_ping=True, pool_size={THREADS}, raw_connection()",
        "https://docs.sqlalchemy.org/en/20/core/pooling.html#disconnect-handling-pessimistic",
    ),
    Row(
        "Django, persistent",
        django,
        "CONN_MAX_AGE=None, CONN_HEALTH_CHECKS=True",
        "https://docs.djangoproject.com/en/stable/ref/databases/#persistent-database-connections",
    ),
    Row(
        "mysql-connector's pool",
        connector_pool,
        f"pool_size={THREADS}, the defaults; its own driver",
        "https://dev.mysql.com/doc/connector-python/en/connector-python-connection-pooling.html",
    ),
    Row(LIMIT, limit, "never checked; for comparison only", ""),
    Row(AGAIN, limit, "the same: how far it is from itself is what noise alone does", ""),
    ours(strategy="per-request"),
    *(
        ours(strategy=strategy, pool_size=THREADS)
        for strategy in ("thread-local", "pooled", "dbutils-persistent", "dbutils-pooled", "sqlalchemy")
    ),
]
BY_NAME = {row.name: row for row in ROWS}
