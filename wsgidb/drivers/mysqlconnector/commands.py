"""Commands of the protocol that read their replies by themselves, or send by themselves, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .replies import Replies


class Commands(Replies):
    """Notes how the replies to such commands end."""

    def cmd_stmt_prepare(self, *args: Any, **options: Any) -> Any:
        return self._command(super().cmd_stmt_prepare, *args, **options)

    def cmd_debug(self) -> Any:
        return self._command(super().cmd_debug)

    def _command(self, command: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a command that passes `_send_cmd`, and reads its reply by itself."""
        self._finish_reply()
        try:
            result = command(*args, **options)
        except BaseException as error:
            if self._seen.busy:  # else its end is noted
                self._ended_in(error)
            raise
        self._seen.ended(self._clock())
        return result

    def cmd_statistics(self) -> Any:
        return self._by_itself(super().cmd_statistics)

    def cmd_change_user(self, *args: Any, **options: Any) -> Any:
        return self._by_itself(super().cmd_change_user, *args, **options)

    def _by_itself(self, command: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self._finish_reply()
        seen = self._seen
        seen.began = self._clock()
        seen.used = True
        try:
            result = command(*args, **options)
        except BaseException as error:
            self._broken(error)
            raise
        return result
