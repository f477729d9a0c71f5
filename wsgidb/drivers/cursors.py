"""How cursors end with their lease, and a stand-in for cursors of drivers that wsgidb does not know."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any
from weakref import WeakSet

from ..errors import ConnectionReturned
from .activity import RETURNED, Activity
from .tracing import is_method_of, untraced

METHODS = frozenset(("callproc", "close", "fetchone", "fetchmany", "fetchall", "nextset", "scroll"))
"""PEP 249's methods of cursors, which use the connection whatever they are made of."""

ENDED_CLASS = "_wsgidb_ended_class"
"""Where a cursor class keeps what `ended_class` has made of it."""


def _refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
    raise ConnectionReturned(RETURNED)


def _nothing(self: Any, *args: Any) -> None:
    pass


class _Uninvolved:
    """Keeps what a class does when it is subclassed from running for a class that wsgidb makes."""

    __slots__ = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        pass


def quiet_class(cls: type, bases: tuple[type, ...], body: dict[str, Any]) -> type:
    """A class with the name and the metaclass of `cls`. Neither that metaclass nor an ``__init_subclass__`` is called:
    nothing of a handler's may run, or fail, for a class that wsgidb makes."""
    if not issubclass(cls, _Uninvolved):
        bases = (_Uninvolved, *bases)
    made: type = type.__new__(type(cls), cls.__name__, bases, {"__module__": cls.__module__, **body})
    return made


_static: dict[tuple[type, str], type] = {}
"""What `kept_class` keeps for classes that take no attribute. These are C classes, which are never garbage."""


def kept_class(cls: type, key: str, make: Callable[[type], type]) -> type:
    """The class that `make` has made of `cls`, once. It is kept in `cls` itself under this name, so that a class that
    is made for one request is garbage after it."""
    found: type | None = vars(cls).get(key) or _static.get((cls, key))
    if found is not None:
        return found
    made = make(cls)
    try:
        type.__setattr__(cls, key, made)
    except TypeError:
        _static[cls, key] = made
    return made


NOTHING: Mapping[str, Any] = MappingProxyType({})


def ended_class(cls: type, told: Mapping[str, Any] = NOTHING) -> type:
    """A class with the data layout and the name of `cls`, but every use refused, except for reading the attributes that
    are `told`: they have the values given there, always the same for a class."""
    return kept_class(cls, ENDED_CLASS, partial(_make_ended_class, told=told))


def _make_ended_class(cls: type, told: Mapping[str, Any]) -> type:
    def get(self: Any, name: str) -> Any:
        if name == "close":  # closing a cursor twice is harmless with every driver
            return partial(_nothing, self)
        if name in told:
            return told[name]
        if name == "__class__":
            return cls
        raise ConnectionReturned(f"{RETURNED} (.{name})")

    protocol = dict.fromkeys(("__iter__", "__next__", "__enter__", "__call__", "__setattr__", "__delattr__"), _refuse)
    harmless = dict.fromkeys(("close", "__exit__", "__del__"), _nothing)
    shown = dict.fromkeys(("__repr__", "__str__"), lambda self: f"<{cls.__name__} of a lease that is over>")
    body = {"__module__": cls.__module__, "__getattribute__": get, **protocol, **harmless, **shown}
    made: type = quiet_class(cls, (cls,), {"__slots__": (), **body})
    if made.__base__ is cls:
        return made
    # The data of such objects is a dictionary and weak references alone, which the first class of theirs has added to
    # its base. Any other class that adds the same to that base has the same layout.
    base: Any = cls
    while base.__base__.__dictoffset__:
        base = base.__base__
    made = type.__new__(type(base.__base__), cls.__name__, (base.__base__,), body)
    return made


_set_class = object.__dict__["__class__"].__set__


def invalidate(cursor: Any, told: Mapping[str, Any] = NOTHING) -> bool:
    """Refuse every further use of the cursor, in whatever thread, with ConnectionReturned, except for what is `told`
    (`ended_class`). Returns whether it could.

    The cursor's class is exchanged. That costs nothing while the cursor lives, and it also ends what needs no
    connection any more, like fetching rows that were read before.
    """
    try:
        _set_class(cursor, ended_class(type(cursor), told))
    except Exception:  # noqa: BLE001 - of a C class that cannot be exchanged, or a class that refuses subclasses
        return False
    return True


