"""The advice on the size of a pool, and how it is said."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from ..status.advice import percent
from ..status.view import seconds
from .erlang import Queue, queue, smallest
from .load import SHORT, Load, Measured
from .report import number


@dataclass(frozen=True)
class Targets:
    """How much waiting is accepted. None is no target."""

    wait_share: float | None
    """The share of requests that wait."""
    mean_wait: float | None
    """The seconds that a request waits on average."""


@dataclass(frozen=True)
class Advice:
    """What is recommended for a load."""

    load: Load
    processes: int
    targets: Targets
    each: Queue
    """The pool of each process, which has its part of the load."""
    common: Queue
    """The pool that would do for all processes together, if they could share one."""

    @property
    def total(self) -> int:
        """How many connections all processes may open together."""
        return self.processes * self.each.connections


def advise(load: Load, processes: int, targets: Targets) -> Advice | None:
    """The smallest pool for each process that keeps the targets; None if no pool does."""
    each = _smallest(load.part(processes).in_use, load.use, targets)
    common = _smallest(load.in_use, load.use, targets)
    return None if each is None or common is None else Advice(load, processes, targets, each, common)


def _smallest(in_use: float, use: float, targets: Targets) -> Queue | None:
    return smallest(in_use, use, targets.wait_share, targets.mean_wait)


def plain(advice: Advice, allowed: int | None, found: Measured | None) -> dict[str, Any]:
    """The advice as JSON has it."""
    return {
        "rate": advice.load.rate,
        "use": advice.load.use,
        "in_use": advice.load.in_use,
        "processes": advice.processes,
        "targets": asdict(advice.targets),
        "pool_size": advice.each.connections,
        "each": {"in_use": advice.load.part(advice.processes).in_use, **asdict(advice.each)},
        "total": advice.total,
        "common": asdict(advice.common),
        "max_connections": allowed,
        "measured": None if found is None else asdict(found),
    }


def sentences(advice: Advice, found: Measured | None) -> list[str]:
    """The advice for people, with what it is computed from."""
    load, each, processes = advice.load, advice.each, advice.processes
    source = "" if found is None else f", measured over {seconds(found.seconds)}"
    per_process = f" ({load.part(processes).in_use:.3g} in each process)" if processes > 1 else ""
    wanted = [
        *([] if advice.targets.wait_share is None else [f"at most {percent(advice.targets.wait_share)} wait"]),
        *([] if advice.targets.mean_wait is None else [f"at most {seconds(advice.targets.mean_wait)} on average"]),
    ]
    return [
        f"load: {load.rate:.4g} requests per second × {seconds(load.use)} of use{source}",
        f"  = {load.in_use:.3g} connections in use on average{per_process}",
        f"pool_size: {each.connections}"
        + (f" in each of {processes} processes, {advice.total} connections together" if processes > 1 else ""),
        f"  {_waiting(each)} (target: {', '.join(wanted)})",
    ]


def _waiting(pool: Queue) -> str:
    if pool.mean_wait is None:
        return "requests come faster than they can be served"
    return f"{percent(pool.wait_share)} of the requests wait for a connection, {seconds(pool.mean_wait)} on average"


def notes(advice: Advice, allowed: int | None) -> list[str]:
    """What else is to be known, in sentences. `allowed` is how many connections the server allows, if that is known."""
    found = []
    if advice.total > advice.common.connections:
        found.append(
            f"One queue for all processes would need {number(advice.common.connections, 'connection')} instead of "
            f"{advice.total}: a request that waits in one process cannot use what is idle in another. Fewer processes "
            "with more threads need fewer connections."
        )
    if allowed is not None and advice.total <= allowed:
        found.append(
            f"{advice.total} of the {allowed} connections that the server allows (max_connections): it fits, if others "
            f"need no more than {allowed - advice.total}."
        )
    if allowed is not None and advice.total > allowed:
        most = allowed // advice.processes
        then = "there are more processes than that"
        if most:
            part = advice.load.part(advice.processes)
            then = f"with pool_size={most}, {_waiting(queue(part.in_use, part.use, most))}"
        found.append(
            f"The server allows {allowed} connections only (max_connections), and {advice.total} are more: {then}."
        )
    return found


def notes_on_measurement(advice: Advice, found: Measured) -> list[str]:
    """How far the measurement can be trusted, and how the pool is now."""
    said = []
    if found.seconds < SHORT:
        said.append(f"The board has measured for {seconds(found.seconds)} only: ask again later, under the usual load.")
    if found.saturated:
        said.append(
            "The pool was nearly exhausted, so that there may be more requests than could be measured: raise "
            "pool_size, and measure again."
        )
    busiest = _smallest(found.busiest, advice.load.use, advice.targets)
    if busiest is not None and busiest.connections > advice.each.connections:
        said.append(
            f"The processes have unequal shares: the busiest had {found.busiest:.3g} connections in use on average, "
            f"for which pool_size={busiest.connections} would be right."
        )
    sizes = " or ".join("unlimited" if size is None else str(size) for size in found.sizes)
    said.append(f"Now it is {sizes}.")
    return said
