"""A pool's figures as plain text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..status.advice import percent
from ..status.view import seconds
from ..strategies.base import printable

EVENTS = 10
"""How many of the latest events are shown."""

STALE = 2.0
"""The age in seconds from which on it is said beside what a process has told."""

Told = dict[str, Any]


def report(told: Told) -> str:
    """The text for what the status page shows of one pool (`view`). It has no control characters, which a
    terminal would obey."""
    return "\n".join(printable(line) for line in _lines(told))


def number(count: int, one: str, more: str = "") -> str:
    """The count of something, such as 1 request, or 2 requests."""
    return f"{count} {one if count == 1 else more or f'{one}s'}"


def _lines(told: Told) -> Iterator[str]:
    ages = {each["pid"]: each["age"] for each in told["processes"]}
    holders = sorted(told["holders"], key=lambda each: -each["seconds"])
    waiters = sorted(told["waiters"], key=lambda each: -each["seconds"])
    events = sorted(told["events"], key=lambda each: each["seconds"])
    processes = number(len(told["processes"]), "process", "processes")
    yield f"{told['name']}: {_used(told)}, {number(told['waiting'], 'request')} waiting, {processes}"
    yield told["verdict"]
    yield from _times(told)
    yield from _totals(told)
    yield from _section("processes", [_process(each) for each in told["processes"]])
    yield from _section("connections are held by", [_holder(each, ages) for each in holders])
    yield from _section("waiting", [_waiter(each, ages) for each in waiters])
    yield from _section("latest events", [_event(each) for each in events[:EVENTS]])
    yield from _section("advice", told["advice"])


def _used(told: Told) -> str:
    limit = "" if told["limit"] is None else f" of {told['limit']}"
    return f"{told['leased']}{limit} connections in use, {told['leased'] + told['idle']} open"


def _times(told: Told) -> Iterator[str]:
    yield ""
    yield _row(f"latest {seconds(told['recent_seconds'])}", "p50", "p95", "p99", "times")
    for label, name in (("waiting", "wait"), ("use", "use")):
        times = told[name]
        yield _row(f"  {label}", *(seconds(times[share]) for share in ("p50", "p95", "p99")), times["count"])


def _row(label: str, *cells: object) -> str:
    return f"{label:<18}" + "".join(f"{cell!s:>10}" for cell in cells)


def _totals(told: Told) -> Iterator[str]:
    facts = {
        "dead time": f"{percent(told['dead_time'])} of the time of open connections",
        "held but idle": f"{percent(told['held_idle'])} of the time in which requests have them",
        **told["totals"],
        "discards": _by_reason(told["discards"]),
        "retirements": _by_reason(told["retirements"]),
    }
    yield from _section("since the beginning", [f"{label:<20}  {value}" for label, value in facts.items()])


def _by_reason(counts: dict[str, int]) -> str:
    rows = sorted(counts.items(), key=lambda row: -row[1])
    return ", ".join(f"{reason}: {count}" for reason, count in rows) or "none"


def _process(told: Told) -> str:
    return f"pid {told['pid']:<8} {_used(told)}, {told['waiting']} waiting, written {seconds(told['age'])} ago"


def _holder(told: Told, ages: dict[int, float]) -> str:
    doing = "executing" if told["executing"] else "idle"
    return f"{_who(told)}, {number(told['statements'], 'statement')}, {doing}{_then(told, ages)}"


def _waiter(told: Told, ages: dict[int, float]) -> str:
    return f"{_who(told)}{_then(told, ages)}"


def _who(told: Told) -> str:
    return f"{seconds(told['seconds']):>7}  pid {told['pid']}  {told['request']}, thread {told['thread']}"


def _then(told: Told, ages: dict[int, float]) -> str:
    age = ages[told["pid"]]
    return f" ({seconds(age)} ago)" if age >= STALE else ""


def _event(told: Told) -> str:
    return f"{seconds(told['seconds']):>7} ago  pid {told['pid']}  {told['kind']}: {told['text']}"


def _section(title: str, lines: list[str]) -> Iterator[str]:
    if lines:
        yield ""
        yield title
        yield from (f"  {line}" for line in lines)