class CursorProxy:
    """A cursor of a driver whose cursor classes cannot be observed: every attribute is the driver's.

    Every call goes through the record of the connection, so that it is refused after the lease and seen at its end.
    So does every call on what the cursor hands out: other cursors, and iterators, which may read from the connection.
    """

    __slots__ = ("__weakref__", "_clock", "_connection", "_cursor", "_handed_out", "_seen")

    def __init__(self, cursor: Any, connection: Any, seen: Activity, clock: Callable[[], float]) -> None:
        put = object.__setattr__
        put(self, "_cursor", cursor)
        put(self, "_connection", connection)
        put(self, "_seen", seen)
        put(self, "_clock", clock)
        put(self, "_handed_out", None)

    @property
    def connection(self) -> Any:
        """The lease that the cursor came from."""
        return self._connection

    def _call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = self._seen.call(self._connection, function, *args, **kwargs)
        if result is self._cursor:
            return self
        kind = type(result)  # not the object, which may be a row with any attributes
        if hasattr(kind, "fetchone") or hasattr(kind, "__next__"):
            return self if result is untraced(self._cursor) else self._hand_out(result)
        return result

    def _hand_out(self, found: Any) -> Any:
        proxy = CursorProxy(found, self._connection, self._seen, self._clock)
        if self._handed_out is None:
            object.__setattr__(self, "_handed_out", WeakSet())
        self._handed_out.add(proxy)
        return proxy

    def _run(self, statement: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._call(self._seen.observe, self._clock, statement, *args, **kwargs)

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a statement, as the driver's cursor does."""
        return self._run(self._cursor.execute, *args, **kwargs)

    def executemany(self, *args: Any, **kwargs: Any) -> Any:
        """Execute a statement many times, as the driver's cursor does."""
        return self._run(self._cursor.executemany, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._cursor, name)
        if name in METHODS or is_method_of(found, self._cursor):
            return partial(self._run if name == "callproc" else self._call, found)
        return found

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._cursor, name, value)

    @property  # type: ignore[misc]  # isinstance() sees the driver's class
    def __class__(self) -> Any:
        return self._cursor.__class__

    def __iter__(self) -> Any:
        return self._call(iter, self._cursor)

    def __next__(self) -> Any:
        return self._call(next, self._cursor)

    def __enter__(self) -> Any:
        self._call(self._cursor.__enter__)
        return self

    def __exit__(self, *error: Any) -> Any:
        return self._call(self._cursor.__exit__, *error)


class _Dropped:
    """In place of the driver's cursor, for a thread that has begun too late."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionReturned(RETURNED)


def drop(cursor: CursorProxy) -> None:
    """Let go of the driver's cursor and of what it has handed out, unless they are in use. They then end as if their
    handler had dropped them: an unfinished statement of SQLite's, for example, gives up its lock."""
    if cursor._connection not in cursor._seen.users:
        _drop_handed_out(cursor)
        object.__setattr__(cursor, "_cursor", _Dropped())


def _drop_handed_out(cursor: CursorProxy) -> None:
    for proxy in list(cursor._handed_out or ()):
        drop(proxy)


def read_all(cursor: Any) -> None:
    """Read all results of what a driver's cursor has executed. Raises the driver's error if one of them is an error."""
    more = True
    while more:
        if cursor.description is not None:
            cursor.fetchall()
        try:
            more = hasattr(cursor, "nextset") and cursor.nextset()
        except Exception as error:
            if type(error).__name__ != "NotSupportedError":  # PEP 249's, of a driver that has one result at most
                raise
            return


def finish(cursor: CursorProxy, deadline: float) -> None:
    """Read what is left of the cursor's results until the deadline, and close it, unless it is in use: some drivers
    send no command before that, and others take what is left for the reply to the next one.

    Never raises: where a driver fails here, so does what comes next."""
    if cursor._connection in cursor._seen.users:
        return
    _drop_handed_out(cursor)
    raw = cursor._cursor
    several = hasattr(raw, "nextset")  # else closing it is enough, as it is for a server-side cursor, which has a name
    with suppress(Exception):
        while several and getattr(raw, "name", None) is None and cursor._clock() < deadline:
            if not (_rows_of(raw) or _has_further_result(raw)):
                break
        raw.close()


def _rows_of(cursor: Any) -> Any:
    with suppress(Exception):  # it has no result
        return cursor.fetchmany(1000)
    return ()


def _has_further_result(cursor: Any) -> bool:
    with suppress(Exception):  # of a driver that supports one result only
        return bool(cursor.nextset())
    return False
