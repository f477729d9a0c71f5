"""Statistics of a Database in one process: a frozen snapshot."""

from __future__ import annotations

from dataclasses import dataclass

from .durations import Durations


@dataclass(frozen=True)
class Holder:
    """A lease that has not ended yet."""

    request: str
    """The request's method and path; a lease of `Database.connection` is "outside of a request"."""
    thread: str
    """The name of the thread that acquired the connection."""
    seconds: float
    """How many seconds ago it was acquired."""
    statements: int
    """How many statements it has run."""
    executing: bool
    """Whether a statement is under way now."""


@dataclass(frozen=True)
class Waiter:
    """A caller that is waiting for a connection."""

    request: str
    """The request's method and path; a caller of `Database.connection` is "outside of a request"."""
    thread: str
    """The name of the waiting thread."""
    seconds: float
    """How many seconds it has been waiting."""


@dataclass(frozen=True)
class Notice:
    """Something that happened to the connections, of which the log tells, too."""

    seconds: float
    """How many seconds ago it happened."""
    kind: str
    """What it was: discard, outage, recovery, timeout, refusal or drain."""
    text: str
    """What the log says about it."""


@dataclass(frozen=True)
class Stats:
    """A snapshot of the connections of one Database in one process.

    Counts and seconds are sums since the Database was made. Seconds are connection-seconds: two connections that are
    open for one second are two."""

    name: str
    """The name of the pool; see the option `name`."""
    pid: int
    """The id of the process."""
    limit: int | None
    """How many connections there may be; None if the strategy has no limit."""
    open: int
    """How many connections are open now: idle and leased ones together."""
    idle: int
    """How many connections are open but not leased now."""
    leased: int
    """How many connections are leased now."""
    waiting: int
    """How many requests are waiting for a connection now."""
    connects: int
    """How many connections were opened."""
    connect_failures: int
    """How many attempts to open a connection failed or were interrupted."""
    acquires: int
    """How many leases began; those that have not ended yet are included."""
    waits: int
    """How many acquires had to queue for a connection, whether or not they got one."""
    seconds_waited: float
    """How many seconds these acquires spent in the queue together."""
    timeouts: int
    """How many acquires queued in vain until their deadline (PoolTimeout)."""
    refusals: int
    """How many acquires were refused because max_waiting requests were waiting already, or because the pool was
    overloaded (PoolOverloaded)."""
    checks_failed: int
    """How many idle connections the free check found dead."""
    pings: int
    """How many idle connections were pinged before they were leased."""
    pings_failed: int
    """How many of these pings failed."""
    lost: int
    """How many leases ended after the server had ended their transaction without being asked to, as in a deadlock."""
    rolled_back: int
    """How many leases ended with rows written but not committed, which were then rolled back."""
    retries: int
    """How many times a request was repeated (option `retry`)."""
    errors: int
    """How many statements of the handlers failed with an error of the driver."""
    discards: dict[str, int]
    """How many connections were closed because they were broken, or may have been, by reason."""
    retirements: dict[str, int]
    """How many good connections were closed because they were old or not needed, by reason."""
    seconds_open: float
    """How many seconds connections were open, from the start of connecting to the end of closing."""
    seconds_leased: float
    """How many seconds connections were leased."""
    seconds_executing: float
    """How many seconds connections were executing a statement; an unbuffered one counts until its first row."""
    statements: int
    """How many statements the handlers ran, commits and rollbacks included."""
    wait_times: Durations
    """How long it took to acquire a connection, opening and checking it included. Where that was immediate, it counts
    as 0."""
    queue_times: Durations
    """How long the acquires that had to queue for a connection did so, whether or not they got one."""
    use_times: Durations
    """How long the leases that have ended lasted."""
    create_times: Durations
    """How long it took to open a connection."""
    holders: tuple[Holder, ...]
    """The leases that have not ended, the oldest first."""
    waiters: tuple[Waiter, ...]
    """The callers that are waiting for a connection, in the order of their arrival."""
    events: tuple[Notice, ...]
    """The latest events, the newest last."""

    @property
    def dead_time(self) -> float:
        """The share of `seconds_open` in which a connection was not leased, from 0 to 1.

        Opening and closing a connection counts as not leased. `held_idle_time` is counted in addition to it."""
        return 1 - self.seconds_leased / self.seconds_open if self.seconds_open else 0.0

    @property
    def held_idle_time(self) -> float:
        """The share of `seconds_open` in which a connection was leased but executed nothing, from 0 to 1."""
        return (self.seconds_leased - self.seconds_executing) / self.seconds_open if self.seconds_open else 0.0
