"""What one connection did and who uses it now, as its driver saw it: every later decision rests on this record."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from ..errors import ConnectionReturned, TransactionLost
from .outcome import Outcome

RETURNED = "the connection has gone back: its request is over, or it was closed"

INHERITED: Final = object()
"""In place of a lease: this process is a forked child, and the connection is its parent's."""

HARMLESS_AFTER_LOSS = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "SHOW", "WITH", "ROLLBACK"))
"""First words of statements that do not commit, neither explicitly nor implicitly."""


def first_word(sql: str | bytes | bytearray) -> str:
    """The first word of a statement, in capitals; a word behind a comment is not found."""
    text = sql if isinstance(sql, str) else sql[:100].decode("ascii", "replace")
    return next(iter(text[:100].upper().split()), "")


class Activity:
    """The record of one connection for its whole life.

    The driver's observed connection writes what its statements did; the pool reads that when the lease is settled.

    The record also decides who may use the connection. Each lease ends once, but threads that a request left behind
    may still hold objects of it: a cursor, a bound method. So every entry first marks the connection as in use and
    then compares leases (`enter`); the release first takes the lease away and then looks for marks. Whichever comes
    second sees the other: a late call is refused, or the connection is discarded. Without a lock, as appending to a
    list, popping from it and assigning an attribute are atomic.
    """

    __slots__ = (
        *("began", "busy", "closing", "classify", "errors", "host", "lease", "lost", "outcome", "outside"),
        *("seconds", "statements", "touched", "unfit", "unknown", "used", "users", "written"),
    )

    def __init__(self) -> None:
        self.lease: Any = None
        """The lease that may use the connection now, or None."""
        self.users: list[Any] = []
        """For each call that is under way, in whatever thread, the lease on whose behalf it is."""
        self.closing: list[Callable[[], None]] = []
        """What closes a dropped connection once the last call on it has ended."""
        self.busy = False
        """A command was begun and its reply did not come in full: it is under way, or was interrupted."""
        self.touched = 0
        """How many commands were run since the last commit or rollback."""
        self.outside = 0
        """How many of these commands were run when the server last said that no transaction is open."""
        self.used = False
        """Whether a command was run since the session was last reset."""
        self.unknown = False
        """Whether an error came since the last commit or rollback: what the driver knows of the transaction may then be
        stale."""
        self.lost: str | None = None
        """Why the server has ended the transaction without the handler asking for it, if it has."""
        self.outcome: Outcome | None = None
        """The record of the lease that has the connection, or had it last, where its request may be repeated."""
        self.classify: Callable[[Activity, BaseException], str | None] | None = None
        """A function that tells, of this record's connection, why it must not be kept after an error, if so."""
        self.host = ""
        """The server's host, if the url has several."""
        self.unfit: str | None = None
        """Why the connection must not serve another lease, if so, whatever becomes of this one's transaction."""
        self.written = 0
        """How many rows were changed since the last commit or rollback, by statements without a result set."""
        self.statements = 0
        """How many statements the handlers have run so far."""
        self.errors = 0
        """How many commands have ended in an error of the driver so far."""
        self.seconds = 0.0
        """How long these statements took together, in seconds."""
        self.began = 0.0
        """When the present command, or the last one, was begun."""

    # -- who uses the connection

    def enter(self, lease: Any) -> None:
        """Mark the connection as in use on behalf of this lease; `leave` must follow.

        Raises ConnectionReturned where the lease has ended."""
        self.users.append(lease)
        if self.lease is not lease:
            self.leave(lease)
            raise self.refusal()

    def leave(self, lease: Any) -> None:
        """End one use of the connection. The last one closes it where that was asked for meanwhile."""
        self.users.remove(lease)
        if self.closing:
            self.close_if_unused()

    def refusal(self) -> ConnectionReturned:
        """The error for a call of a lease that has ended."""
        if self.lease is INHERITED:
            return ConnectionReturned("the connection is that of this process's parent; a forked child needs its own")
        return ConnectionReturned(RETURNED)

    def call(self, lease: Any, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what uses the connection on behalf of this lease. Raises ConnectionReturned where it has ended."""
        self.enter(lease)
        try:
            return function(*args, **kwargs)
        finally:
            self.leave(lease)

    def end_lease(self) -> bool:
        """Let no further call begin. Returns whether one of the lease is under way."""
        lease = self.lease
        self.lease = None
        if not self.users:
            return False
        return lease is None or lease in self.users  # a late call of an earlier one is refused

    def close_when_unused(self, close: Callable[[], None]) -> None:
        """Call `close` as soon as no call is under way: now, or in the thread whose call ends last.

        A descriptor that is closed while another thread is about to use it may be another connection's by then."""
        self.closing.append(close)
        self.close_if_unused()

    def close_if_unused(self) -> None:
        """Close the connection where that was asked for and no call is under way."""
        if self.users:
            return
        with suppress(IndexError):  # another thread has taken it
            self.closing.pop()()

    # -- what it did

    def ended(self, now: float) -> None:
        """Note that the command's reply has come, in full or up to its first row."""
        if self.busy:  # else that is known already
            self.busy = False
            self.seconds += now - self.began

    def failed(self, error: BaseException) -> None:
        """Note that a command has ended in this error, whether or not the handler lets it propagate."""
        self.errors += 1
        if self.classify is not None and self.unfit is None:
            self.unfit = self.classify(self, error)
        if self.outcome is not None:
            self.outcome.failed(error)

    def observe(self, clock: Callable[[], float], call: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call what is one statement, from its start to its end."""
        began = clock()
        self.busy = True
        try:
            result = call(*args, **kwargs)
        except Exception as error:
            self.busy = False
            self.failed(error)
            raise
        finally:
            self.statements += 1
            self.seconds += clock() - began
        self.busy = False  # not after a BaseException: the statement may have been interrupted half-way
        return result

    def settled(self) -> None:
        """Note that the transaction is over, and that the server has said so."""
        self.touched = self.outside = self.written = 0
        self.unknown = False
        self.lost = None

    def refuse_after_loss(self, sql: str | bytes | bytearray) -> None:
        """After a lost transaction refuse every statement that could commit the rest of it; a rollback ends the loss.

        Raises TransactionLost."""
        text = sql if isinstance(sql, str) else sql.decode("ascii", "replace")
        text = text.upper().rstrip("; \n")
        words = text.split()
        several = ";" in text  # or so it seems; in doubt the handler is told
        if words[:1] == ["ROLLBACK"] and "TO" not in words:
            self.settled()
        elif self.lost is not None and (several or not words or words[0] not in HARMLESS_AFTER_LOSS):
            raise TransactionLost(self.lost)
