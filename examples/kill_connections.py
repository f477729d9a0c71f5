"""How the demo kills its own idle connections: by the server, as an administrator or a time limit there would do it."""

from __future__ import annotations

import sqlite3
import time
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from typing import Any

from wsgidb import Database
from wsgidb.errors import DatabaseUnavailable

PATIENCE = 5.0
"""Seconds after which a killed session that the server still lists is no longer waited for."""


@dataclass(frozen=True)
class Sessions:
    """The SQL about the sessions of a server."""

    own: str
    listed: str
    idle: str
    kill: str


MYSQL = Sessions(
    own="SELECT CONNECTION_ID()",
    listed="SELECT id FROM information_schema.processlist WHERE id IN ({})",
    idle="command = 'Sleep'",
    kill="KILL {}",
)
POSTGRESQL = Sessions(
    own="SELECT pg_backend_pid()",
    listed="SELECT pid FROM pg_stat_activity WHERE pid IN ({})",
    idle="state = 'idle'",
    kill="SELECT pg_terminate_backend({})",
)


class Closed(Exception):
    """Ends leases whose connections were closed, as there is nothing left to commit."""


def kill_idle(database: Database) -> int:
    """Kill the connections of `database` that are idle now, and return how many there were.

    With SQLite, where no server could do it, it closes them itself while it has them leased. Blocks until the server
    has ended the sessions. Raises DatabaseUnavailable if the server cannot be reached, and the driver's errors."""
    try:
        with ExitStack() as leases:
            connections = lease_idle(database, leases)
            if connections and isinstance(connections[0], sqlite3.Connection):
                for connection in connections:
                    connection.driver_connection.close()
                raise Closed
            sessions = POSTGRESQL if database.settings.address.startswith("postgresql") else MYSQL
            numbers = {int(rows(connection, sessions.own)[0][0]) for connection in connections}
    except Closed:
        return len(connections)
    return kill(database, sessions, numbers) if numbers else 0


def lease_idle(database: Database, leases: ExitStack) -> list[Any]:
    """Lease all connections that this thread can have without a new one being opened: those are idle."""
    found: list[Any] = []
    connects = database.stats().connects
    while database.stats().idle:
        try:
            connection = leases.enter_context(database.connection())
        except DatabaseUnavailable:  # another request was faster
            break
        if database.stats().connects != connects:  # the idle ones belong to other threads, or one was dead already
            break
        found.append(connection)
    return found


def kill(database: Database, sessions: Sessions, numbers: set[int]) -> int:
    """Kill those of the sessions that are idle, over a connection that is not the pool's, and wait until they end."""
    outside = replace(database.settings, transaction="autocommit", name="the demo's killer", board=None)
    with Database(outside) as administrator, administrator.connection() as connection:
        listed = sessions.listed.format(", ".join(map(str, numbers)))
        killed = [number for (number,) in rows(connection, f"{listed} AND {sessions.idle}")]
        for number in killed:
            rows(connection, sessions.kill.format(number))
        deadline = time.monotonic() + PATIENCE
        while killed and rows(connection, sessions.listed.format(", ".join(map(str, killed)))):
            if time.monotonic() > deadline:
                break
            time.sleep(0.005)
    return len(killed)


def rows(connection: Any, statement: str) -> list[Any]:
    with closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []
