"""The part of the driver contract that is about functions of the application's, such as the option on_connect."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

from ..config.settings import Settings
from .activity import Activity
from .states import Clock


class HookError(Exception):
    """The option on_connect has failed. The text names the error, which is the cause of this one."""


class Hooked(ABC):
    """Calls functions of the application's with a connection that no request has."""

    settings: Settings
    clock: Clock

    @abstractmethod
    def activity(self, conn: Any) -> Activity:
        """The record of what the connection does; it is the same object for its whole life. Never blocks."""

    @abstractmethod
    def commit(self, conn: Any) -> None:
        """Commit what was done since the last commit or rollback; if that is nothing, send nothing."""

    def call_on_connect(self, conn: Any, deadline: float) -> None:
        """Call the option on_connect, if there is one, for a new connection or a cleared session. May block until the
        deadline. Raises HookError."""
        hook = self.settings.on_connect
        if hook is None:
            return
        try:
            self.run_hook(conn, partial(hook, conn), deadline)
        except Exception as error:
            raise HookError(f"on_connect raised {type(error).__name__}: {error}") from error

    def run_hook(self, conn: Any, hook: Callable[[], object], deadline: float) -> None:
        """Call what the application does to a connection that no request has, and commit that. Its statements are not
        counted as a handler's. Each may block until the deadline, if the driver has deadlines.

        Raises what the hook raises, and TimeoutError if it returns after the deadline. Any exception means that the
        connection must be discarded."""
        seen = self.activity(conn)
        before = seen.statements, seen.seconds, seen.errors, seen.used, seen.unfit
        with self.limited(conn, deadline):
            hook()
            if self.clock() >= deadline:
                raise TimeoutError("it took longer than its time limit")
            self.end_hook(conn)
        seen.settled()
        seen.statements, seen.seconds, seen.errors, seen.used, seen.unfit = before

    def limited(self, conn: Any, deadline: float) -> AbstractContextManager[Any]:
        """Apply a deadline to all statements that are run inside. A driver that has no deadlines has none here."""
        return nullcontext()

    def end_hook(self, conn: Any) -> None:
        """Commit what a hook did, and restore autocommit. May block until the deadline of `limited`. Any exception
        means that the connection must be discarded."""
        self.commit(conn)
