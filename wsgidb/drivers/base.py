"""The driver contract: what the engine must know of a driver and its server, and nothing else.

Times are in seconds on the clock that the driver was made with, and a deadline is a point on it. A method that "may
block" may talk to the server, until the deadline if it has one. The engine calls a method that may block outside of
every lock, and calls `connect` for an empty slot, `ping` before a lease, and all others at the end of one.

Two parts of the contract have modules of their own: what an error means (``errors.py``), and calling functions of the
application's (``hooks.py``). The types and states that it mentions are in ``states.py``.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from ..config.settings import Settings
from ..errors import ConfigError, DatabaseUnavailable
from .activity import Activity
from .cursors import invalidate
from .errors import Errors
from .hooks import Hooked
from .states import MISSING, Check, Clock, Position, State, silent

SERVER_OPTIONS = frozenset(
    ("connect_timeout", "read_timeout", "write_timeout", "ssl_mode", "ssl_ca", "ssl_cert", "ssl_key")
)


class Driver(Hooked, Errors):
    """One DB-API driver as one Database uses it.

    Its methods are called from any thread, but never two of them at once for one connection."""

    name: ClassVar[str]
    """The name of the driver in error messages."""
    options: ClassVar[frozenset[str]] = frozenset()
    """Which of `SERVER_OPTIONS` the driver supports; giving another one of them is a ConfigError."""
    cursor_methods: ClassVar[tuple[str, ...]] = ()
    """Methods of the driver's connection, beside cursor(), that return a new cursor."""
    cursor_attributes: ClassVar[tuple[str, ...]] = ()
    """Attributes of the connection that its cursors look up at every statement, and that talk to no server."""
    local_methods: ClassVar[tuple[str, ...]] = ()
    """Methods of the connection's class that its cursors call at every statement, and that answer from memory: they
    need not mark the connection as in use. After the lease they are refused like all others."""
    nothing_to_read: ClassVar[Mapping[str, tuple[str, Any]]] = {}
    """Methods of the connection that its cursors call for what is left of a reply. Each has an attribute of the
    connection, and a value that it returns, doing nothing, while the attribute is false: then the lease returns it."""
    cursor_state: ClassVar[frozenset[str]] = frozenset()
    """Attributes of the connection that its cursors, and what else it hands out, set as they work. They are no settings
    of a handler's, so nothing is put back at the end of the lease."""
    changed_in_place: ClassVar[tuple[str, ...]] = ()
    """Attributes of the connection whose values, dictionaries and lists, applications change instead of setting others:
    the lease puts copies of them back in the end, which nobody else has."""
    handing_out: ClassVar[tuple[str, ...]] = ()
    """Methods and attributes of the connection that hand out an object through which the connection can be reached;
    `bind` makes it the lease's."""
    lease_members: ClassVar[tuple[str, ...]] = ()
    """Methods and properties of the driver's connection, where it has them, that are written in Python and hand out the
    connection itself, or objects that keep it: they run with the lease in its place."""
    unobserved_methods: ClassVar[tuple[str, ...]] = ()
    """Methods of the driver's connection, where it has them, that talk to the server and that its class cannot observe.
    The lease records them as statements, and adopts a cursor that they return."""
    when_returned: ClassVar[Mapping[str, Any]] = {}
    """What applications ask of a connection to find out whether it is closed, where its class has it, and the answers
    after the lease; a callable where the driver's is a method."""
    ended_anyway: ClassVar[Mapping[str, Callable[..., bool]]] = {}
    """Methods of the connection that clean up what a handler has begun, such as a COPY that it leaves because of an
    error. Each has a function that tells from the arguments whether a call does only that; it may raise what the driver
    expects of such a call. After the lease, whose end has cleaned up, such a call does nothing else. So a generator of
    a handler's that is closed late ends in silence."""
    cursor_told: ClassVar[Mapping[str, Any]] = {}
    """Private attributes of a cursor that generators of the driver's read when they are closed, and their values after
    the lease."""
    takes_hosts: ClassVar[bool] = False
    """Whether its url may have several hosts."""
    can_ask: ClassVar[bool] = False
    """Whether `fitness` can tell what has become of a server after an error that `is_read_only` knows."""
    clears_sessions: ClassVar[bool] = False
    """Whether `reset` can do what reset=session promises."""
    tells_outcome: ClassVar[bool] = False
    """Whether its connections tell the record of a lease (`Activity.outcome`) what each statement makes permanent, so
    that it can be known that nothing is."""
    limit_query: ClassVar[str | None] = None
    """A statement that asks how many connections the server grants, if there is one."""
    replicates: ClassVar[bool] = False
    """Whether `written` and `reached` work, which replicas need."""
    read_only: ClassVar[str] = ""
    """The statement after which a session refuses to write, where the driver `replicates`."""
    connection_class: Any = object
    """The class of its connections; `object` where it is not known before the first connection."""

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        """Never blocks. Raises ConfigError for each mistake in the settings that shows without a connection."""
        self.settings = settings
        self.clock = clock
        self.autocommit = settings.transaction == "autocommit"
        for name in SERVER_OPTIONS & settings.given - self.options:
            raise ConfigError(f"{name}: {self.name} has no such option", entry="config-driver-options")
        if settings.url is not None and len(settings.url.hosts) > 1 and not self.takes_hosts:
            raise ConfigError(f"url: {self.name} takes no list of hosts", entry="config-url")
        if settings.reset == "session" and not self.clears_sessions:
            raise ConfigError(
                f"reset: {self.name} cannot clear a session; a fresh one takes strategy=per-request",
                entry="config-contradiction",
            )

    # -- may block until the deadline

    @abstractmethod
    def connect(self, deadline: float) -> Any:
        """Open a connection: log in, set autocommit, run init_sql and `call_on_connect`. May block until the deadline.
        Any exception means that there is no connection and that nothing was left open."""

    @abstractmethod
    def ping(self, conn: Any, deadline: float) -> None:
        """Prove by one round trip that the connection works. May block until the deadline. Any exception means that it
        does not."""

    def fitness(self, conn: Any, deadline: float) -> str | None:
        """Ask by one round trip whether the server is still fit: ready, and what the settings ask for. Returns why it
        is not, or None. May block until the deadline. Any exception means that the connection must be discarded."""
        raise NotImplementedError("only where can_ask")

    @abstractmethod
    def rollback(self, conn: Any, deadline: float) -> None:
        """Roll the transaction back, and restore autocommit. May block until the deadline. Any exception means that the
        connection must be discarded."""

    def reset(self, conn: Any, deadline: float) -> None:
        """Roll back, and make the session like a new one: without user variables, temporary tables, changed settings,
        another current database, or locks. Then run init_sql and `call_on_connect`. May block until the deadline. Any
        exception means that the connection must be discarded."""
        raise NotImplementedError("only where clears_sessions")

    def put_back(self, conn: Any, attributes: Mapping[str, Any], deadline: float) -> None:
        """Give attributes that a lease has changed their former values. May block until the deadline, if one of them is
        a property that talks to the server. Any exception means that the connection must be discarded."""
        for name, value in attributes.items():
            if value is MISSING:
                delattr(conn, name)
            else:
                setattr(conn, name, value)

    @abstractmethod
    def commit(self, conn: Any) -> None:
        """Commit what was done since the last commit or rollback; if that is nothing, send nothing.

        May block as long as a statement may (read_timeout). Raises the driver's error, or TransactionLost if the server
        has ended the transaction before: then nothing is committed."""

    @abstractmethod
    def close(self, conn: Any) -> None:
        """Close the connection politely, so that the server does not count it as aborted. May block briefly."""

    def written(self, conn: Any, deadline: float, ask: bool) -> Position:
        """A position of the server that covers all that was committed on the connection since this was last called;
        empty if that is nothing. It changes nothing in the record of the connection, which may be in a transaction.

        Without `ask` only what the server has told by itself counts. Blocks until the deadline if the server has to be
        asked. Any exception means that it is not known. To be called for connections that were opened since
        `track_writes`, and for older ones with `ask`."""
        raise NotImplementedError("only where replicates")

    def reached(self, conn: Any, deadline: float) -> tuple[str, Position]:
        """Which server a clean connection leads to, and the position that it has reached. Blocks until the deadline.
        Any exception means that the connection must be discarded."""
        raise NotImplementedError("only where replicates")

    # -- never block

    def track_writes(self) -> None:
        """Open connections from now on in such a way that `written` has as little to ask as possible."""

    def watch(self, conn: Any) -> Check:
        """The free check of an idle connection. It needs no round trip, and never blocks, here or when it is called."""
        return silent

    def descriptor(self, conn: Any) -> int | None:
        """The descriptor of the connection's socket, if there is one that is known. Never blocks."""
        return None

    def readable_is_dead(self, conn: Any) -> bool:
        """Whether a readable socket proves that the connection is dead; if not, a ping decides. Never blocks."""
        return True

    @abstractmethod
    def inspect(self, conn: Any) -> State | str:
        """What the lease has left: CLEAN if there is nothing to roll back or reset, DIRTY if there may be, or a str
        that tells why the connection cannot be kept. Never blocks."""

    @abstractmethod
    def activity(self, conn: Any) -> Activity:
        """The record of what the connection does; it is the same object for its whole life. Never blocks."""

    def rows_written(self, conn: Any) -> int:
        """How many rows were changed since the last commit or rollback, as far as that is known. Never blocks."""
        return self.activity(conn).written

    @abstractmethod
    def abandon(self, conn: Any) -> None:
        """Drop a broken connection without waiting for the server. Never blocks.

        A call may still be under way in a thread that the request left behind: then end the network connection, so
        that the call returns, but close the descriptor by `Activity.close_when_unused` only."""

    # -- for the handler

    def traced(self, conn: Any) -> Any:
        """What makes the handlers' cursors: the connection, or a tracing tool's view of it; see `tracing.traced`.
        Never blocks."""
        return conn

    def adopt(self, cursor: Any, conn: Any) -> Any:
        """The cursor as a handler gets it: its ``connection`` is the lease `conn`. Never blocks."""
        return cursor

    def bind(self, value: Any, conn: Any) -> Any:
        """What a handler gets of one of `handing_out`: every use of it enters as the lease `conn`. Never blocks."""
        return value

    def retire_cursor(self, cursor: Any) -> str | None:
        """Refuse every further use of the cursor, as its lease has ended. Returns why the connection cannot be kept, or
        None. Never blocks, except for a driver whose COMMIT fails while results are unread."""
        return None if invalidate(cursor, self.cursor_told) else "a cursor could not be invalidated"

    # -- for drivers

    def connect_args(self, deadline: float) -> dict[str, Any]:
        """The arguments of the option connect_args for one more connection. A callable is called each time, and blocks
        as long as it likes, as nothing can interrupt it.

        Raises ConfigError if it does not return a dict, and DatabaseUnavailable if it returns after the deadline, which
        is no fault of the server."""
        given = self.settings.connect_args
        if not callable(given):
            return dict(given)
        began = self.clock()
        found = given()
        if not isinstance(found, Mapping):
            raise ConfigError(
                f"connect_args: takes a callable that returns a dict, got {type(found).__name__} of it",
                entry="config-driver-options",
            )
        now = self.clock()
        if now >= deadline:
            took = f"{now - began:.1f} s"
            raise DatabaseUnavailable(
                f"the callable of connect_args took {took}: no time is left to connect", entry="slow-connect-args"
            )
        return dict(found)

    def run(self, conn: Any, statements: tuple[str, ...]) -> None:
        """Execute statements one by one. May block as long as they do."""
        for statement in statements:
            cursor = conn.cursor()
            try:
                cursor.execute(statement)
            finally:
                cursor.close()
