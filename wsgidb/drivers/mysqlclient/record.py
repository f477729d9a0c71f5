"""What is known of one of mysqlclient's connections.

It is here and not in attributes of the connection, because its class is one in C: looking up an attribute there takes
ten times as long as a slot does here, and each statement needs twenty.
"""

from __future__ import annotations

import weakref
from typing import Any

from ..activity import Activity
from ..states import Clock


class Record(Activity):
    """An `Activity`, and what mysqlclient does not tell about the session."""

    __slots__ = (
        *("begun", "clock", "deadline", "further", "gone", "guarded", "incomplete", "may_have_begun", "may_have_set"),
        *("noted", "opaque", "other_user", "own_thread", "reader", "stored", "unbuffered"),
    )

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self.clock = clock
        self.guarded = False
        """Whether a transaction that the server has ended must not be continued: see `Observed._guarded`."""
        self.deadline: tuple[float, Clock] | None = None
        """The deadline for what is said and heard now, if there is one."""
        self.gone = False
        """The server, or the way to it, was found to be lost."""
        self.own_thread = 0
        """The session's number; another one now means a reconnect by the application."""
        self.other_user = False
        """The application has logged in as another user."""
        self.begun = False
        """BEGIN was run, and neither COMMIT nor ROLLBACK since."""
        self.may_have_begun = False
        """A statement of unknown effect may have opened a transaction since the last COMMIT or ROLLBACK."""
        self.may_have_set: frozenset[bytes] = frozenset()
        """Which of `LASTING` a statement of this session may have set."""
        self.opaque = False
        """Something may have been opened or set, since wsgidb's last rollback, that only another one takes back."""
        self.incomplete = False
        """Of the last reply there may be more than was read, or an error that nobody has seen."""
        self.further = False
        """The reply is that of several statements, and the first of them has ended well."""
        self.noted = False
        """The error that the library has is noted already: it keeps it until the next command."""
        self.stored: dict[int, weakref.ref[Any]] = {}
        """The library's result sets that were read as a whole. An id is used again, so a thousand do not add up."""
        self.reader = 0
        """The thread that made the last of those that are read row by row."""
        self.unbuffered: dict[int, weakref.ref[Any]] = {}
        """Likewise those that are read row by row."""
