"""The process that `instructions.py` counts in: it serves the page of `city.py` in one thread.

    counted.py serve REQUESTS     serves that many
    counted.py count              counts what one costs, and prints that as JSON
"""

from __future__ import annotations

import gc
import json
import os
import sys
import threading
import tracemalloc
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import FrameType
from typing import Any

import city

WARM_UP = 100
"""Requests before anything is counted. CPython specializes what runs often, and wsgidb opens its connection."""
CONNECTIONS = 16
"""As many as the pool may have."""
ENVIRON = {
    "REQUEST_METHOD": "GET", "SCRIPT_NAME": "", "PATH_INFO": "/", "QUERY_STRING": "city=london",
    "SERVER_NAME": "localhost", "SERVER_PORT": "80", "HTTP_HOST": "localhost", "wsgi.url_scheme": "http",
}  # fmt: skip


def start_response(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
    """The start_response of a server that sends nothing."""


def request() -> None:
    body = city.application(ENVIRON.copy(), start_response)
    assert b"".join(body) == b'City "london" is #17'


def calls() -> tuple[int, int]:
    """How many Python functions and how many C functions are called for one request."""
    found: Counter[str] = Counter()

    def note(frame: FrameType, event: str, _: Any) -> None:
        found[event] += 1

    sys.setprofile(note)
    try:
        request()
    finally:
        sys.setprofile(None)
    return found["call"], found["c_call"] - 1  # the last one is that of setprofile


def functions() -> dict[str, list[int]]:
    """By function, how often one request calls it, and how many bytecodes are executed in it."""
    found: dict[str, list[int]] = {}

    def note(frame: FrameType, event: str, _: Any) -> Any:
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        code = frame.f_code
        counts = found.setdefault(f"{_shown(code.co_filename)}: {getattr(code, 'co_qualname', code.co_name)}", [0, 0])
        if event == "call":
            counts[0] += 1
        elif event == "opcode":
            counts[1] += 1
        return note

    sys.settrace(note)
    try:
        request()
    finally:
        sys.settrace(None)
    return found


def _shown(path: str) -> str:
    """The end of a path, from the package on."""
    parts = Path(path).parts
    for name in ("wsgidb", "pymysql", "MySQLdb"):
        if name in parts[:-1]:
            return "/".join(parts[len(parts) - 1 - parts[::-1].index(name) :])
    return parts[-1]


def peak() -> int:
    """How many bytes Python's allocators have in use for one request, at most."""
    tracemalloc.start()
    try:
        request()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        request()
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def idle() -> int:
    """How many bytes are in use for each idle connection, the driver's own connection included. So many threads serve
    a request at the same time, then none; and the same threads without any request cancel out."""
    with ExitStack() as stack:
        over = threading.Event()

        def started(work: Callable[[Any], object], count: int) -> int:
            together, ready = threading.Barrier(count), threading.Barrier(count + 1)

            def head(*_: Any) -> None:
                together.wait(60)

            def run() -> None:
                work(head)
                ready.wait(60)
                over.wait()

            threads = [threading.Thread(target=run) for _ in range(count)]
            gc.collect()
            tracemalloc.start()
            for thread in threads:
                stack.callback(thread.join)
                thread.start()
            stack.callback(over.set)
            ready.wait(60)
            gc.collect()
            found = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
            return found

        def serve(head: Any) -> None:
            city.application(ENVIRON.copy(), head)

        return (started(serve, CONNECTIONS) - started(lambda head: head(), CONNECTIONS)) // CONNECTIONS


def main() -> None:
    what, *rest = sys.argv[1:]
    if what == "serve":
        for _ in range(int(*rest)):
            request()
    else:
        for _ in range(WARM_UP):
            request()
        python, c = calls()
        found = functions()
        listed = [[name, *counts] for name, counts in sorted(found.items(), key=lambda each: -each[1][1])]
        codes = sum(counts[1] for counts in found.values())
        counted = {"Python calls": python, "C calls": c, "bytecodes": codes, "peak": peak(), "idle": idle()}
        print(json.dumps({**counted, "functions": listed}), flush=True)
    os._exit(0)  # what ends with the process is not counted


if __name__ == "__main__":
    main()
