"""wsgi.input, read again."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from wsgidb.wsgi.replay import MOST, Replay

TEXT = b"first line\nsecond\n\nlast, without an end"


class Source(io.BytesIO):
    """A server's input, which tells what was asked of it."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.asked: list[Any] = []

    def read(self, *size: Any) -> bytes:
        self.asked.append(size)
        return super().read(*size)


READERS: dict[str, Callable[[Any], bytes]] = {
    "read()": lambda body: body.read(),
    "read(-1)": lambda body: body.read(-1),
    "read(None)": lambda body: body.read(None),
    "read(7)": lambda body: b"".join(iter(lambda: body.read(7), b"")),
    "read(1000)": lambda body: body.read(1000),
    "readline()": lambda body: b"".join(iter(body.readline, b"")),
    "readline(4)": lambda body: b"".join(iter(lambda: body.readline(4), b"")),
    "readlines()": lambda body: b"".join(body.readlines()),
    "readlines(9)": lambda body: b"".join(body.readlines(9)),
    "iteration": lambda body: b"".join(body),
}


@pytest.mark.parametrize("first", [*READERS, "nothing", "read(3)", "readline"])
@pytest.mark.parametrize("second", READERS)
def test_it_can_be_read_again(first: str, second: str) -> None:
    """R14: in whatever way it is read the first time and the second time, also if only some of it was."""
    body = Replay(io.BytesIO(TEXT))
    if first in READERS:
        assert READERS[first](body) == TEXT
    elif first != "nothing":
        body.read(3) if first == "read(3)" else body.readline()
    for _ in range(2):
        body.rewind()
        assert READERS[second](body) == TEXT
    assert body.complete


def test_lines_are_lines() -> None:
    """R14: also where one of them was read in part before."""
    body = Replay(io.BytesIO(TEXT))
    body.read(4)
    body.rewind()
    assert list(body) == list(io.BytesIO(TEXT))
    body.rewind()
    assert [body.readline(3), body.readline(100), body.readline()] == [b"fir", b"st line\n", b"second\n"]


def test_nothing_is_read_in_advance() -> None:
    """R14: what the application asks for is what the server is asked for, in the same words; a body that was read to
    its end by its length is not asked for more."""
    source = Source(TEXT)
    body = Replay(source)
    assert source.asked == []
    body.read(5)
    body.read(len(TEXT) - 5)
    assert source.asked == [(5,), (len(TEXT) - 5,)]
    body.rewind()
    assert body.read(len(TEXT)) == TEXT
    assert len(source.asked) == 2


def test_too_much() -> None:
    """R14: then it is passed on, nothing is kept, and it cannot be read again."""
    data = b"x" * (MOST + 10)
    body = Replay(io.BytesIO(data))
    assert body.read(MOST) == data[:MOST]
    assert body.complete
    assert body.read(1) == b"x"
    assert not body.complete
    assert body.read() == b"x" * 9
    assert body.read() == b""
