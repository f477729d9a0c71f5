"""Modules that are imported only when the configuration needs them, because they may need a package of their own."""

from __future__ import annotations

import importlib
from typing import Any

from ..errors import ConfigError


def load(package: str, module: str, name: str, extra: str | None, asked: str) -> Any:
    """Import `name` from a module of one of wsgidb's packages.

    Raises ConfigError if a third-party package that the module needs is not installed or cannot be imported. `asked`
    names the option that needs it, and `extra` is the extra of wsgidb that installs it."""
    try:
        return getattr(importlib.import_module(f"{package}.{module}"), name)
    except ModuleNotFoundError as error:
        ours = package.partition(".")[0]
        if extra is None or error.name is None or error.name.partition(".")[0] == ours:
            raise
        raise ConfigError(f"{asked} needs the package {error.name}: pip install 'wsgidb[{extra}]'") from None
    except ImportError as error:  # for example, because a system library is missing
        raise ConfigError(f"{asked} cannot be loaded: {error}") from error


def own(option: str, cls: type, contract: type, where: str) -> type:
    """Check a class that the application gave in place of one of wsgidb's. Raises ConfigError if it is no subclass of
    `contract`, or if it does not implement all of it. `where` is what the error calls the contract."""
    if not issubclass(cls, contract):
        raise ConfigError(f"{option}: {cls.__name__} is not a subclass of {where}")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise ConfigError(f"{option}: {cls.__name__} does not implement {', '.join(missing)}")
    return cls
