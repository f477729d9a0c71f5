"""The options replicas and retry together: a request is repeated where it has only the primary's connection.

One server takes both parts. The position of the cookie leads to the primary."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pymysql
import pytest

from scale.notes import TABLE, run, write
from support.mariadb import MariaDB
from support.wsgi import Call
from wsgidb import DatabaseMiddleware

pytestmark = pytest.mark.server
PRIMARY = "wsgidb-position-00000000=primary-1"
Ask = Callable[..., Call]


class Site:
    """An application that writes a note, and whose first attempt loses the connection of `key`."""

    def __init__(self, server: MariaDB, key: str) -> None:
        self.server, self.key = server, key
        self.attempts: list[tuple[int, bool]] = []

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        self.attempts.append((environ["wsgidb.attempt"], environ["db.primary"] is environ["db.conn"]))
        if environ["REQUEST_METHOD"] != "GET":
            write(environ["db.primary"], 1)
        if len(self.attempts) == 1:
            conn = environ[self.key]
            ((number,),) = run(conn, "SELECT CONNECTION_ID()")
            self.server.execute(f"KILL {number}")
            with suppress(pymysql.Error):
                run(conn, "SELECT 1")
            start_response("500 Internal Server Error", [])
            return [b"lost"]
        start_response("200 OK", [])
        return [b"done"]


@pytest.fixture
def notes(mariadb: MariaDB) -> Iterator[MariaDB]:
    mariadb.execute(TABLE)
    yield mariadb
    mariadb.execute("DROP TABLE notes")


def ask(notes: MariaDB, key: str, method: str, **environ: str) -> tuple[str, Site, Call]:
    site = Site(notes, key)
    made = DatabaseMiddleware(site, notes.url(), replicas=[notes.url()], transaction="request", retry=2)
    call = Call(made, "/", REQUEST_METHOD=method, **environ)
    call.read()
    made.database.close()
    return call.status[:3], site, call


def test_a_write(notes: MariaDB) -> None:
    """It is done once, and the position of the attempt that was committed is the response's."""
    status, site, call = ask(notes, "db.conn", "PUT")
    assert (status, site.attempts) == ("200", [(1, True), (2, True)])
    names = [name for name, _ in call.started[-1][1]]
    assert names.count("Set-Cookie") == names.count("Wsgidb-Position") == 1
    assert notes.query("SELECT COUNT(*) FROM notes") == [(1,)]


def test_a_read_from_the_primary(notes: MariaDB) -> None:
    """It is repeated as without replicas."""
    status, site, _ = ask(notes, "db.conn", "GET", HTTP_COOKIE=PRIMARY)
    assert (status, site.attempts) == ("200", [(1, False), (2, False)])


@pytest.mark.parametrize("environ", [{}, {"HTTP_COOKIE": PRIMARY}])
def test_beside_another_connection(notes: MariaDB, environ: dict[str, str]) -> None:
    """It is not repeated: what was done with the other one is not known to be undone."""
    status, site, _ = ask(notes, "db.primary", "GET", **environ)
    assert (status, site.attempts) == ("500", [(1, False)])


def test_a_read_from_a_replica(notes: MariaDB) -> None:
    """It is not repeated."""
    status, site, _ = ask(notes, "db.conn", "GET")
    assert (status, site.attempts) == ("500", [(1, False)])
