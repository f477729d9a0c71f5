"""A connection pooler between psycopg and the server, such as PgBouncer.

With transaction pooling, each transaction of one client's connection may run in another session of the server. psycopg
prepares a statement that was executed five times, and from then on sends its name only. Another program's statement has
the same name in another session, so rows would be written into another program's table, without an error.
"""

from __future__ import annotations

import logging
from typing import Any

import psycopg
from psycopg import generators, pq

from ...config.settings import Settings
from .wire import Work

log = logging.getLogger("wsgidb")

PIPELINES = 140000
"""The version of libpq that can send several commands at once: https://www.postgresql.org/docs/14/release-14.html"""

QUESTION = b"SELECT pg_catalog.pg_backend_pid()"


class Pooler:
    """What one Database does about a pooler. It is asked for at each new connection, as another one may lead elsewhere,
    and spoken of once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._told = False

    def prepare(self, conn: Any, chosen: bool) -> Work:
        """Switch prepared statements off if there is a pooler, unless the user has `chosen` to have them. One round
        trip. Raises psycopg.Error for a pooler that has no server."""
        if (yield from is_behind_pooler(conn)):
            if not chosen:
                conn.prepare_threshold = None
            self._tell(chosen)
        else:
            conn.direct = pq.version() >= PIPELINES

    def _tell(self, chosen: bool) -> None:
        if self._told:
            return
        self._told = True
        address = self._settings.address
        if chosen:
            log.warning(
                "%s: a connection pooler is in front of the server: with transaction pooling, prepare_threshold can put"
                " rows into another program's table",
                address,
            )
        else:
            log.warning(
                "%s: a connection pooler is in front of the server: statements are not prepared"
                " (prepare_threshold=none)",
                address,
            )
        if self._settings.init_sql or self._settings.reset == "session":
            option = "init_sql" if self._settings.init_sql else "reset=session"
            log.warning(
                "%s: a connection pooler is in front of the server: with transaction pooling, %s changes the sessions"
                " of other programs",
                address,
                option,
            )


def is_behind_pooler(conn: Any) -> Work:
    """Whether the process that the server names is not the one that it named at the login: a pooler answers a login by
    itself, with a key of its own for cancelling. A server that has no such function is not behind one."""
    conn.pgconn.send_query(QUESTION)
    (result,) = yield from generators.execute(conn.pgconn)
    if result.status == pq.ExecStatus.TUPLES_OK:
        return int(result.get_value(0, 0)) != conn.pgconn.backend_pid
    error = psycopg.errors.error_from_result(result, encoding=conn.info.encoding)
    if isinstance(error, psycopg.ProgrammingError):
        return False
    raise error
