"""Connections of an application's own SQLAlchemy Engine, so that both share one pool.

The Engine connects, and its pool keeps: a connection is checked out for each lease, and checked in after it. What
the pool hands out may be dead, so each is validated here, by a ping, and invalidated through SQLAlchemy where it is.
"""

from __future__ import annotations

from typing import Any

from ..errors import ConfigError
from .generic import Generic

SPARE = 1
"""How many more dead connections there may be than the Engine's pool has idle ones; some pools do not tell."""


class SQLAlchemyEngine(Generic):
    """The driver for connections that an application's own Engine makes and keeps."""

    name = "a SQLAlchemy Engine"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name in {"connect_args", "init_sql"} & self.settings.given:
            raise ConfigError(
                f"{name}: the Engine makes its connections itself; give it to create_engine()",
                entry="config-own-classes",
            )
        if self.settings.on_connect is not None:
            raise ConfigError(
                "on_connect: the Engine makes its connections itself; use SQLAlchemy's event connect",
                entry="config-own-classes",
            )
        self._engine: Any = self.settings.creator
        self._checked_out: dict[int, tuple[Any, Any]] = {}  # by connection: SQLAlchemy's proxy, former autocommit

    def connect(self, deadline: float) -> Any:
        """Check one out that is alive. Blocks for as long as the Engine's own timeouts allow: no deadline can be set
        from outside."""
        left = getattr(self._engine.pool, "checkedin", int)() + SPARE  # that may be dead; one more is new
        while True:
            proxy = self._engine.raw_connection()
            conn = proxy.dbapi_connection
            try:
                former = _autocommit(conn)
                self._set_autocommit(conn)
                self.ping(conn, deadline)
            except BaseException as error:
                proxy.invalidate(error if isinstance(error, Exception) else None)
                if not isinstance(error, Exception) or isinstance(error, ConfigError):
                    raise
                if not left or self.clock() >= deadline:
                    raise
                left -= 1
            else:
                self._checked_out[id(conn)] = proxy, former
                return self._known(conn)

    def close(self, conn: Any) -> None:
        """Check it in, as the Engine's other users expect it."""
        self._activities.pop(id(conn), None)
        proxy, former = self._checked_out.pop(id(conn))
        if callable(getattr(conn, "autocommit", None)):
            conn.autocommit(former)
        elif former is not None and former != conn.autocommit:
            conn.autocommit = former
        proxy.close()

    def give_up(self, conn: Any) -> None:
        """Let SQLAlchemy drop it. That may say goodbye to the server, but does not wait for an answer."""
        self._checked_out.pop(id(conn))[0].invalidate()


def _autocommit(conn: Any) -> Any:
    """What it is now; None where the driver has no such thing. An Engine may have been made with it on."""
    current = getattr(conn, "autocommit", None)
    return conn.get_autocommit() if callable(current) else current  # PyMySQL, mysqlclient
