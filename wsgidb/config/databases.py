"""The parser of an option that takes further databases."""

from __future__ import annotations

from typing import Any

from .url import Url
from .values import Parser, is_none


def _several(value: Any) -> tuple[Any, ...]:
    if is_none(value):
        return ()
    given = value.split() if isinstance(value, str) else list(value)
    return tuple(each if isinstance(each, Url) or hasattr(each, "settings") else Url.parse(each) for each in given)


several = Parser("urls or Databases (a list, or a string with spaces or lines between urls), or none", _several)
