"""A server that says nonsense in reply to a statement: an error, and what is left of the reply is nobody's answer."""

from __future__ import annotations

from typing import Any

import MySQLdb
import pytest

from faults.conftest import READ_TIMEOUT
from strategies.kit import run, session_of
from support.mariadb import MariaDB
from support.packets import packet
from support.proxy import TCPProxy
from wsgidb import Database

pytestmark = pytest.mark.server

COLUMN = packet(2, b"\x03def\x00\x00\x00\x01x\x00\x0c\x3f\x00\x0b\x00\x00\x00\x08\x81\x00\x00\x00\x00")
END = b"\xfe\x00\x00\x02\x00"
WRONG = packet(1, b"\x01") + COLUMN + packet(3, END) + packet(4, b"\x0242") + packet(5, END)
"""A whole reply, of one row: 42."""
HALF = packet(1, b"\x00\x00\x00")

REPLIES = {
    "garbage": bytes(range(255, 0, -1)) * 20,
    "half a packet": WRONG[:10],
    "a packet of nothing": packet(1, b"") + WRONG,
    "half an OK": HALF + WRONG,
    "half an OK alone": HALF,
    "half an error": packet(1, b"\xff\x10") + WRONG,
    "half a column": packet(1, b"\x01") + packet(2, b"\x03def\x00") + packet(3, END) + WRONG,
    "half a row": packet(1, b"\x01") + COLUMN + packet(3, END) + packet(4, b"\x0942") + WRONG,
    "a file is wanted": packet(1, b"\xfb/etc/passwd") + WRONG,
}


@pytest.mark.parametrize("scheme", READ_TIMEOUT)
@pytest.mark.parametrize("words", REPLIES)
def test_reply(mariadb: MariaDB, proxy: TCPProxy, scheme: str, words: str, keeping: Any) -> None:
    """The statement's error; the handler that goes on gets another one, and never what is left of the reply; then the
    connection is discarded, and the next request is served."""
    url = proxy.url_from(mariadb.url()).replace("mysql+pymysql", scheme)
    with Database(url, strategy=keeping, read_timeout=READ_TIMEOUT[scheme]) as database:
        with database.connection() as conn:
            before = session_of(conn)
            done = proxy.answer("SELECT 'asked'", lambda: REPLIES[words])
            with pytest.raises(Exception):  # noqa: B017, PT011 - drivers parse with indices, struct and assert
                run(conn, "SELECT 'asked'")
            assert done.is_set()
            with pytest.raises(Exception):  # noqa: B017, PT011 - likewise, of a socket that is gone
                run(conn, "SELECT 'again'")
        assert sum(database.stats().discards.values()) == 1
        with database.connection() as conn:
            assert session_of(conn) != before
            assert run(conn, "SELECT 'next'") == [("next",)]


def test_malformed_packet(mariadb: MariaDB, proxy: TCPProxy, keeping: Any) -> None:
    """2027, by which mysqlclient calls it, means that the connection is lost."""
    url = proxy.url_from(mariadb.url()).replace("mysql+pymysql", "mysql+mysqldb")
    with Database(url, strategy=keeping) as database:
        with database.connection() as conn:
            proxy.answer("SELECT 'asked'", lambda: HALF)
            with pytest.raises(MySQLdb.OperationalError, match="2027"):
                run(conn, "SELECT 'asked'")
        assert database.stats().discards == {"connection lost": 1}
