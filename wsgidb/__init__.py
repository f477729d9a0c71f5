"""A validated database connection for every WSGI request, in ``environ["db.conn"]``."""

from __future__ import annotations

from .database import Database
from .dbapi import Connection, Cursor
from .errors import (
    ConfigError,
    ConnectionReturned,
    DatabaseUnavailable,
    PoolOverloaded,
    PoolTimeout,
    TransactionLost,
    WsgiDBError,
)
from .pool.stats import Stats
from .wsgi.middleware import DatabaseMiddleware, get_connection

__all__ = [
    "ConfigError",
    "Connection",
    "ConnectionReturned",
    "Cursor",
    "Database",
    "DatabaseMiddleware",
    "DatabaseUnavailable",
    "PoolOverloaded",
    "PoolTimeout",
    "Stats",
    "TransactionLost",
    "WsgiDBError",
    "get_connection",
]

__version__ = "0.1.0"
