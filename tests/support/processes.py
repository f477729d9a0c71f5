"""Other processes, as the kernel shows them."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.waiting import until


def states(*pids: int) -> set[str]:
    """The states of all their threads, a letter each: S sleeps, T is stopped."""
    found = set()
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                found.add((task / "stat").read_text().rpartition(")")[2].split()[0])
    return found


def freeze(pid: int) -> None:
    """Stop it; the signal reaches its threads one by one, and the test must not meet one that still runs."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: states(pid) == {"T"}, what=f"process {pid} to freeze")


@contextmanager
def frozen(pid: int) -> Iterator[None]:
    """What is done meanwhile, it sees all at once."""
    try:
        freeze(pid)
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
