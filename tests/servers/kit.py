"""What the database's server says of the sessions of a WSGI server."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pymysql

from support.mariadb import MariaDB
from support.server_kinds import Kind
from support.servers import Server
from support.waiting import until

POOL_SIZE = 4
"""Of each process; fewer than the requests that some servers take at once."""


@dataclass
class Site:
    """A running server and its database."""

    server: Server
    mariadb: MariaDB

    @property
    def port(self) -> int:
        return self.server.port

    @property
    def kind(self) -> Kind:
        return self.server.kind

    @property
    def most(self) -> int:
        """Sessions, of the processes that serve and the one that has loaded the application for them."""
        return (self.kind.processes + self.kind.preloads) * POOL_SIZE

    def sessions(self) -> list[dict[str, Any]]:
        """The server's, as SHOW PROCESSLIST has them."""
        return sessions(self.mariadb)

    def settle(self) -> None:
        """Wait until no session has a statement or a transaction: every connection is back, or closed; and until the
        server has nothing left to do.

        Each statement of the application's reads the table, so a lease that was not released keeps a lock on it."""
        try:
            until(self._lock, 60)
        except AssertionError:
            said = self.server.said[-3000:]
            raise AssertionError(f"{self.server.name} is still at work: {self.sessions()}\n{said}") from None
        until(self._asleep, 60, "the server to be at rest")

    def _asleep(self) -> bool:
        try:
            return self.server.asleep
        except OSError:  # one of its processes has just ended
            return False

    def _lock(self) -> bool:
        try:
            self.mariadb.execute("LOCK TABLE note WRITE WAIT 5")
        except pymysql.OperationalError as error:
            if error.args[0] != 1205:  # it was locked all the time
                raise
            return False
        return True


def sessions(mariadb: MariaDB) -> list[dict[str, Any]]:
    """SHOW PROCESSLIST, without the tests' own."""
    names = ("Id", "User", "Host", "db", "Command", "Time", "State", "Info")
    every = (dict(zip(names, row, strict=False)) for row in mariadb.query("SHOW PROCESSLIST"))
    return [each for each in every if each["User"] == "guest"]
