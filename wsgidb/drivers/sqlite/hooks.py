"""What a handler sets on sqlite3's connection by its methods, and how the end of the lease takes it back.

Settings that a handler makes by SQL (PRAGMA, ATTACH, temporary tables) are not seen here: they remain.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from ..activity import Activity

COLLATIONS = ("BINARY", "NOCASE", "RTRIM")
"""SQLite's own. One that was replaced cannot be had back: https://www.sqlite.org/datatype3.html#collation"""

RESTORED = ("setlimit", "setconfig")
"""Changes whose former values are known, and put back."""


@cache
def _functions() -> frozenset[str]:
    """The names of SQLite's own functions. None of them where SQLite is older than 3.30 and does not tell."""
    conn = sqlite3.Connection(":memory:")
    try:
        return frozenset(row[0] for row in conn.execute("PRAGMA function_list"))
    finally:
        conn.close()


class Hooks(sqlite3.Connection):
    """Notes how to take back what was set. Where that is impossible, the connection must not be kept."""

    seen: Activity

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.seen = Activity()
        self.changes: dict[Any, Callable[[], object]] = {}
        """What takes back each of a lease's changes."""
        self._kept: frozenset[Any] = frozenset()
        super().__init__(*args, **kwargs)

    def keep_changes(self) -> None:
        """Let what was set so far last as long as the connection."""
        self._kept = frozenset(key for key in self.changes if key[0] not in RESTORED)
        self.changes.clear()

    def has_replaced(self) -> bool:
        """Whether the lease has replaced something that was to last, and that nobody can put back."""
        return not self._kept.isdisjoint(self.changes)

    def take_back(self) -> None:
        """Take back what the lease has set."""
        changes, self.changes = self.changes, {}
        for undo in changes.values():
            undo()

    def _cannot_keep(self, reason: str) -> None:
        self.seen.unfit = self.seen.unfit or reason

    # -- functions: without a callable, SQLite refuses every call of them

    def create_function(self, name: str, narg: int, *args: Any, **kwargs: Any) -> None:
        super().create_function(name, narg, *args, **kwargs)
        self._function("create_function", super().create_function, name, narg)

    def create_aggregate(self, name: str, n_arg: int, *args: Any, **kwargs: Any) -> None:
        super().create_aggregate(name, n_arg, *args, **kwargs)
        self._function("create_aggregate", super().create_aggregate, name, n_arg)

    if sys.version_info >= (3, 11):

        def create_window_function(self, name: str, num_params: int, *args: Any) -> None:
            super().create_window_function(name, num_params, *args)
            self._function("create_window_function", super().create_window_function, name, num_params)

    def _function(self, method: str, create: Callable[..., None], name: str, arguments: int) -> None:
        known = _functions()
        if name.lower() in known or not known:
            self._cannot_keep(f"{method}() replaced a function of SQLite's own")
        self.changes[method, name, arguments] = partial(create, name, arguments, None)

    def create_collation(self, name: str, *args: Any) -> None:
        super().create_collation(name, *args)
        if name.upper() in COLLATIONS:
            self._cannot_keep("create_collation() replaced a collation of SQLite's own")
        self.changes["create_collation", name] = partial(super().create_collation, name, None)

    # -- what is called for every statement

    def set_authorizer(self, *args: Any, **kwargs: Any) -> None:
        super().set_authorizer(*args, **kwargs)
        if sys.version_info >= (3, 11):
            self.changes["set_authorizer"] = partial(super().set_authorizer, None)
        else:
            self._cannot_keep("set_authorizer() was called, which Python 3.10 cannot undo")

    def set_progress_handler(self, *args: Any, **kwargs: Any) -> None:
        super().set_progress_handler(*args, **kwargs)
        self.changes["set_progress_handler"] = partial(super().set_progress_handler, None, 0)

    def set_trace_callback(self, *args: Any, **kwargs: Any) -> None:
        super().set_trace_callback(*args, **kwargs)
        self.changes["set_trace_callback"] = partial(super().set_trace_callback, None)

    # -- limits and switches

    if sys.version_info >= (3, 11):

        def setlimit(self, category: int, limit: int, /) -> int:
            former = super().setlimit(category, limit)
            self.changes.setdefault(("setlimit", category), partial(super().setlimit, category, former))
            return former

        def deserialize(self, *args: Any, **kwargs: Any) -> None:
            self._cannot_keep("deserialize() has put another database in place of the file's")
            super().deserialize(*args, **kwargs)

    if sys.version_info >= (3, 12):

        def setconfig(self, op: int, enable: bool = True, /) -> None:
            former = super().getconfig(op)
            super().setconfig(op, enable)
            self.changes.setdefault(("setconfig", op), partial(super().setconfig, op, former))

    if hasattr(sqlite3.Connection, "enable_load_extension"):  # a choice of who builds Python

        def enable_load_extension(self, *args: Any) -> None:
            self._cannot_keep("enable_load_extension() was called, and an extension cannot be unloaded")
            super().enable_load_extension(*args)
