"""R9 without servers: what is sent of a response before its transaction is committed, and what is held back."""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from support.fakedb import FakeDB
from support.wsgi import environment
from transactions.site import COMMITTED, LOST, ROLLED_BACK, Body, Environ, Site, Surprise, answering, stream
from wsgidb import Database


@pytest.fixture
def database(fakedb: FakeDB) -> Iterator[Database]:
    with Database(creator=fakedb.connect, transaction="request") as made:
        yield made


@pytest.fixture
def site(fakedb: FakeDB, database: Database) -> Site:
    return Site(fakedb, database)


@pytest.mark.parametrize(
    ("handler", "sent"),
    [
        (answering([b"ab", b"cd"]), ["200 OK", "ab", "cd"]),
        (answering((b"ab",)), ["200 OK", "ab"]),
        (answering([]), ["200 OK"]),
        (answering(stream()), ["200 OK"]),
        (answering(stream(b"", b"")), ["200 OK"]),
        (answering(stream(b"abcd"), 4), ["200 OK", "abcd"]),
        (answering(stream(b"", b"abcd", b""), 4), ["200 OK", "abcd"]),
        (answering([], 4, write=(b"abcd",)), ["200 OK", "abcd"]),
        (answering(stream(), 4, write=(b"abcd",)), ["200 OK", "abcd"]),
        (answering(stream(b"e"), 4, write=(b"abcd",)), ["200 OK", "abcd", "e"]),
        (answering(stream(b"e", b"f"), 4, write=(b"abcd",)), ["200 OK", "abcd", "e", "f"]),
        (answering([], 3, write=(b"abcd", b"e")), ["200 OK", "abcde"]),
        (answering([], 0, write=(b"",)), ["200 OK"]),
        (answering([], write=(b"", b"")), ["200 OK"]),
        (answering(stream(b"abcd"), 4, write=(b"",)), ["200 OK", "abcd"]),
    ],
)
class TestHeld:
    def test_nothing_is_sent_before_the_commit(self, site: Site, handler: Any, sent: list[str]) -> None:
        """R9: not even status and headers are sent, if the body is complete before its first byte must be sent."""
        site.handler = handler
        site.serve()

        assert site.seen == [*COMMITTED, *sent]
        assert [len(args) for args in site.started] == [2]
        assert site.is_whole

    def test_a_failed_commit_is_a_500_of_our_own(
        self, site: Site, handler: Any, sent: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        """R9: nothing of the success is sent. The log names the request and the cause; the response names neither."""
        site.handler = handler
        site.fakedb.fail("commit", LOST)
        site.serve(REQUEST_METHOD="PUT", path="/orders")

        assert site.seen == ["INSERT", "commit", "500 Internal Server Error", "Internal Server Error\n"]
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.getMessage() == f"PUT /orders: commit failed, answered with 500: {LOST!r}"
        assert record.exc_info is not None
        assert record.exc_info[1] is LOST
        stats = site.database.stats()
        assert (stats.open, stats.leased, stats.discards) == (0, 0, {"commit failed": 1})


@pytest.mark.parametrize(
    ("handler", "before", "after"),
    [
        (answering(stream(b"ab", b"cd"), 4), ["200 OK", "ab"], ["cd"]),
        (answering(stream(b"ab", b"", b"cd", b""), 4), ["200 OK", "ab", ""], ["cd"]),
        (answering(stream(b"ab", b"cd", b"e"), 4), ["200 OK", "ab"], ["cd", "e"]),
        (answering(stream(b"ab", b"cd", b"e", b"f"), 4), ["200 OK", "ab"], ["cd", "e", "f"]),
        (answering(stream(b"abcd", b"e"), 4), ["200 OK"], ["abcd", "e"]),
        (answering(stream(b"abcde"), 4), ["200 OK"], ["abcde"]),
        (answering(stream(b"abcde", b"f"), 4), ["200 OK"], ["abcde", "f"]),
        (answering([], 4, write=(b"ab", b"cd")), ["200 OK", "ab"], ["cd"]),
        (answering([], 4, write=(b"abc", b"d")), ["200 OK", "abc"], ["d"]),
        (answering([b"cd"], 4, write=(b"ab",)), ["200 OK", "ab"], ["cd"]),
        (answering(stream(b"cd"), 4, write=(b"ab",)), ["200 OK", "ab"], ["cd"]),
        (answering(stream(b"c", b"d"), 4, write=(b"ab",)), ["200 OK", "ab", "c"], ["d"]),
        (answering(stream(b"ab", b"cd")), ["200 OK", "ab", "cd"], []),
        (answering(stream(b"ab")), ["200 OK", "ab"], []),
        (answering(stream(b"ab"), 4), ["200 OK", "ab"], []),
        (answering([], write=(b"ab", b"cd")), ["200 OK", "ab", "cd"], []),
    ],
)
class TestStreamed:
    def test_what_completes_the_length_waits_for_the_commit(
        self, site: Site, handler: Any, before: list[str], after: list[str]
    ) -> None:
        """R9: so does everything after it. Without a length, or short of it, only the end of the body waits."""
        site.handler = handler
        site.serve()

        assert site.seen == ["INSERT", *before, "commit", "rollback", *after]
        assert site.is_whole

    def test_a_failed_commit_breaks_the_response_off(
        self, site: Site, handler: Any, before: list[str], after: list[str]
    ) -> None:
        """R9: the driver's own error is raised; no more bytes and no second headers are sent."""
        site.handler = handler
        site.fakedb.fail("commit", LOST)
        with pytest.raises(FakeDB.OperationalError) as caught:
            site.serve()

        assert caught.value is LOST
        assert site.seen == ["INSERT", *before, "commit"]
        assert site.database.stats().leased == 0


def test_a_chunk_is_sent_before_the_next_is_made(site: Site) -> None:
    """R9: this holds up to the chunk that completes the length, after which the end of the body is looked for."""
    made: list[bytes] = []

    def body() -> Iterator[bytes]:
        for chunk in (b"ab", b"c", b"d"):
            made.append(chunk)
            yield chunk

    site.handler = answering(body, 4)
    chunks = site.call()
    for number, chunk in enumerate((b"ab", b"c", b"d"), 1):
        assert next(chunks) == chunk
        assert len(made) == number
    assert site.seen[-2:] == ["commit", "rollback"]


def test_a_broken_off_body_is_at_its_end(site: Site) -> None:
    """R9: a server that goes on after the error gets nothing that was held back, and causes no second commit."""
    site.handler = answering(stream(b"ab", b"cd", b"e"), 4)
    site.fakedb.fail("commit", LOST)
    body = site.call()

    assert next(body) == b"ab"
    with pytest.raises(FakeDB.OperationalError):
        next(body)
    assert list(body) == []
    body.close()
    assert site.fakedb.count("commit") == 1


@pytest.mark.parametrize("chunks", [(b"ab", b"cd"), (b"abcd", b"e")])
@pytest.mark.parametrize("read", [0, 1])
@pytest.mark.parametrize("how", ["close", "del"])
def test_a_body_that_ends_early_is_rolled_back(site: Site, chunks: tuple[bytes, ...], read: int, how: str) -> None:
    """R9: close() or garbage collection before the end rolls back, unless the complete length was committed before."""
    site.handler = answering(stream(*chunks), 4)
    body = site.call()
    for _ in range(read):
        next(body)
    if how == "close":
        body.close()
        assert read or list(body) == [], "what was read ahead is not sent any more"
    del body
    gc.collect()

    filled = read == 1 and chunks[0] == b"abcd"
    assert site.seen == ["INSERT", *["200 OK"][:read], *["commit"][:filled], "rollback"]
    assert site.is_whole


@pytest.mark.parametrize("length", [None, 4])
def test_an_exception_in_the_body_rolls_back(site: Site, length: int | None) -> None:
    """R9: this holds after the last chunk too; the client has not got what completes the length."""
    site.handler = answering(stream(b"ab", b"cd", fails=True), length)
    with pytest.raises(Surprise):
        site.serve()

    assert site.seen == ["INSERT", "200 OK", "ab", *["cd"][: length is None], "rollback"]
    assert site.is_whole


@pytest.mark.parametrize(("length", "sent"), [(4, []), (None, ["200 OK", "abcd"])])
def test_an_exception_in_close_rolls_back(site: Site, length: int | None, sent: list[str]) -> None:
    """R9, R4: the body's close() belongs to the request, so its exception rolls back."""
    body = Body([b"abcd"])
    body.fails = True
    site.handler = answering(body, length)
    with pytest.raises(Surprise):
        site.serve()

    assert (site.seen, body.closed) == (["INSERT", *sent, "rollback"], 1)
    assert site.is_whole


def test_what_close_writes_is_committed(site: Site) -> None:
    """R9, R4: what the body's close() writes is committed, as Flask's teardown functions need."""
    body = Body([b"abcd"])

    def handler(environ: Environ, start_response: Any) -> Body:
        body.conn = environ["db.conn"]
        start_response("200 OK", [("Content-Length", "4")])
        return body

    site.handler = handler
    site.serve()
    assert site.seen == ["INSERT INTO log", "commit", "rollback", "200 OK", "abcd"]


@pytest.mark.parametrize("write", [(), (b"abcd",)])
def test_an_exception_after_start_response_sends_nothing(site: Site, write: tuple[bytes, ...]) -> None:
    """R9, R2: the server can still answer with an error of its own, even if write() got the whole body."""

    def fail() -> None:
        raise Surprise

    site.handler = answering(fail, 4, write=write)
    with pytest.raises(Surprise):
        site.serve()

    assert site.seen == ROLLED_BACK
    assert site.is_whole


def test_a_body_of_none_is_rolled_back(site: Site) -> None:
    """R9, R4: None is returned to the server, and is not a success."""
    site.handler = answering(None)

    assert site.call() is None
    assert site.seen == [*ROLLED_BACK, "200 OK"]


class TestExcInfo:
    @staticmethod
    def replacing(write: tuple[bytes, ...] = ()) -> Callable[[Environ, Any], Any]:
        def handler(environ: Environ, start_response: Any) -> Any:
            environ["db.conn"].cursor().execute("INSERT")
            put = start_response("200 OK", [("X-First", "1"), ("Content-Length", "4")])
            for data in write:
                put(data)
            try:
                raise Surprise("late")
            except Surprise:
                start_response("500 Late", [("Content-Length", "3")], sys.exc_info())
            return [b"err"]

        return handler

    @pytest.mark.parametrize("write", [(), (b"abcd",)])
    def test_a_held_head_is_replaced(self, site: Site, write: tuple[bytes, ...]) -> None:
        """R5, R9: the server gets only the second status and headers, in two arguments. What was held is dropped."""
        site.handler = self.replacing(write)
        site.serve()

        assert site.started == [("500 Late", [("Content-Length", "3")])]
        assert site.seen == [*ROLLED_BACK, "500 Late", "err"]

    def test_a_head_that_has_gone_is_the_servers_matter(self, site: Site) -> None:
        """R5: after the headers were sent, the server gets exc_info and raises it. The transaction is rolled back."""

        def start_response(*args: Any) -> Any:
            if len(args) == 3:
                raise args[2][1]
            return site.start_response(*args)

        site.handler = self.replacing((b"ab",))
        with pytest.raises(Surprise, match="late"):
            site.middleware(environment(), start_response)

        assert site.seen == ["INSERT", "200 OK", "ab", "rollback"]

    def test_a_second_start_response_without_it_is_an_error(self, site: Site) -> None:
        """R5: the middleware raises what a server would raise, because the server has seen neither call."""

        def handler(environ: Environ, start_response: Any) -> Any:
            start_response("200 OK", [])
            start_response("200 OK", [])
            return []

        site.handler = handler
        with pytest.raises(AssertionError, match="twice"):
            site.serve()
        assert site.started == []


@pytest.mark.parametrize(("left_out", "name"), [("PATH_INFO", "/app"), ("SCRIPT_NAME", "/orders")])
def test_a_path_that_is_empty_may_be_left_out(
    site: Site, left_out: str, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """R5: PEP 3333 allows it. The request is served, and the log shows what there is of its path."""
    environ = environment("/orders", SCRIPT_NAME="/app")
    del environ[left_out]
    site.handler = answering([b"x"])
    assert site.middleware(environ, site.start_response) == [b"x"]

    site.fakedb.fail("commit", LOST)
    site.middleware(environ, site.start_response)
    assert f"GET {name}: commit failed" in caplog.text


@pytest.mark.parametrize("length", [4, None])
def test_head_is_committed(site: Site, length: int | None) -> None:
    """R5, R9: the body for a HEAD request is empty, whatever length is announced; its end commits."""
    site.handler = answering(stream(), length)
    site.serve(REQUEST_METHOD="HEAD")
    assert site.seen == [*COMMITTED, "200 OK"]


def test_a_failed_commit_of_a_head_has_no_body(site: Site) -> None:
    """R5, R9: the middleware's own 500 has no body if the request is a HEAD."""
    site.handler = answering(stream(), 4)
    site.fakedb.fail("commit", LOST)
    site.serve(REQUEST_METHOD="HEAD")
    assert site.seen == ["INSERT", "commit", "500 Internal Server Error"]
