"""The driver contract: what the engine must know of a driver and its server, and nothing else.

Times are seconds on the clock the driver was made with; a deadline is a point on it. "May block" means: may
talk to the server, until the deadline where there is one.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar, Final

from ..config.settings import Settings
from ..config.values import nearest
from ..errors import ConfigError
from .activity import Activity
from .cursors import invalidate

Clock = Callable[[], float]
Check = Callable[[int], object]
"""The free check of one connection: called with 0, it is true when something was heard on the idle line."""

SERVER_OPTIONS = frozenset(
    ("connect_timeout", "read_timeout", "write_timeout", "ssl_mode", "ssl_ca", "ssl_cert", "ssl_key")
)


class State(Enum):
    """What `inspect` found, beside a reason (a str) to discard the connection."""

    CLEAN = "clean"
    DIRTY = "dirty"


CLEAN: Final = State.CLEAN
DIRTY: Final = State.DIRTY

MISSING: Final = object()
"""As a former value: the attribute was not there."""


def silent(_timeout: int) -> object:
    """The check of a connection on which nothing can be heard."""
    return None


class Driver(ABC):
    """One DB-API driver as one Database uses it. Its methods are called from any thread, but never two of them
    at once for one connection."""

    name: ClassVar[str]
    """What error messages call it."""
    options: ClassVar[frozenset[str]] = frozenset()
    """Which of `SERVER_OPTIONS` the driver can honour; giving it another one is a ConfigError."""
    cursor_methods: ClassVar[tuple[str, ...]] = ()
    """Methods of the driver's connection, beside cursor(), that return a new cursor."""
    cursor_attributes: ClassVar[tuple[str, ...]] = ()
    """Attributes of the connection that its cursors look up at every statement, and that talk to no server."""
    unobserved_methods: ClassVar[tuple[str, ...]] = ()
    """Methods of the driver's connection, where it has them, that talk to the server and that its class cannot observe:
    the lease notes them in the connection's record, and adopts a cursor that they return."""
    when_returned: ClassVar[Mapping[str, Any]] = {}
    """What applications ask of a connection to find out whether it is closed, and the answers after the lease; a
    callable where the driver's is a method."""
    clears_sessions: ClassVar[bool] = False
    """Whether `reset` can do what reset=session promises."""
    connection_class: Any = object
    """The class of its connections; where only a connection tells, once there was one."""

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        """Never blocks. Raises ConfigError for what is wrong with the settings and can be known now."""
        self.settings = settings
        self.clock = clock
        self.autocommit = settings.transaction == "autocommit"
        for name in SERVER_OPTIONS & settings.given - self.options:
            raise ConfigError(f"{name}: {self.name} has no such option")
        if settings.reset == "session" and not self.clears_sessions:
            raise ConfigError(f"reset: {self.name} cannot clear a session; a fresh one takes strategy=per-request")

    # -- may block until the deadline

    @abstractmethod
    def connect(self, deadline: float) -> Any:
        """A new connection: logged in, autocommit set, init_sql run. May block. Any exception means that there is
        none, and that nothing of it is left open."""

    @abstractmethod
    def ping(self, conn: Any, deadline: float) -> None:
        """One round trip that proves the connection alive. May block. Any exception means dead."""

    @abstractmethod
    def rollback(self, conn: Any, deadline: float) -> None:
        """End the transaction without its effects, and restore autocommit. May block. Any exception means that
        the connection must be discarded."""

    def reset(self, conn: Any, deadline: float) -> None:
        """Roll back, and make the session as a new one: no user variables, temporary tables, changed settings,
        current database or locks. May block. Any exception means that the connection must be discarded."""
        raise NotImplementedError("only where clears_sessions")

    def put_back(self, conn: Any, attributes: Mapping[str, Any], deadline: float) -> None:
        """Give attributes that a lease has changed their former values. May block, where one is a property that talks
        to the server. Any exception means that the connection must be discarded."""
        for name, value in attributes.items():
            if value is MISSING:
                delattr(conn, name)
            else:
                setattr(conn, name, value)

    @abstractmethod
    def commit(self, conn: Any) -> None:
        """Commit what was done since the last commit or rollback; if that is nothing, do nothing. May block as long
        as a statement may (read_timeout). Raises the driver's error, or TransactionLost where the server has ended
        the transaction before: then nothing is committed."""

    @abstractmethod
    def close(self, conn: Any) -> None:
        """Say goodbye and close. May block briefly."""

    # -- never block

    def watch(self, conn: Any) -> Check:
        """The free check of an idle connection: no round trip. Never blocks, neither here nor when called."""
        return silent

    def readable_is_dead(self, conn: Any) -> bool:
        """Whether what the free check heard proves the connection dead; else a ping decides. Never blocks."""
        return True

    @abstractmethod
    def inspect(self, conn: Any) -> State | str:
        """CLEAN: nothing to roll back or reset. DIRTY: there may be. A str: why it cannot be kept. Never blocks."""

    @abstractmethod
    def activity(self, conn: Any) -> Activity:
        """The record of what the connection does; the same object for its whole life. Never blocks."""

    def rows_written(self, conn: Any) -> int:
        """How many rows were changed since the last commit or rollback, where that is known. Never blocks."""
        return self.activity(conn).written

    @abstractmethod
    def abandon(self, conn: Any) -> None:
        """Drop a broken connection without waiting for the server. Never blocks.

        A call may still be under way in a thread that the request left behind: then end the network connection, so
        that the call returns, but close the descriptor by `Activity.close_when_unused` only."""

    @abstractmethod
    def is_disconnect(self, error: BaseException) -> bool:
        """Whether this error of a statement means that the connection is gone. Never blocks."""

    def commit_was_refused(self, error: BaseException) -> bool:
        """Whether this error of a COMMIT means that the server has rolled the transaction back and that the connection
        is as good as before. Never blocks."""
        return False

    def is_read_only(self, error: BaseException) -> bool:
        """Whether this error of a statement means that the server as a whole takes no writes, or is not ready for any
        statement: after a failover another one may. Never blocks."""
        return False

    def unfit(self, error: BaseException) -> str | None:
        """Why a connection must not be kept after this error of a statement; None if it may. Never blocks."""
        if self.is_disconnect(error):
            return "connection lost"
        if self.settings.discard_read_only and self.is_read_only(error):
            return "server read-only or not ready"
        return None

    # -- for the handler

    def adopt(self, cursor: Any, conn: Any) -> Any:
        """The cursor as a handler gets it: its ``connection`` is the lease `conn`. Never blocks."""
        return cursor

    def retire_cursor(self, cursor: Any) -> str | None:
        """Make the cursor of an ended lease useless. A str: why its connection cannot be kept. Never blocks."""
        return None if invalidate(cursor) else "a cursor could not be invalidated"

    # -- for drivers

    def connect_args(self) -> dict[str, Any]:
        """The option's arguments for one more connection; a callable is asked each time, and may block. Raises
        ConfigError where it returns something else."""
        given = self.settings.connect_args
        found = given() if callable(given) else given
        if not isinstance(found, Mapping):
            raise ConfigError(f"connect_args: takes a callable that returns a dict, got {type(found).__name__} of it")
        return dict(found)

    def run(self, conn: Any, statements: tuple[str, ...]) -> None:
        """Execute statements one by one. May block as they do."""
        for statement in statements:
            cursor = conn.cursor()
            try:
                cursor.execute(statement)
            finally:
                cursor.close()


def refuse_owned(name: str, owned: dict[str, str]) -> None:
    """Raise ConfigError for a driver option that wsgidb has an option of its own for."""
    if name in owned:
        instead = f"use wsgidb's option {owned[name]}" if owned[name] else "wsgidb needs it for itself"
        raise ConfigError(f"{name}: cannot be given in the url or connect_args; {instead}")


def unknown_option(name: str, known: set[str], driver: str) -> ConfigError:
    return ConfigError(f"{name}: {driver} has no such option{nearest(name, known)}")
