"""The example applications as their users run them: by serve.py, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import load_cities

EXAMPLES = Path(load_cities.__file__).parent


def environment(**settings: str) -> dict[str, str]:
    """The environment of the test, with these WSGIDB_ variables and no others."""
    return {name: value for name, value in os.environ.items() if not name.startswith("WSGIDB_")} | settings


@contextmanager
def served(log: Path, *arguments: str, **settings: str) -> Iterator[str]:
    """Run serve.py on a free port and yield the address that it prints. It must end with success when told to."""
    command = [sys.executable, str(EXAMPLES / "serve.py"), "--port", "0", *arguments]
    with (
        log.open("w") as errors,
        subprocess.Popen(
            command, env=environment(**settings), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        try:
            said = []
            for line in process.stdout:
                said.append(line)
                if line.startswith("Open "):
                    break
            else:
                pytest.fail(f"serve.py ended early: {said} {log.read_text()}")
            yield line.split()[1]
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=30) == 0, log.read_text()
        finally:
            process.kill()
