"""What one connection did, as its driver saw it: the record that every later decision rests on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import TransactionLost

HARMLESS_AFTER_LOSS = frozenset(("SELECT", "INSERT", "UPDATE", "DELETE", "REPLACE", "SHOW", "WITH", "ROLLBACK"))
"""First words of statements that commit nothing, neither by themselves nor by the way."""


def first_word(sql: str | bytes | bytearray) -> str:
    """In capitals; what is behind a comment is not found."""
    text = sql if isinstance(sql, str) else sql[:100].decode("ascii", "replace")
    return next(iter(text[:100].upper().split()), "")


class Activity:
    """Written by the driver's observed connection, in the thread that uses it; read when the lease is settled."""

    __slots__ = (
        *("began", "busy", "judge", "lost", "seconds", "statements"),
        *("touched", "unfit", "unknown", "used", "written"),
    )

    def __init__(self) -> None:
        self.busy = False
        """A command was begun and did not come to its end, or another thread is in the middle of it."""
        self.touched = 0
        """Commands since the last commit or rollback."""
        self.used = False
        """A command was run since the session was last reset."""
        self.unknown = False
        """An error came since the last commit or rollback: what the driver says of the transaction may be stale."""
        self.lost: str | None = None
        """Why the server has ended the transaction behind the handler's back, if it has."""
        self.judge: Callable[[BaseException], str | None] | None = None
        """Tells why a connection must not be kept after an error, if so; `Driver.unfit`."""
        self.unfit: str | None = None
        """Why the connection must not serve another lease, whatever becomes of this one's transaction, if so."""
        self.written = 0
        """Rows that statements without a result set have changed since the last commit or rollback."""
        self.statements = 0
        """The handlers' statements so far,"""
        self.seconds = 0.0
        """and how long they took together."""
        self.began = 0.0
        """When the present command, or the last one, was begun."""

    def ended(self, now: float) -> None:
        """The command's reply has come, in full or up to its first row."""
        if self.busy:  # else that is known already
            self.busy = False
            self.seconds += now - self.began

    def failed(self, error: BaseException) -> None:
        """A command has ended in this error, whether or not the handler lets anybody see it."""
        if self.judge is not None and self.unfit is None:
            self.unfit = self.judge(error)

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
        self.busy = False  # not after a BaseException: then the statement may be in its middle
        return result

    def settled(self) -> None:
        """The transaction is over, and the server has said so."""
        self.touched = self.written = 0
        self.unknown = False
        self.lost = None

    def go_on(self, sql: str | bytes | bytearray) -> None:
        """After a loss: let no statement commit a part of the transaction; a rollback says that the handler knows.

        Raises TransactionLost."""
        text = sql if isinstance(sql, str) else sql.decode("ascii", "replace")
        text = text.upper().rstrip("; \n")
        words = text.split()
        several = ";" in text  # or so it seems; in doubt the handler is told
        if words[:1] == ["ROLLBACK"] and "TO" not in words:
            self.settled()
        elif self.lost is not None and (several or not words or words[0] not in HARMLESS_AFTER_LOSS):
            raise TransactionLost(self.lost)
