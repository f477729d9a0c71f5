"""The figures of the status page, as JSON has them and as the page shows them."""

from __future__ import annotations

from typing import Any

from ..observe.sources import Pool
from ..pool.durations import Durations
from .advice import advice, held_idle, verdict

SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def view(pool: Pool, allowed: int | None) -> dict[str, Any]:
    """Everything about one pool. Seconds are numbers, shares are between 0 and 1."""
    now, ever, recent = pool.now, pool.ever, pool.recent
    state, sentence = verdict(pool)
    return {
        "name": pool.name,
        "state": state,
        "verdict": sentence,
        "advice": advice(pool, allowed),
        "limit": now.limit,
        "leased": now.leased,
        "idle": now.idle,
        "waiting": now.waiting,
        "max_connections": allowed,
        "recent_seconds": recent.seconds,
        "wait": _quantiles(recent.wait_times),
        "use": _quantiles(recent.use_times),
        "create": _quantiles(ever.create_times),
        "dead_time": ever.dead_time,
        "held_idle": held_idle(pool),
        "totals": {
            "leases": ever.acquires,
            "statements": ever.statements,
            "failed statements": ever.errors,
            "connections opened": ever.connects,
            "failures to connect": ever.connect_failures,
            "time-outs of waiting": ever.timeouts,
            "refusals": ever.refusals,
            "lost transactions": ever.lost,
            "uncommitted writes": ever.rolled_back,
            "repeated requests": ever.retries,
        },
        "discards": ever.discards,
        "retirements": ever.retirements,
        "holders": [{"pid": row.stats.pid, **vars(holder)} for row in pool.rows for holder in row.stats.holders],
        "waiters": [{"pid": row.stats.pid, **vars(waiter)} for row in pool.rows for waiter in row.stats.waiters],
        "events": [
            {"pid": row.stats.pid, **vars(event), "seconds": event.seconds + row.age}
            for row in pool.rows
            for event in row.stats.events
        ],
        "processes": [
            {
                "pid": row.stats.pid,
                "limit": row.stats.limit,
                "leased": row.stats.leased,
                "idle": row.stats.idle,
                "waiting": row.stats.waiting,
                "leases": row.stats.acquires,
                "statements": row.stats.statements,
                "age": row.age,
            }
            for row in pool.rows
        ],
    }


def _quantiles(durations: Durations) -> dict[str, Any]:
    return {"count": durations.count, **{name: durations.quantile(share) for name, share in SHARES.items()}}


def seconds(value: float | None) -> str:
    """A duration as a reader wants it: 0.2 ms, 35 ms, 1.5 s, 12 min."""
    if value is None:
        return "–"
    if value < 0.01:
        return f"{1000.0 * value:.2g} ms"
    if value < 1:
        return f"{1000.0 * value:.0f} ms"
    if value < 120:
        return f"{value:.1f} s" if value < 10 else f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 120 * 60 else f"{value / 60 / 60:.0f} h"
