"""How a snapshot of the statistics is computed."""

from __future__ import annotations

import threading

from ..strategies import named
from .durations import DurationCounter
from .engine import Engine
from .stats import Holder, Notice, Stats, Waiter


def snapshot(engine: Engine, now: float) -> Stats:
    """The statistics of this process at the time `now`. Never blocks on the server.

    The numbers are exact while nothing is acquired or released at the same moment. Otherwise they may miss what just
    happens."""
    threads = {thread.ident: thread.name for thread in threading.enumerate()}
    process = engine.process
    with process.lock:
        totals = process.totals
        slots = list(process.open)
        read = [(slot.born, slot.busy, slot.uses, slot.since, slot.activity) for slot in slots]
        leases = [(since, slot) for slot, (_, _, _, since, _) in zip(slots, read, strict=True) if since is not None]
        leases.sort(key=lambda lease: lease[0])
        busy = sum(each[1] for each in read)
        acquires = totals.leases + sum(each[2] for each in read) + len(leases)
        queue_times = process.queued.snapshot()
        waits, uses = DurationCounter(), DurationCounter()
        waits.merge(process.waits.counts, process.waits.seconds)
        if engine.timed:  # those that were not counted got a connection at once
            waits.counts[0] += max(0, acquires - sum(waits.counts))
        uses.merge(process.uses.counts, process.uses.seconds)
        for slot, (_, seconds, _, _, _) in zip(slots, read, strict=True):
            if slot.durations is not None:
                uses.merge(slot.durations, seconds)
        waiting = list(process.waiting)
        return Stats(
            name=engine.name,
            pid=process.pid,
            limit=engine.settings.most_connections,
            open=len(slots),
            idle=len(slots) - len(leases),
            leased=len(leases),
            waiting=process.store.waiting,
            connects=totals.connects,
            connect_failures=totals.connect_failures,
            acquires=acquires,
            waits=queue_times.count,
            seconds_waited=queue_times.seconds,
            timeouts=totals.timeouts,
            refusals=totals.refusals,
            checks_failed=totals.checks_failed,
            pings=totals.pings,
            pings_failed=totals.pings_failed,
            lost=totals.lost,
            rolled_back=totals.rolled_back,
            retries=totals.retries,
            errors=totals.errors + sum(seen.errors for *_, seen in read),
            discards=dict(totals.discards),
            retirements=dict(totals.retirements),
            seconds_open=totals.seconds_open + sum(now - born for born, *_ in read),
            seconds_leased=totals.seconds_leased + busy + sum(now - since for since, _ in leases),
            seconds_executing=totals.seconds_executing + sum(seen.seconds for *_, seen in read),
            statements=totals.statements + sum(seen.statements for *_, seen in read),
            wait_times=waits.snapshot(),
            queue_times=queue_times,
            use_times=uses.snapshot(),
            create_times=process.creates.snapshot(),
            holders=tuple(
                Holder(
                    named(slot.request),
                    threads.get(slot.thread, str(slot.thread)),
                    now - since,
                    slot.activity.statements - slot.seen,
                    slot.activity.busy,
                )
                for since, slot in leases
            ),
            waiters=tuple(
                Waiter(named(each.request), threads.get(each.thread, str(each.thread)), now - each.since)
                for each in waiting
            ),
            events=tuple(Notice(now - event.at, event.kind, event.text) for event in list(process.events)),
        )
