"""What the middleware reads of a request."""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from ..strategies import Request
from .exchange import Environ

_names = itemgetter("REQUEST_METHOD", "SCRIPT_NAME", "PATH_INFO")


def request_of(environ: Environ) -> Request:
    """How log lines name the request."""
    try:
        names: Request = _names(environ)
        return names
    except KeyError:  # PEP 3333: an empty SCRIPT_NAME or PATH_INFO may be missing
        return environ.get("REQUEST_METHOD", ""), environ.get("SCRIPT_NAME", ""), environ.get("PATH_INFO", "")


def excluder(exclude: Any) -> Callable[[Environ], Any] | None:
    """Make a function of environ from the option `exclude`. /static matches /static and /static/x, not /statics."""
    if callable(exclude) or not exclude:
        return exclude or None
    below = tuple(f"{prefix}/" for prefix in exclude)

    def excludes(environ: Environ) -> bool:
        return f"{environ.get('PATH_INFO', '')}/".startswith(below)

    return excludes
