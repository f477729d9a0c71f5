"""The option table: all options of one Database and its middleware."""

from __future__ import annotations

from dataclasses import dataclass, fields

from .connection_options import ConnectionOptions
from .middleware_options import MiddlewareOptions
from .pool_options import PoolOptions


# A dataclass takes its bases' fields from the last one to the first.
@dataclass(frozen=True, kw_only=True)
class Options(MiddlewareOptions, PoolOptions, ConnectionOptions):
    """The options of one Database and its middleware, one attribute each."""


OPTIONS = {option.name: option for option in fields(Options)}
"""The rows of the table by name. A row's metadata has the arguments of `option`."""

OF_MIDDLEWARE = frozenset(option.name for option in fields(MiddlewareOptions))
"""The names of the options that are the middleware's."""
