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
        tasks: list[Path] = []
        with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended, as may each of its threads
            tasks += Path(f"/proc/{pid}/task").iterdir()
        for task in tasks:
            with suppress(FileNotFoundError, ProcessLookupError):
                found.add((task / "stat").read_text().rpartition(")")[2].split()[0])
    return found


def asleep(*pids: int) -> bool:
    """Whether there is a moment at which all of their threads slept. They are looked at twice, as one that slept may
    have been woken by one that was looked at later: then it has run in between, which the kernel counts."""
    first = _switches(*pids)
    return all(state == "S" for state, _ in first.values()) and first == _switches(*pids)


def _switches(*pids: int) -> dict[str, tuple[str, str]]:
    """The state of each thread, and how often it has given up the CPU by itself."""
    found = {}
    for pid in pids:
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                fields = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines())
                found[task.name] = fields["State"].split()[0], fields["voluntary_ctxt_switches"]
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
