"""What tests see of other processes."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.processes import asleep
from support.waiting import until

PING_PONG = """
import os, threading

def play(reading, writing):
    while True:
        os.read(reading, 1)
        for _ in range(20_000):
            pass
        os.write(writing, b"x")

print("begins", flush=True)
(ping, pong), (back, forth) = os.pipe(), os.pipe()
threading.Thread(target=play, args=(ping, forth)).start()
os.write(pong, b"x")
play(back, pong)
"""
WAITING = """
import sys
print("begins", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize(("program", "sleeps"), [(PING_PONG, False), (WAITING, True)])
def test_threads_that_wake_each_other_are_not_asleep(program: str, sleeps: bool) -> None:
    """Each of the two sleeps half of the time, but never both of them."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", program], stdin=pipe, stdout=pipe) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"begins\n"
            until(lambda: asleep(process.pid) is sleeps, what="what is to be seen")
            found = {asleep(process.pid) for _ in range(500)}
        finally:
            process.kill()
    assert found == {sleeps}
