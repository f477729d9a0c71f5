"""An HTTP client in an open loop: requests are sent when they are due, whether or not earlier ones were answered.

Times are measured from the moment when a request was due, so that a client that is late cannot make a server look
better than it is (coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass

PATIENCE = 10.0
"""Seconds after which a client gives up."""
REQUEST = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    due: float
    """Seconds from the start of the load to when the request was to be sent."""
    seconds: float
    """Until the whole answer was there."""
    status: int
    """0 if there was none: the client gave up, or could not connect."""


def schedule(rate: float, seconds: float) -> list[float]:
    """The times at which requests are due: independent of each other, and the same in each run."""
    draw = random.Random(17)
    times = []
    at = 0.0
    while (at := at + draw.expovariate(rate)) < seconds:
        times.append(at)
    return times


def load(port: int, rate: float, seconds: float) -> list[Answer]:
    """Send so many requests a second, and wait for all answers."""
    return asyncio.run(_load(port, schedule(rate, seconds)))


async def _load(port: int, times: list[float]) -> list[Answer]:
    began = time.monotonic()
    tasks = []
    for due in times:
        await asyncio.sleep(max(0.0, began + due - time.monotonic()))
        tasks.append(asyncio.create_task(_ask(port, began, due)))
    return await asyncio.gather(*tasks)


async def _ask(port: int, began: float, due: float) -> Answer:
    try:
        status = await asyncio.wait_for(_status(port), max(0.0, began + due + PATIENCE - time.monotonic()))
    except (OSError, asyncio.TimeoutError, ValueError, IndexError):
        status = 0
    return Answer(due, time.monotonic() - began - due, status)


async def _status(port: int) -> int:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(REQUEST)
        reply = await reader.read()
        return int(reply.split(b" ", 2)[1])
    finally:
        writer.close()
