"""What the figures of a pool mean, in sentences."""

from __future__ import annotations

from ..observe.sources import Pool

SHORT = 0.005
"""Seconds that a request may wait for a connection without being worth a word."""

HELD = 0.5
"""The share of its lease in which a connection executes nothing, above which that is worth a word."""


def percent(share: float) -> str:
    """A share as a reader wants it: 0.3 %, 12 %."""
    return f"{100 * share:.1f} %" if 0 < share < 0.095 else f"{100 * share:.0f} %"


def outage(pool: Pool) -> str | None:
    """The latest failure to connect, if no process has connected since."""
    for event in reversed(pool.now.events):
        if event.kind == "recovery":
            return None
        if event.kind == "outage":
            return event.text
    return None


def waited(pool: Pool) -> float:
    """The share of the requests of the latest minutes that waited noticeably for a connection of another request. Only
    queueing counts: a request that gets a connection at once may have to open or to ping it, however long that takes.
    """
    queued = pool.recent.queue_times
    late = queued.count - queued.at_most(SHORT)
    return late / max(late, pool.recent.wait_times.count) if late else 0.0  # those in vain are not in wait_times


def held_idle(pool: Pool) -> float:
    """The share of the time of leases in which the connection executed nothing."""
    ever = pool.ever
    return 1 - ever.seconds_executing / ever.seconds_leased if ever.seconds_leased else 0.0


def verdict(pool: Pool) -> tuple[str, str]:
    """How the pool is doing: good, busy or bad, and a sentence."""
    now, failure = pool.now, outage(pool)
    if failure is not None:
        return "bad", f"The database cannot be reached: {failure}."
    if any(event.kind in ("timeout", "refusal") and event.seconds < 60 for event in now.events):
        return "bad", "The pool is too small, or connections are held for too long: requests were refused just now."
    if now.waiting:
        return "busy", f"All connections are in use, and {_requests(now.waiting)} waiting for one."
    share = waited(pool)
    if share > 0.01:
        return "busy", f"{percent(share)} of the latest requests waited for a connection."
    if now.limit is not None and now.leased >= now.limit:
        return "busy", "All connections are in use, but nobody is waiting."
    return "good", "The pool is large enough: no request has to wait for a connection."


def _requests(count: int) -> str:
    return "1 request is" if count == 1 else f"{count} requests are"


def advice(pool: Pool, allowed: int | None) -> list[str]:
    """What should be changed, in sentences. `allowed` is how many connections the server allows, if that is known."""
    now, ever, found = pool.now, pool.ever, []
    sizes = sorted({row.stats.limit for row in pool.rows if row.stats.limit is not None})
    if allowed is not None and now.limit is not None and now.limit > allowed:
        processes = "1 process" if len(pool.rows) == 1 else f"{len(pool.rows)} processes"
        each = " or ".join(map(str, sizes))
        found.append(
            f"{processes} × {each} connections = {now.limit}, and the server allows {allowed} (max_connections): "
            "lower pool_size, or let the server allow more."
        )
    held, waits = held_idle(pool), waited(pool)
    if held > HELD and ever.seconds_leased > 1:
        found.append(
            f"Connections are held but idle for {percent(held)} of the time in which requests have them. A request can "
            "give its connection back early with close(), or take it late with acquire=first-use."
        )
    elif waits > 0.01 and now.limit is not None:
        found.append(
            f"{percent(waits)} of the latest requests waited for a connection, and those in use are executing "
            f"statements for {percent(1 - held)} of the time: make the statements faster, or raise pool_size."
        )
    if ever.rolled_back:
        found.append(
            f"{ever.rolled_back} request(s) ended with uncommitted writes, which were rolled back: commit them, or set "
            "transaction=request. The log names the requests."
        )
    if ever.lost:
        found.append(f"The server ended the transaction of {ever.lost} request(s) by itself, as in a deadlock.")
    return found
