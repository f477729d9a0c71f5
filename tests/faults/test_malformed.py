"""A server that says nonsense: at login a failed connect, on an idle connection its end. Never a hang, never an error
of a kind that no handler of wsgidb's errors would expect."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from strategies.kit import run, session_of
from support.mariadb import MariaDB
from support.packets import error
from support.ports import bind
from support.proxy import TCPProxy
from wsgidb import Database, DatabaseUnavailable

DRIVERS = ("mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector", "postgresql+psycopg")

FIRST_WORDS = {
    "nothing, and hangs up": b"",
    "garbage": bytes(range(255, 0, -1)) * 20,
    "text": b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n",
    "half a packet": b"\x4a\x00\x00\x00\x0a5.5.5-10.11",
    "a packet of nothing": b"\x00\x00\x00\x00",
    "an old protocol": b"\x05\x00\x00\x00\x09old\x00",
    "a huge packet's head": b"\xff\xff\xff\x00",
    "too many connections": b"\x17\x00\x00\x00\xff\x10\x04Too many connections",
}


@contextmanager
def server_that_says(words: bytes) -> Iterator[int]:
    """The port of a server that greets everybody so, and hangs up."""
    with bind() as listener:
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listener.accept()
                    with client, contextlib.suppress(OSError):
                        client.sendall(words)
                        client.shutdown(socket.SHUT_WR)
                        client.settimeout(10)
                        while client.recv(4096):
                            pass

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(20)


@pytest.mark.parametrize("scheme", DRIVERS)
@pytest.mark.parametrize("words", FIRST_WORDS)
def test_greeting(scheme: str, words: str) -> None:
    """Whatever it greets with, a request is told that there is no database, and nothing stays open."""
    with (
        server_that_says(FIRST_WORDS[words]) as port,
        Database(f"{scheme}://app:secret@127.0.0.1:{port}/test", acquire_timeout=10, connect_timeout=5) as database,
    ):
        with pytest.raises(DatabaseUnavailable) as caught, database.connection():
            pass
        assert "secret" not in str(caught.value)
        stats = database.stats()
        assert (stats.open, stats.connects, stats.connect_failures) == (0, 0, 1)


LAST_WORDS = {
    "killed": (1927, "70100", "Connection was killed"),
    "idle for too long": (4031, "HY000", "The client was disconnected by the server because of inactivity."),
    "shutting down": (1053, "08S01", "Server shutdown in progress"),
}


@pytest.mark.server
@pytest.mark.parametrize("strategy", ["thread-local", "pooled"])
@pytest.mark.parametrize("scheme", DRIVERS[:3])
@pytest.mark.parametrize("words", LAST_WORDS)
def test_error_ahead_of_time(mariadb: MariaDB, proxy: TCPProxy, scheme: str, words: str, strategy: Any) -> None:
    """A server says on an idle connection why it hangs up: the next request never sees that, without a ping."""
    url = proxy.url_from(mariadb.url()).replace("mysql+pymysql", scheme)
    with Database(url, strategy=strategy, ping_after=None) as database:
        with database.connection() as conn:
            before = session_of(conn)
        packet = bytearray(error(*LAST_WORDS[words]))
        packet[3] = 0  # the first of its own exchange
        assert proxy.say(bytes(packet)) == 1
        with database.connection() as conn:
            assert session_of(conn) != before
            assert run(conn, "SELECT 1") == [(1,)]
        assert database.stats().discards == {"check failed": 1}
