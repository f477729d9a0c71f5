"""What happens to cursors when their lease ends, and a stand-in where the driver's own cannot be reached."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

from ..errors import ConnectionReturned
from .activity import Activity

RETURNED = "the connection has gone back: its request is over, or it was closed"


def _refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
    raise ConnectionReturned(RETURNED)


def _get(self: Any, name: str) -> Any:
    if name == "close":  # what is over may be closed
        return partial(_nothing, self)
    if name == "__class__":
        return type(self)
    raise ConnectionReturned(f"{RETURNED} (.{name})")


def _nothing(self: Any, *args: Any) -> None:
    pass


@cache
def _buried(cls: type) -> type:
    """`cls` with its data layout and name, but every use refused."""
    protocol = dict.fromkeys(("__iter__", "__next__", "__enter__", "__call__", "__setattr__", "__delattr__"), _refuse)
    harmless = dict.fromkeys(("close", "__exit__", "__del__"), _nothing)
    shown = dict.fromkeys(("__repr__", "__str__"), lambda self: f"<{cls.__name__} of a lease that is over>")
    body = {"__slots__": (), "__module__": cls.__module__, "__getattribute__": _get, **protocol, **harmless, **shown}
    return type(cls)(cls.__name__, (cls,), body)


_set_class = object.__dict__["__class__"].__set__


def bury(cursor: Any) -> None:
    """Refuse every further use of the cursor, in whatever thread, with ConnectionReturned.

    Its class is exchanged for a dead one: that costs nothing while the cursor lives, and it also ends what needs
    no connection any more, like fetching rows that were read before.
    """
    cls: Any = type(cursor)
    _set_class(cursor, _buried(cls))


class CursorProxy:
    """A driver's cursor that may not be reached otherwise (of a C type, say): every attribute is the driver's."""

    __slots__ = ("__weakref__", "_clock", "_connection", "_cursor", "_seen")

    def __init__(self, cursor: Any, connection: Any, seen: Activity, clock: Callable[[], float]) -> None:
        put = object.__setattr__
        put(self, "_cursor", cursor)
        put(self, "_connection", connection)
        put(self, "_seen", seen)
        put(self, "_clock", clock)

    @property
    def connection(self) -> Any:
        return self._connection

    def _run(self, name: str, args: Any, kwargs: Any) -> Any:
        result = self._seen.observe(self._clock, getattr(self._cursor, name), *args, **kwargs)
        return self if result is self._cursor else result

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        return self._run("execute", args, kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        return self._run("executemany", args, kwargs)

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        return self._run("callproc", args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._cursor, name, value)

    @property  # type: ignore[misc]  # isinstance() sees the driver's class
    def __class__(self) -> Any:
        return type(self._cursor)

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        row = self._cursor.fetchone()  # PEP 249 leaves __next__ out, and mysqlclient's cursors have none
        if row is None:
            raise StopIteration
        return row

    def __enter__(self) -> Any:
        self._cursor.__enter__()
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._cursor.__exit__(*error)
