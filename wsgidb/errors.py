"""The exceptions that wsgidb raises. They have one root, so that an application can tell them from its driver's."""

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
    """The root of all exceptions that wsgidb raises itself. A statement that fails raises the driver's own error."""


class ConfigError(WsgiDBError, ValueError):
    """An option is unknown, has a bad value or contradicts another one. It is raised at start-up."""


class DatabaseUnavailable(WsgiDBError):
    """No connection can be acquired now. The middleware answers the request with 503 Service Unavailable."""


class PoolTimeout(DatabaseUnavailable):
    """No connection became free within ``acquire_timeout`` seconds."""


class PoolOverloaded(DatabaseUnavailable):
    """The request was refused before its deadline: ``max_waiting`` requests were waiting already, or the pool is
    overloaded (``queue_target``)."""


class ConnectionReturned(WsgiDBError):
    """A connection or a cursor was used after the end of its lease."""


class TransactionLost(WsgiDBError):
    """The server ended the transaction before it could be committed. The rest of it is not committed either."""
