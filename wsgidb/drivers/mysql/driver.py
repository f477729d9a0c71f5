"""What the drivers of MySQL and MariaDB have in common: what is done with a connection.

Its arguments are dealt with in ``arguments.py``, and its errors in ``errors.py``."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from ...config.settings import Settings
from ...errors import TransactionLost
from ..activity import Activity
from ..base import SERVER_OPTIONS
from ..hosts import Server
from ..states import Clock, Position, State
from . import positions
from .arguments import Arguments
from .errors import MySQLErrors
from .observed import UNKNOWN, Within
from .sessions import only_sets

QUESTION = "SELECT @@read_only, @@innodb_read_only FROM (SELECT 1) AS one"
"""What a server is asked about itself. The second variable is that of a reader of Aurora. A Galera node that is not
ready answers pings and statements without a table, also those on information_schema; this one is refused, although it
reads nothing, opens no transaction and takes no privilege."""


class OwnWork(Within):
    """What `MySQLDriver._own_work` returns."""

    __slots__ = ("_before", "_driver")

    def __init__(self, driver: MySQLDriver, conn: Any, deadline: float) -> None:
        super().__init__(conn, deadline, driver.clock)
        self._driver = driver

    def __enter__(self) -> None:
        seen = self._conn._seen
        self._before = seen.statements, seen.seconds, seen.used
        super().__enter__()

    def __exit__(self, *error: object) -> None:
        super().__exit__()
        if error[0] is not None:
            return
        if self._conn._still_open():  # with completion_type=CHAIN each ROLLBACK begins another one
            raise self._driver.operational_error(UNKNOWN, "a transaction is still open")
        seen = self._conn._seen
        seen.settled()
        seen.statements, seen.seconds, seen.used = self._before


class MySQLDriver(MySQLErrors, Arguments):
    """A driver whose connections are `Observed`."""

    usual_port = 3306
    login_proves_ready = False
    clears_sessions = True
    tells_outcome = True
    limit_query = "SELECT @@max_connections"
    replicates = True
    read_only = positions.READ_ONLY
    options: ClassVar[frozenset[str]] = SERVER_OPTIONS

    def __init__(self, settings: Settings, clock: Clock = time.monotonic) -> None:
        super().__init__(settings, clock)
        self._whole_session = settings.reset == "session"

    @abstractmethod
    def operational_error(self, code: int, text: str) -> Exception:
        """An error as the driver raises it."""

    # -- may block

    def _run_init_sql(self, conn: Any) -> None:
        statements = self.settings.init_sql
        if not statements:
            return
        self.run(conn, statements)
        if not self.autocommit and not all(map(only_sets, statements)):
            conn.commit()

    def _look(self, conn: Any, deadline: float, new: bool) -> Server:
        with self._own_work(conn, deadline):
            ((*told,),) = conn._ask(QUESTION)
        read_only = any(_text(value) not in ("0", "OFF") for value in told)
        return Server(read_only, read_only)

    def ping(self, conn: Any, deadline: float) -> None:
        seen = conn._seen
        statements, seconds = seen.statements, seen.seconds
        with conn._within(deadline, self.clock):
            if self.settings.ping_query is not None:
                self.run(conn, (self.settings.ping_query,))
            else:
                conn._unseen_ping()
        seen.statements, seen.seconds = statements, seconds

    def rollback(self, conn: Any, deadline: float) -> None:
        with self._own_work(conn, deadline):
            self._roll_back(conn)
            self._restore_autocommit(conn)

    def reset(self, conn: Any, deadline: float) -> None:
        with self._own_work(conn, deadline):
            conn._reset_session()
            self._restore_autocommit(conn)
            self._run_init_sql(conn)
        self.call_on_connect(conn, deadline)
        conn._seen.used = False

    def put_back(self, conn: Any, attributes: Mapping[str, Any], deadline: float) -> None:
        with self._own_work(conn, deadline):
            super().put_back(conn, attributes, deadline)

    def limited(self, conn: Any, deadline: float) -> AbstractContextManager[Any]:
        return Within(conn, deadline, self.clock)

    def end_hook(self, conn: Any) -> None:
        if conn._seen.touched:
            conn.commit()
        self._restore_autocommit(conn)
        if conn._still_open():
            raise self.operational_error(UNKNOWN, "a transaction is still open")

    def _roll_back(self, conn: Any) -> None:
        conn.rollback()

    @abstractmethod
    def _restore_autocommit(self, conn: Any) -> None:
        """Make it what it was at first, if it is not."""

    def _own_work(self, conn: Any, deadline: float) -> OwnWork:
        """Statements of wsgidb's own, before the deadline; they are not counted as a handler's."""
        return OwnWork(self, conn, deadline)

    def commit(self, conn: Any) -> None:
        seen = conn._seen
        if not seen.touched:
            return
        reason = conn._unusable()
        if reason is not None:
            raise TransactionLost(f"cannot commit: {reason}")
        conn.commit()

    def written(self, conn: Any, deadline: float, ask: bool) -> Position:
        """The server is asked. On MariaDB the answer is about the session, so that one that has written nothing since
        it was last asked is known by it."""
        if not ask:
            return {}
        mariadb = self._is_mariadb(conn)
        ((last,),) = self._ask(conn, positions.LAST[mariadb], deadline)
        if mariadb and last == conn._last_written:
            return {}
        conn._last_written = last
        return positions.parse(last, mariadb)

    def reached(self, conn: Any, deadline: float) -> tuple[str, Position]:
        mariadb = self._is_mariadb(conn)
        ((server, position),) = self._ask(conn, positions.REACHED[mariadb], deadline)
        return str(server), positions.parse(position, mariadb)

    def _ask(self, conn: Any, question: str, deadline: float) -> Any:
        """The rows that answer a question of wsgidb's own, which leaves no trace in the record."""
        seen = conn._seen
        touched, used = seen.touched, seen.used
        with conn._within(deadline, self.clock):
            rows = conn._ask(question)
        seen.touched, seen.used = touched, used
        return rows

    def _is_mariadb(self, conn: Any) -> bool:
        return positions.is_mariadb(conn._greeted_as())

    # -- never block

    def inspect(self, conn: Any) -> State | str:
        state: State | str = conn._state(self.autocommit, self._whole_session)
        return state

    def activity(self, conn: Any) -> Activity:
        seen: Activity = conn._seen
        return seen

    def abandon(self, conn: Any) -> None:
        conn._abandon(conn._seen.busy)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, (bytes, bytearray)) else str(value)
