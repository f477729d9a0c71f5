"""What a Database has done so far: a frozen snapshot, and how it is computed."""

from __future__ import annotations

from dataclasses import dataclass

from .process import Process


@dataclass(frozen=True)
class Stats:
    """A snapshot of one process. Counts are since the Database was made; seconds are connection-seconds."""

    open: int
    """Connections that are open now,"""
    idle: int
    """of these at rest,"""
    leased: int
    """and of these in use."""
    waiting: int
    """Requests that wait for a connection now."""
    connects: int
    """Connections opened."""
    connect_failures: int
    acquires: int
    """Leases given, present ones included."""
    waits: int
    """Acquires that had to queue,"""
    seconds_waited: float
    """for how long together,"""
    timeouts: int
    """how many of them in vain until the deadline,"""
    refusals: int
    """and how many refused at once because of max_waiting."""
    checks_failed: int
    """Idle connections that the free check found dead."""
    pings: int
    pings_failed: int
    discards: dict[str, int]
    """Connections dropped as bad, by reason."""
    retirements: dict[str, int]
    """Connections closed because they were old or not needed, by reason."""
    seconds_open: float
    """Connection-seconds from the begin of connecting to the end of closing,"""
    seconds_leased: float
    """of these leased,"""
    seconds_executing: float
    """and of these in the middle of a statement (of an unbuffered one: until its first row)."""
    statements: int
    """Statements of the handlers, commits and rollbacks included."""

    @property
    def dead_time(self) -> float:
        """Share of the connection-seconds in which a connection was open but not leased, from 0 to 1.

        Setting a connection up and tearing it down counts as dead. `held_idle_time` comes on top of it."""
        return 1 - self.seconds_leased / self.seconds_open if self.seconds_open else 0.0

    @property
    def held_idle_time(self) -> float:
        """Share of the connection-seconds in which a request held a connection with no statement under way."""
        return (self.seconds_leased - self.seconds_executing) / self.seconds_open if self.seconds_open else 0.0


def snapshot(process: Process, now: float) -> Stats:
    """Never blocks on the server. Exact while nothing is being acquired or released, else off by what moves."""
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
