"""The exceptions that wsgidb raises. They have one root, so that an application can tell them from its driver's.

Each has an entry in docs/troubleshooting.md, and the end of its message is a link to it."""

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

SITE = "https://wsgidb.readthedocs.io/"
"""Where the documentation is published."""


class WsgiDBError(Exception):
    """The root of all exceptions that wsgidb raises itself. A statement that fails raises the driver's own error.

    ``str()`` gives the message and, in parentheses, a link to its explanation.

    >>> error = PoolTimeout("no connection became free")
    >>> error.text, error.link
    ('no connection became free', 'https://wsgidb.readthedocs.io/page/troubleshooting.html#pool-timeout')
    """

    entry = "errors"
    """The anchor of the error's entry in docs/troubleshooting.md."""

    def __init__(self, *args: object, entry: str | None = None) -> None:
        super().__init__(*args)
        if entry is not None:
            self.entry = entry

    def __str__(self) -> str:
        return f"{self.text} ({self.link})"

    @property
    def text(self) -> str:
        """The message without the link."""
        return super().__str__()

    @property
    def link(self) -> str:
        """The address of the page, and of the place in it, that says what the error means and what to do."""
        return f"{SITE}page/troubleshooting.html#{self.entry}"


def plain(error: BaseException) -> str:
    """The message of any error as a part of another text, for which the link would be in the way."""
    return error.text if isinstance(error, WsgiDBError) else str(error)


class ConfigError(WsgiDBError, ValueError):
    """An option is unknown, has a bad value or contradicts another one. It is raised at start-up."""

    entry = "config-options"


class DatabaseUnavailable(WsgiDBError):
    """No connection can be acquired now. The middleware answers the request with 503 Service Unavailable."""

    entry = "cannot-connect"


class PoolTimeout(DatabaseUnavailable):
    """No connection became free within ``acquire_timeout`` seconds."""

    entry = "pool-timeout"


class PoolOverloaded(DatabaseUnavailable):
    """The request was refused before its deadline: ``max_waiting`` requests were waiting already, or the pool is
    overloaded (``queue_target``)."""

    entry = "pool-overloaded"


class ConnectionReturned(WsgiDBError):
    """A connection or a cursor was used after the end of its lease."""

    entry = "connection-returned"


class TransactionLost(WsgiDBError):
    """The server ended the transaction before it could be committed. The rest of it is not committed either."""

    entry = "transaction-lost"
