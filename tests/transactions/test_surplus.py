"""R9: a response that is longer than its Content-Length, of which only a little is held in memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.fakedb import FakeDB
from transactions.site import ROLLED_BACK, Environ, Site, Surprise, answering, stream
from wsgidb import Database
from wsgidb.wsgi.exchange import SURPLUS


@pytest.fixture
def site(fakedb: FakeDB) -> Iterator[Site]:
    with Database(creator=fakedb.connect, transaction="request") as database:
        yield Site(fakedb, database)


class Endless:
    """A body that never ends. It counts what it gave."""

    def __init__(self, *first: bytes) -> None:
        self.first, self.given, self.closed = list(first), 0, False

    def __iter__(self) -> Endless:
        return self

    def __next__(self) -> bytes:
        chunk = self.first.pop(0) if self.first else b"x" * 1024
        self.given += len(chunk)
        assert self.given < 10 * SURPLUS, "it is read into memory"
        return chunk

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("first", [(b"abcd",), (b"ab", b"cd"), (b"abcde",), (b"", b"abcd")])
def test_a_body_that_goes_on_past_its_length_is_rolled_back(site: Site, first: tuple[bytes, ...]) -> None:
    """R9: what comes after the announced length is held until the commit, so it has a bound."""
    body = Endless(*first)
    site.handler = answering(body, 4)
    with pytest.raises(AssertionError, match="longer than its Content-Length"):
        site.serve()

    assert "commit" not in site.seen
    assert site.seen[-1] == "rollback"
    assert b"".join(first)[:4].decode() not in "".join(site.seen), "the client does not get a complete response"
    assert body.closed
    assert site.is_whole


def test_a_body_that_goes_on_after_write_is_rolled_back(site: Site) -> None:
    """R9: the same holds if write() got the announced length."""
    body = Endless()
    site.handler = answering(body, 4, write=(b"abcd",))
    with pytest.raises(AssertionError, match="longer than its Content-Length"):
        site.serve()

    assert (site.seen, body.closed) == (ROLLED_BACK, True)
    assert site.is_whole


def test_write_that_goes_on_past_the_length_is_refused(site: Site) -> None:
    """R9: the handler that calls write() again and again gets the error."""

    def handler(environ: Environ, start_response: Any) -> Any:
        environ["db.conn"].cursor().execute("INSERT")
        write = start_response("200 OK", [("Content-Length", "4")])
        for _ in range(10 * SURPLUS // 1024):
            write(b"x" * 1024)
        raise Surprise("it was written into memory")

    site.handler = handler
    with pytest.raises(AssertionError, match="longer than its Content-Length"):
        site.serve()
    assert site.seen == ROLLED_BACK


@pytest.mark.parametrize("write", [(), (b"abcd",)])
def test_a_little_past_the_length_is_left_to_the_server(site: Site, write: tuple[bytes, ...]) -> None:
    """R9: up to the bound, the server gets it after the commit, and decides what becomes of it."""
    first = [] if write else [b"abcd"]
    site.handler = answering(stream(*first, b"x" * SURPLUS), 4, write=write)
    site.serve()
    assert site.seen[-2:] == ["abcd", "x" * SURPLUS]
    assert "commit" in site.seen
