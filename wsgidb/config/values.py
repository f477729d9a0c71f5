"""Parsers of option values. Each takes a value or its text form, and raises ValueError for anything else.

The environment and PasteDeploy give text forms. Error messages and docs/options.md show a parser's attribute ``takes``.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

BOOLEANS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


@dataclass(frozen=True)
class Parser:
    """A parser of one kind of value, and the words that tell what it takes."""

    takes: str
    parse: Callable[[Any], Any]

    def __call__(self, value: Any) -> Any:
        return self.parse(value)


def boolean(text: str) -> bool:
    """Parse ``true``, ``yes``, ``on``, ``1``, ``false``, ``no``, ``off`` or ``0``. Raises ValueError."""
    try:
        return BOOLEANS[text.lower()]
    except KeyError:
        raise ValueError(text) from None


LIKENESS = 0.7
"""How similar a mistyped name must be to a known one (of 1) to be taken for it."""


def nearest(
    name: str,
    known: Iterable[str],
    elsewhere: Mapping[str, str] = MappingProxyType({}),
    shown: Callable[[str], str] = str,
) -> str:
    """A hint for a mistyped name: " (did you mean 'x'?)" or the empty string. `elsewhere` has names that are not known
    here, and what they are called here. `shown` turns a name into what the user would write."""
    by_lower = {**{one.lower(): one for one in known}, **elsewhere}
    near = difflib.get_close_matches(name.lower(), list(by_lower), 1, LIKENESS)
    return f" (did you mean {shown(by_lower[near[0]])!r}?)" if near else ""


def quoted(value: Any) -> str:
    """The end of an error message that tells what an option got. It is empty if the value may contain a url."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - of a foreign class, or an int of more than 4,300 digits
        return ""
    return "" if "://" in text else f", got {text}"


def is_none(value: Any) -> bool:
    return value is None or (isinstance(value, str) and value.lower() == "none")


def number(
    *, above: int | None = None, least: int | None = None, most: int, whole: bool = False, none: bool = False
) -> Parser:
    """A number greater than `above`, or not less than `least`, and not more than `most`. With `none` also None."""
    kind = "a whole number" if whole else "a number"
    bounds = f"> {above}" if above is not None else f">= {least}"

    def parse(value: Any) -> float | int | None:
        if none and is_none(value):
            return None
        if isinstance(value, bool) or not isinstance(value, (int, float, str)):
            raise ValueError(value)
        if whole and isinstance(value, float):
            raise ValueError(value)
        given = int(value) if whole else float(value)
        enough = given > above if above is not None else given >= (least or 0)
        if not (enough and given <= most):
            raise ValueError(value)
        return given

    return Parser(f"{kind} {bounds} and <= {most}" + (" or none" if none else ""), parse)


def choice(*names: str) -> Parser:
    def parse(value: Any) -> str:
        if value in names:
            return str(value)
        raise ValueError(nearest(str(value), names))

    return Parser("one of " + ", ".join(names), parse)


def named(*names: str) -> Parser:
    """One of a few names, or a class of the application's own, or its ``module:name``."""

    def parse(value: Any) -> Any:
        if isinstance(value, str) and ":" not in value:
            return choice(*names)(value)
        return _class(value)

    return Parser("one of " + ", ".join(names) + ", or a class, or its module:name", parse)


def _class(value: Any) -> Any:
    found = _imported(value) if isinstance(value, str) else value
    if not isinstance(found, type):
        raise ValueError(value)
    return found


def class_() -> Parser:
    return Parser("a class, or its module:name", lambda value: None if value is None else _class(value))


def string(*, none: bool = False) -> Parser:
    def parse(value: Any) -> str | None:
        if none and is_none(value):
            return None
        if not isinstance(value, str) or not value:
            raise ValueError(value)
        return value

    return Parser("a string" + (" or none" if none else ""), parse)


def _statements(value: Any) -> tuple[str, ...]:
    if is_none(value):
        return ()
    lines = value.splitlines() if isinstance(value, str) else list(value)
    if not all(isinstance(line, str) for line in lines):
        raise ValueError(value)
    return tuple(line.strip() for line in lines if line.strip())


def _imported(value: str) -> Any:
    module, separator, name = value.partition(":")
    if not separator or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        # It may be a url. Then the error below would quote it, because "mysql" is also the name of a module.
        raise ValueError(value)
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise ValueError(f" ({error})") from None
    return found


def function(*words: str) -> Parser:
    """A callable, or its ``module:name``, or one of a few words."""

    def parse(value: Any) -> Any:
        if value is None or value in words:
            return value
        found = _imported(value) if isinstance(value, str) else value
        if not callable(found):
            raise ValueError(value)
        return found

    return Parser(" or ".join(["a callable, or its module:name", *words]), parse)


def _arguments(value: Any) -> Any:
    if is_none(value):
        return {}
    found = _imported(value) if isinstance(value, str) else value
    if callable(found):
        return found
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise ValueError(value)
    return dict(found)


def _paths(value: Any) -> Any:
    if is_none(value):
        return ()
    if callable(value):
        return value
    if isinstance(value, str) and ":" in value:
        found = _imported(value)
        if not callable(found):
            raise ValueError(value)
        return found
    paths = value.replace(",", " ").split() if isinstance(value, str) else list(value)
    for path in paths:
        if not isinstance(path, str) or not path.startswith("/") or not path.strip("/"):
            raise ValueError("" if path == value else f" (namely {path!r})")
    return tuple(path.rstrip("/") for path in paths)


def _path(value: Any) -> str | None:
    if is_none(value):
        return None
    if not isinstance(value, str) or not value.startswith("/") or not value.strip("/"):
        raise ValueError(value)
    return value.rstrip("/")


def _directory(value: Any) -> str | None:
    if is_none(value):
        return None
    if not isinstance(value, str) or not value or "://" in value:
        raise ValueError(value)
    return value


def _creator(value: Any) -> Any:
    found = _imported(value) if isinstance(value, str) else value
    if found is not None and not callable(found) and not hasattr(found, "raw_connection"):
        raise ValueError(value)
    return found


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(value)
    return boolean(value)


directory = Parser("a directory, or none", _directory)
path = Parser("a path that begins with /, or none", _path)
flag = Parser("true or false", _flag)
creator = Parser("a callable or a SQLAlchemy Engine, or the module:name of either", _creator)
statements = Parser("a list of statements, a string with one per line, or none", _statements)
arguments = Parser("a dict, a callable that returns one, the module:name of either, or none", _arguments)
paths = Parser(
    "path prefixes that begin with / (a list, or a string with spaces or commas), a callable, its module:name, or none",
    _paths,
)
