"""The options as keyword arguments, which type checkers and editors read, agree with the option table."""

from __future__ import annotations

import ast
import collections.abc
import inspect
import re
import types
import typing
from typing import Any

import pytest

from wsgidb import keywords
from wsgidb.config.options import OF_MIDDLEWARE, OPTIONS
from wsgidb.drivers import Driver
from wsgidb.strategies import Store
from wsgidb.testing import ONE_CONNECTION

HINTS = typing.get_type_hints(keywords.DatabaseOptions)


def keys(group: Any) -> set[str]:
    return set(group.__annotations__)


def test_every_option_is_a_keyword_of_one_group() -> None:
    """The groups have all options of the table and no others, and tell the middleware's from the database's."""
    groups = [keys(group) for group in (keywords.ConnectionOptions, keywords.PoolOptions, keywords.MiddlewareOptions)]
    assert sum(map(len, groups)) == len(OPTIONS)
    assert set().union(*groups) == HINTS.keys() == OPTIONS.keys()
    middleware = OF_MIDDLEWARE
    assert keys(keywords.MiddlewareOptions) == middleware


def test_a_sandbox_sets_the_options_of_its_pool_itself() -> None:
    """SandboxDatabase takes all groups but one, and sets or refuses the options of that one."""
    assert keys(keywords.PoolOptions) == ONE_CONNECTION.keys() | {"strategy_args"}
    assert not keys(keywords.SandboxOptions) & keys(keywords.PoolOptions)


def described(name: str) -> str:
    """What the docstring of a keyword must say."""
    row = OPTIONS[name].metadata
    default = None if row["default"] in ((), {}) else row["default"]
    shown = f"{default:g}" if isinstance(default, float) else default
    unit = f" Unit: {row['unit']}." if row["unit"] else ""
    return f"{row['meaning']}{unit} Default: {shown}."


def test_each_keyword_is_described_as_in_the_table() -> None:
    """An editor shows the option's meaning, unit and default."""
    found = {}
    for node in ast.walk(ast.parse(inspect.getsource(keywords))):
        if isinstance(node, ast.ClassDef):
            for field, text in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
                    assert isinstance(text, ast.Expr), field.target.id
                    found[field.target.id] = re.sub(r"\s+", " ", ast.literal_eval(text.value))
    assert found == {name: described(name) for name in OPTIONS}


class Engine:
    """As far as wsgidb looks at a SQLAlchemy Engine."""

    def raw_connection(self) -> Any: ...


def fits(value: Any, hint: Any) -> bool:
    """Whether a type checker accepts the value for this type."""
    kind, arguments = typing.get_origin(hint) or hint, typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return any(fits(value, one) for one in arguments)
    if kind is typing.Literal:
        return value in arguments
    if kind is type:
        return isinstance(value, type) and issubclass(value, arguments[0])
    if kind is keywords.Engine:
        return hasattr(value, "raw_connection")
    if kind is float:
        return type(value) in (int, float)
    if kind is collections.abc.Iterable:
        return isinstance(value, kind) and all(isinstance(one, str) for one in value)
    return isinstance(value, kind) and not (kind is int and isinstance(value, bool))


def takes(name: str, value: Any) -> bool:
    """Whether the option takes the value, other than as a text form of something else."""
    try:
        parsed = OPTIONS[name].metadata["takes"](value)
    except (ValueError, TypeError):
        return False
    return not isinstance(value, str) or parsed == value or name in ("url", "exclude", "init_sql", "replicas")


VALUES = [None, 5, 2.5, True, [], ["/a"], ("/a", "/b"), {"/a"}, {"/a": 1}, 1j, b"/a", len, Engine(), [5], object()]
URLS = [["sqlite:///a"], ("sqlite:///a", "sqlite:///b")]
WORDS = sorted({word for option in OPTIONS.values() for word in re.findall(r"[\w-]+", option.metadata["takes"].takes)})


@pytest.mark.parametrize("name", OPTIONS)
def test_the_types_are_those_that_the_option_takes(name: str) -> None:
    """A type checker accepts a value exactly if the option takes it, apart from bounds and text forms."""
    classes: dict[str, list[Any]] = {"driver": [Driver], "strategy": [Store]}
    values = [*VALUES, *classes.get(name, [])]
    if name == "replicas":  # its strings are urls
        values = [*URLS, *(value for value in values if not isinstance(value, (list, tuple, set, dict)))]
    assert [value for value in values if takes(name, value) != fits(value, HINTS[name])] == []
    if fits("no word of the table", HINTS[name]):  # any string
        assert OPTIONS[name].metadata["takes"](f"{'sqlite://' if name in ('url', 'replicas') else ''}/a")
    else:
        assert [word for word in WORDS if takes(name, word) != fits(word, HINTS[name])] == []
