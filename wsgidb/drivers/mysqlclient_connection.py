"""mysqlclient's connection, observed: what it did since it was last settled, without asking the server.

Its C library keeps the server's status to itself, all but the autocommit flag and whether more results follow. So the
first word of each statement tells whether a transaction may be open, and in doubt one is.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import MySQLdb
import MySQLdb.connections
from MySQLdb import MySQLError, NotSupportedError, OperationalError

from ..activity import Activity
from . import sockets
from .base import CLEAN, DIRTY, Clock, State
from .mysql import COMMIT_UNTOLD, DISCONNECTS, LOST, OUT_OF_SYNC, Observed

_Raw: Any = MySQLdb.connections.Connection

BEGINS = frozenset((b"BEGIN", b"START"))
READS = frozenset((b"SELECT", b"SHOW", b"EXPLAIN", b"DESCRIBE", b"DESC", b"WITH", b"VALUES", b"USE", b"DO", b"KILL"))
WRITES = frozenset((b"INSERT", b"UPDATE", b"DELETE", b"REPLACE", b"LOAD"))
DEFINES = frozenset((b"CREATE", b"ALTER", b"DROP", b"TRUNCATE", b"RENAME", b"GRANT", b"REVOKE"))
"""Words of statements that commit implicitly."""
TABLE_CARE = frozenset(word.encode() for word in COMMIT_UNTOLD) - BEGINS
SAVEPOINTS = frozenset((b"SAVEPOINT", b"RELEASE"))
PLAIN = READS | WRITES | DEFINES | TABLE_CARE | SAVEPOINTS
"""First words of statements that, alone, leave no transaction open where autocommit is on."""
GONE = DISCONNECTS - {OUT_OF_SYNC}
ENDS = frozenset((b"COMMIT", b"ROLLBACK"))

# How to ask whether a transaction is open: MariaDB's way, and what MySQL can tell after a lock timeout.
QUESTIONS = ("SELECT @@in_transaction", "SELECT NOT @@innodb_rollback_on_timeout")


class Connection(_Raw, Observed):  # type: ignore[misc]
    """Notes each statement's start, end and error in its `Activity`."""

    _deadline: tuple[float, Clock] | None = None
    _begun = False
    """BEGIN was said, and neither COMMIT nor ROLLBACK since."""
    _opaque = False
    """Something was said that may have opened a transaction, or changed how one ends, since wsgidb's last rollback."""
    _gone = False
    _other_user = False
    _identity: tuple[int, int] | None = None
    """Of the socket: the library may have closed its descriptor, and the number be somebody else's by now."""

    def __init__(self, deadline: float, clock: Clock, **arguments: Any) -> None:
        self._seen, self._clock = Activity(), clock
        self._pid = os.getpid()
        with self._within(deadline, clock):
            super().__init__(**arguments)
        self._descriptor = self.fileno()
        self._identity = _identity(self._descriptor)
        self._own_thread = self.thread_id()
        self._own_settings = arguments

    def __delattr__(self, name: str) -> None:
        """The C class refuses it for all names, also for what an application has set."""
        try:
            del self.__dict__[name]
        except KeyError:
            raise AttributeError(name) from None

    @contextmanager
    def _within(self, deadline: float, clock: Clock) -> Iterator[None]:
        """The library's own timeouts are whole seconds, and those of statements: so the reply is waited for outside."""
        self._deadline = deadline, clock
        try:
            yield
        finally:
            self._deadline = None

    # -- the handler's statements

    def query(self, query: Any) -> None:
        seen = self._seen
        if self._guarded and self._lost():
            seen.go_on(query)
        word = self._first_word(query)
        seen.busy = seen.used = True
        seen.touched += 1
        seen.statements += 1
        seen.began = self._clock()
        try:
            if self._deadline is None:
                super().query(query)
            else:
                self._query_before(query, *self._deadline)
        except MySQLError as error:
            self._failed(error)
            raise
        seen.ended(self._clock())
        if word in ENDS:
            self._begun = False
            seen.settled()
        elif word not in READS:
            self._count_rows(word)

    def _first_word(self, query: Any) -> bytes:
        """The statement's first word, if that says all of what it does to a transaction."""
        sql = query.encode() if isinstance(query, str) else query
        words = sql[:40].split(None, 2)
        word = bytes(words[0]).upper() if words else b""
        if b";" in sql and b";" in sql.rstrip(b"; \t\r\n"):  # several in one, or so it seems
            self._opaque = True
            return b""
        if word in PLAIN:
            return word
        if word in BEGINS:
            self._begun = True
            self._seen.written = 0  # it commits what was before
        elif word in ENDS and len(words) == 1:
            return word
        elif word != b"ROLLBACK" or words[1].upper() != b"TO":
            self._opaque = True
        return b""

    def _count_rows(self, word: bytes) -> None:
        """Add up rows that were changed and are not committed."""
        seen = self._seen
        if word in DEFINES or word in TABLE_CARE:
            seen.written = 0
        elif not self.field_count() and (self._begun or self._opaque or not self.get_autocommit()):
            seen.written += max(self.affected_rows(), 0)

    def commit(self) -> None:
        self.query("COMMIT")

    def rollback(self) -> None:
        self.query("ROLLBACK")

    def autocommit(self, on: Any) -> None:
        if self.get_autocommit() is not bool(on):
            opaque = self._opaque
            self.query(f"SET AUTOCOMMIT = {int(bool(on))}")
            self._opaque = opaque

    def ping(self, reconnect: bool = False) -> None:
        if reconnect:
            raise NotSupportedError("ping(reconnect=True) would go on in another session, and lose the transaction")
        if self._deadline is None:
            super().ping()
        else:
            self._query_before("DO 0", *self._deadline)

    def change_user(self, *args: Any, **arguments: Any) -> None:
        self._other_user = True
        super().change_user(*args, **arguments)

    # -- replies

    def _query_before(self, query: Any, deadline: float, clock: Clock) -> None:
        self.send_query(query)
        left = sockets.remaining(deadline, clock)
        if not sockets.watch(self.fileno())(ceil(left * 1000)):
            self._gone = True
            raise OperationalError(LOST, "Lost connection to MySQL server (timed out)")
        self.read_query_result()

    def _failed(self, error: MySQLError) -> None:
        code = error.args[0] if error.args else None
        if not isinstance(code, int):
            return  # another thread is in the middle of a statement
        if code in GONE:
            self._gone = True
        self._note_error(code)

    def _ask_whether_open(self) -> bool:
        for question in QUESTIONS:
            try:
                super().query(question)
            except MySQLError:
                continue  # not a variable of this server's
            return bool(int(self.store_result().fetch_row()[0][0]))
        return False

    def _still_open(self) -> bool:
        return False  # a rollback names NO CHAIN wherever one might be

    def _lost(self) -> bool:
        if self._seen.lost is None and self._gone:
            self._seen.lost = "the connection was lost, and the handler went on"
        return self._seen.lost is not None

    def _unseen_ping(self) -> None:
        self.ping()

    # -- what became of it

    def _state(self, autocommit: bool, whole_session: bool) -> State | str:
        seen = self._seen
        reason = self._unusable()
        if reason is not None:
            return reason
        if not seen.touched:
            untouched = not self._opaque and not (whole_session and seen.used)
            return CLEAN if untouched and self.get_autocommit() is autocommit else DIRTY
        if self._unread():
            return "unread rows"
        if seen.unknown or self._begun or self._opaque or self.get_autocommit() is not autocommit:
            return DIRTY
        return CLEAN if autocommit and not whole_session else DIRTY

    def _unread(self) -> bool:
        """Where nothing is left to read the library says -1; only where something is, it would have to read."""
        try:
            return bool(self.more_results()) or self.next_result() != -1
        except MySQLError:
            return True

    def _unusable(self) -> str | None:
        if not self.open or self._gone:
            return "closed by the application or the driver"
        if self._seen.busy:
            return "in the middle of a statement"
        if self._other_user:
            return "given to another user by the application"
        return None if self.thread_id() == self._own_thread else "reconnected by the application"

    def _clean_up(self) -> None:
        """Roll back, whatever a handler has set completion_type to."""
        self.query("ROLLBACK AND NO CHAIN" if self._opaque else "ROLLBACK")
        self._begun = self._opaque = False

    def _reset_session(self) -> None:
        """COM_CHANGE_USER to the same user, and what it takes back of connecting. The library has no deadline for it:
        so a server that does not answer is found out by the rollback before."""
        self._clean_up()
        given = self._own_settings
        super().change_user(given.get("user", ""), given.get("password", ""), given.get("database", ""))
        self.set_character_set(given["charset"], given.get("collation"))
        if given.get("sql_mode"):
            self.set_sql_mode(given["sql_mode"])
        if given.get("init_command"):
            self.query(given["init_command"])
            self.store_result()

    def _abandon(self, busy: bool) -> None:
        """The library can only close with a goodbye: so it gets to say that to nobody."""
        if not self.open:
            return
        if busy:
            return self._wake_reader()
        self._drop_descriptor()
        self.close()

    def _wake_reader(self) -> None:
        """The thread that waits for a reply gets an end of file; the descriptor is the library's to close."""
        try:
            copy = os.dup(self._descriptor)
        except OSError:
            return
        if _identity(copy) != self._identity:
            return os.close(copy)
        with socket.socket(fileno=copy) as line:
            line.shutdown(socket.SHUT_RDWR)

    def _drop_descriptor(self) -> None:
        """Close the socket without a word, by putting another file in its place."""
        try:
            number = self.fileno()
            if _identity(number) == self._identity:
                nobody = os.open(os.devnull, os.O_RDWR)
                os.dup2(nobody, number, inheritable=False)
                os.close(nobody)
        except (OSError, MySQLError):
            pass  # closed already

    def __del__(self) -> None:
        """In a forked child the library's goodbye would end the parent's session."""
        if self._identity is not None and os.getpid() != self._pid:
            self._drop_descriptor()


def _identity(descriptor: int) -> tuple[int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino
