"""Statistics of a Database: a frozen snapshot, and how it is computed."""

from __future__ import annotations

from dataclasses import dataclass

from .process import Process


@dataclass(frozen=True)
class Stats:
    """A snapshot of the connections of one Database in one process.

    Counts and seconds are sums since the Database was made. Seconds are connection-seconds: two connections that are
    open for one second are two."""

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
    """How many acquires were refused at once because max_waiting requests were waiting already (PoolOverloaded)."""
    checks_failed: int
    """How many idle connections the free check found dead."""
    pings: int
    """How many idle connections were pinged before they were leased."""
    pings_failed: int
    """How many of these pings failed."""
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

    @property
    def dead_time(self) -> float:
        """The share of `seconds_open` in which a connection was not leased, from 0 to 1.

        Opening and closing a connection counts as not leased. `held_idle_time` is counted in addition to it."""
        return 1 - self.seconds_leased / self.seconds_open if self.seconds_open else 0.0

    @property
    def held_idle_time(self) -> float:
        """The share of `seconds_open` in which a connection was leased but executed nothing, from 0 to 1."""
        return (self.seconds_leased - self.seconds_executing) / self.seconds_open if self.seconds_open else 0.0


def snapshot(process: Process, now: float) -> Stats:
    """The statistics of a process at the time `now`. Never blocks on the server.

    The numbers are exact while nothing is acquired or released at the same moment. Otherwise they may miss what just
    happens."""
    with process.lock:
        totals = process.totals
        open_now = list(process.open)
        slots = [(slot.born, slot.busy, slot.uses, slot.since) for slot in open_now]
        activities = [slot.activity for slot in open_now]
        leases = [since for _, _, _, since in slots if since is not None]
        return Stats(
            open=len(slots),
            idle=len(slots) - len(leases),
            leased=len(leases),
            waiting=process.store.waiting,
            connects=totals.connects,
            connect_failures=totals.connect_failures,
            acquires=totals.leases + sum(uses for _, _, uses, _ in slots) + len(leases),
            waits=totals.waits,
            seconds_waited=totals.seconds_waited,
            timeouts=totals.timeouts,
            refusals=totals.refusals,
            checks_failed=totals.checks_failed,
            pings=totals.pings,
            pings_failed=totals.pings_failed,
            discards=dict(totals.discards),
            retirements=dict(totals.retirements),
            seconds_open=totals.seconds_open + sum(now - born for born, _, _, _ in slots),
            seconds_leased=totals.seconds_leased
            + sum(busy for _, busy, _, _ in slots)
            + sum(now - since for since in leases),
            seconds_executing=totals.seconds_executing + sum(seen.seconds for seen in activities),
            statements=totals.statements + sum(seen.statements for seen in activities),
        )
