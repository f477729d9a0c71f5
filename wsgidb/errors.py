"""The errors of wsgidb: one root, so that an application can tell ours from its driver's."""

from __future__ import annotations

__all__ = [
    "ConfigError",
    "ConnectionReturned",
    "DatabaseUnavailable",
    "PoolOverloaded",
    "PoolTimeout",
    "TransactionLost",
    "WsgiDBError",
]


class WsgiDBError(Exception):
    """Root of all errors that wsgidb raises itself; a statement's errors are the driver's own."""


class ConfigError(WsgiDBError, ValueError):
    """An option is unknown, has a bad value, or contradicts another one. Raised at start-up."""


class DatabaseUnavailable(WsgiDBError):
    """There is no connection to be had now. The middleware answers it with a 503."""


class PoolTimeout(DatabaseUnavailable):
    """All connections stayed leased for as long as ``acquire_timeout`` allows."""


class PoolOverloaded(DatabaseUnavailable):
    """More than ``max_waiting`` requests wait already, so this one was refused at once."""


class ConnectionReturned(WsgiDBError):
    """A connection or cursor was used after it had gone back to its source."""


class TransactionLost(WsgiDBError):
    """The server ended the transaction behind the handler's back; the rest of it is not committed."""
