"""What the tests call a complete response: a mistake here would make broken-off ones pass for whole."""

from __future__ import annotations

import socket
import threading

import pytest

from support.rawhttp import Reply, request

OK = b"HTTP/1.1 200 OK\r\n"
SIZED = OK + b"Content-Length: 4\r\n\r\n"
CHUNKED = OK + b"transfer-encoding: Chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        (b"", (None, b"", False)),
        (OK, (None, b"", False)),
        (SIZED, (200, b"", False)),
        (SIZED + b"abc", (200, b"abc", False)),
        (SIZED + b"abcd", (200, b"abcd", True)),
        (SIZED + b"abcdHTTP/1.1 500", (200, b"abcd", True)),
        (OK + b"\r\nabc", (200, b"abc", True)),
        (CHUNKED, (200, b"", False)),
        (CHUNKED + b"2\r\nab\r\n", (200, b"ab", False)),
        (CHUNKED + b"2\r\nab\r\n2\r\nc", (200, b"ab", False)),
        (CHUNKED + b"2\r\nab\r\n0\r\n", (200, b"ab", False)),
        (CHUNKED + b"2\r\nab\r\n0\r\n\r\n", (200, b"ab", True)),
        (CHUNKED + b"a\r\n0123456789\r\n2\r\nab\r\n0\r\n\r\n", (200, b"0123456789ab", True)),
        (CHUNKED + b"2\r\nab\r\n0\r\n\r\nHTTP/1.1 500", (200, b"ab", True)),
        (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"", True)),
    ],
)
def test_complete_is_what_its_framing_says(raw: bytes, seen: tuple[int | None, bytes, bool]) -> None:
    reply = Reply(raw)
    assert (reply.status, reply.body, reply.complete) == seen


@pytest.mark.parametrize("raw", [SIZED + b"abcd", CHUNKED + b"2\r\nab\r\n0\r\n\r\n", b"HTTP/1.1 304 Same\r\n\r\n"])
def test_what_comes_behind_the_end_is_told(raw: bytes) -> None:
    assert (Reply(raw).excess, Reply(raw + b"more").excess) == (b"", b"more")


def test_a_head_alone_is_complete() -> None:
    assert Reply(SIZED, head_only=True).complete


def test_two_headers_of_a_name_are_noticed() -> None:
    with pytest.raises(AssertionError, match="2 headers"):
        Reply(OK + b"A: 1\r\na: 2\r\n\r\n").header("A")


def test_everything_up_to_the_end_is_read() -> None:
    """Also what comes behind a response that is complete by its length."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                client.recv(1000)
                client.sendall(SIZED + b"abcd")
                client.sendall(b"more")

        thread = threading.Thread(target=serve)
        thread.start()
        assert request(listener.getsockname()[1], "/").raw == SIZED + b"abcdmore"
        thread.join(10)
