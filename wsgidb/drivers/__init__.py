"""The drivers: a folder or module each, which is imported only when a url asks for it."""

from __future__ import annotations

import time

from ..config.optional import load, own
from ..config.settings import Settings
from ..config.values import nearest
from ..errors import ConfigError
from .base import Driver
from .states import Clock

__all__ = ["DRIVERS", "SHORT", "Driver", "make_driver"]

SHORT = {"mysql": "mysql+pymysql", "postgresql": "postgresql+psycopg"}
DRIVERS = {
    "mysql+pymysql": ("pymysql.driver", "PyMySQL", "mysql"),
    "mysql+mysqldb": ("mysqlclient.driver", "MySQLClient", "mysqlclient"),
    "mysql+mysqlconnector": ("mysqlconnector.driver", "MySQLConnector", "mysqlconnector"),
    "postgresql+psycopg": ("psycopg.driver", "Psycopg", "postgresql"),
    "sqlite": ("sqlite.driver", "SQLite", None),
}
"""By scheme: the module, its class, and the extra that installs the package that it needs."""
ELSEWHERE = {
    **dict.fromkeys(("mariadb", "mysql2", "mysqlgis", "tidb", "aurora"), "mysql"),
    **dict.fromkeys(("mysql+aiomysql", "mysql+asyncmy", "mysql+cymysql", "mariadb+pymysql"), "mysql+pymysql"),
    **dict.fromkeys(("mysqlclient", "mysql+mysqlclient", "mariadb+mysqldb"), "mysql+mysqldb"),
    **dict.fromkeys(("mysql-connector", "mysql+connector", "mariadb+mysqlconnector"), "mysql+mysqlconnector"),
    **dict.fromkeys(("postgres", "pgsql", "psql", "postgis", "cockroachdb", "redshift"), "postgresql"),
    **dict.fromkeys(("postgresql+psycopg2", "postgresql+asyncpg", "postgresql+pg8000"), "postgresql+psycopg"),
    **dict.fromkeys(("sqlite3", "sqlite+pysqlite", "spatialite"), "sqlite"),
}
"""Schemes that users try, and the right ones."""


def make_driver(settings: Settings, clock: Clock = time.monotonic) -> Driver:
    """The driver for the settings' url or creator. Raises ConfigError where it is unknown or not installed."""
    return _driver_class(settings)(settings, clock)


def _driver_class(settings: Settings) -> type[Driver]:
    chosen = settings.driver
    if chosen is not None:
        return own("driver", chosen, Driver, "wsgidb.drivers.Driver")
    if settings.url is None:
        module, name, extra, asked = "generic", "Generic", None, "creator"
        if settings.shares_engine:
            module, name = "sqlalchemy_engine", "SQLAlchemyEngine"
    else:
        asked = SHORT.get(settings.url.scheme, settings.url.scheme)
        if asked not in DRIVERS:
            known = [*DRIVERS, *SHORT]
            hint = nearest(asked, known, ELSEWHERE) or "; creator takes connections of any other DB-API driver"
            raise ConfigError(f"url: unknown scheme {asked!r}{hint}; takes {', '.join(known)}", entry="config-url")
        module, name, extra = DRIVERS[asked]
    found: type[Driver] = load(__name__, module, name, extra, f"url: {asked}")
    return found
