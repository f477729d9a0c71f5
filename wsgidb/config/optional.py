"""Modules that are imported only when the configuration needs them, because they may need a package of their own."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from ..errors import ConfigError

PACKAGES = {
    "mysql": "pymysql",
    "mysqlclient": "MySQLdb",
    "mysqlconnector": "mysql.connector",
    "postgresql": "psycopg",
    "dbutils": "dbutils",
    "sqlalchemy": "sqlalchemy",
    "status": "jinja2",
}
"""By extra of wsgidb: the package that it installs."""


def load(package: str, module: str, name: str, extra: str | None, asked: str) -> Any:
    """Import `name` from a module of one of wsgidb's packages.

    Raises ConfigError if the third-party package that the module needs is not installed or cannot be imported. `asked`
    names the option that needs it, and `extra` is the extra of wsgidb that installs it; None means that nothing is
    needed."""
    try:
        return getattr(importlib.import_module(f"{package}.{module}"), name)
    except Exception as error:
        if extra is None or isinstance(error, ConfigError):
            raise
        needed = PACKAGES[extra]
        place = _place(needed)
        if place is not None:
            raise ConfigError(
                f"{asked} needs the package {needed}, which is installed ({place}) but cannot be imported: "
                f"{type(error).__name__}: {error}",
                entry="config-packages",
            ) from error
    raise ConfigError(f"{asked} needs the package {needed}: pip install 'wsgidb[{extra}]'", entry="config-packages")


def _place(package: str) -> str | None:
    """Where a package is installed, or None if it is not."""
    try:
        spec = importlib.util.find_spec(package)
    except (ImportError, ValueError):  # of a dotted name: the outer package is missing, or is something else
        return None
    return None if spec is None else str(spec.origin)


def own(option: str, cls: type, contract: type, where: str) -> type:
    """Check a class that the application gave in place of one of wsgidb's. Raises ConfigError if it is no subclass of
    `contract`, or if it does not implement all of it. `where` is what the error calls the contract."""
    if not issubclass(cls, contract):
        raise ConfigError(f"{option}: {cls.__name__} is not a subclass of {where}", entry="config-own-classes")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise ConfigError(
            f"{option}: {cls.__name__} does not implement {', '.join(missing)}", entry="config-own-classes"
        )
    return cls
