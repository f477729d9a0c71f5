"""Rooms that are imported only when the configuration asks for them, as they may need a package of their own."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import ConfigError


def load(package: str, room: str, name: str, extra: str | None, asked: str) -> Any:
    """`name` of a room of one of our packages. Raises ConfigError where the room's own package is not installed, or not
    whole; `asked` tells what asked for it, and `extra` how to install it."""
    try:
        return getattr(importlib.import_module(f"{package}.{room}"), name)
    except ModuleNotFoundError as error:
        ours = package.partition(".")[0]
        if extra is None or error.name is None or error.name.partition(".")[0] == ours:
            raise
        raise ConfigError(f"{asked} needs the package {error.name}: pip install 'wsgidb[{extra}]'") from None
    except ImportError as error:  # a library that the package needs is not there, say
        raise ConfigError(f"{asked} cannot be loaded: {error}") from error


def own(option: str, cls: type, contract: type, where: str) -> type:
    """A class of the user's, in place of a room of ours. Raises ConfigError where it cannot fulfil the contract."""
    if not issubclass(cls, contract):
        raise ConfigError(f"{option}: {cls.__name__} is no subclass of {where}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise ConfigError(f"{option}: {cls.__name__} has no {', '.join(missing)}")
    return cls
