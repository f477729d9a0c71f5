"""One process's row of the board, as bytes and back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any
from zlib import crc32

from ..pool.durations import BUCKETS, Durations
from ..pool.stats import Holder, Notice, Stats, Waiter
from .recent import Recent

FORMAT = b"wsgidb 1"


@dataclass(frozen=True)
class Row:
    """What one process tells of one Database."""

    stats: Stats
    """Its statistics."""
    recent: Recent
    """What is new in them."""
    age: float
    """How many seconds ago that was."""


def encode(stats: Stats, recent: Recent, now: float) -> bytes:
    """A row with a checksum, as a reader may come while it is written. `now` is when it is true."""
    told = {"at": now, "stats": plain(stats), "recent": plain(recent)}
    text = json.dumps(told, separators=(",", ":")).encode()
    return b"%s %d %08x\n%s" % (FORMAT, len(text), crc32(text), text)


def decode(data: bytes, now: float) -> Row:
    """The row that was encoded. Raises ValueError if it is incomplete, or another version's."""
    head, _, text = data.partition(b"\n")
    words = head.rsplit(b" ", 2)
    if len(words) != 3 or words[0] != FORMAT:
        raise ValueError("not a row of this version's")
    text = text[: int(words[1])]
    if crc32(text) != int(words[2], 16):
        raise ValueError("an incomplete row")
    told = json.loads(text)
    return Row(_stats(told["stats"]), _recent(told["recent"]), max(0.0, now - told["at"]))




def plain(value: Any) -> dict[str, Any]:
    """Statistics, or a part of them, as JSON has them."""
    found = asdict(value)
    for field in fields(value):
        inner = getattr(value, field.name)
        if isinstance(inner, Durations):
            counts = {str(index): count for index, count in enumerate(inner.counts) if count}
            found[field.name] = {"counts": counts, "seconds": inner.seconds}
    return found


def _durations(told: dict[str, Any]) -> Durations:
    counts = [0] * BUCKETS
    for index, count in told["counts"].items():
        counts[int(index)] = count
    return Durations(tuple(counts), told["seconds"])


def _stats(told: dict[str, Any]) -> Stats:
    made = dict(told)
    for name in ("wait_times", "queue_times", "use_times", "create_times"):
        made[name] = _durations(told[name])
    for name, kind in (("holders", Holder), ("waiters", Waiter), ("events", Notice)):
        made[name] = tuple(kind(**each) for each in told[name])
    return Stats(**made)


def _recent(told: dict[str, Any]) -> Recent:
    return Recent(told["seconds"], *(_durations(told[f"{what}_times"]) for what in ("wait", "use", "queue")))
