"""The drivers: one room each, imported only when a url asks for it."""

from __future__ import annotations

import importlib
import time

from ..errors import ConfigError
from ..settings import Settings
from ..values import nearest
from .base import Clock, Driver

__all__ = ["DRIVERS", "SHORT", "Driver", "make_driver"]

SHORT = {"mysql": "mysql+pymysql"}
DRIVERS = {
    "mysql+pymysql": ("pymysql", "PyMySQL", "mysql"),
    "sqlite": ("sqlite", "SQLite", None),
}
"""By scheme: the room, its class, and the extra that installs the package it needs."""


def make_driver(settings: Settings, clock: Clock = time.monotonic) -> Driver:
    """The driver for the settings' url or creator. Raises ConfigError where it is unknown or not installed."""
    if settings.url is None:
        from .generic import Generic

        return Generic(settings, clock)
    scheme = SHORT.get(settings.url.scheme, settings.url.scheme)
    if scheme not in DRIVERS:
        known = [*DRIVERS, *SHORT]
        raise ConfigError(f"url: unknown scheme {scheme!r}{nearest(scheme, known)}; takes {', '.join(known)}")
    room, name, extra = DRIVERS[scheme]
    try:
        module = importlib.import_module(f"{__name__}.{room}")
    except ModuleNotFoundError as error:
        if extra is None or error.name is None or error.name.startswith(__name__.partition(".")[0]):
            raise
        raise ConfigError(f"url: {scheme} needs the package {error.name}: pip install 'wsgidb[{extra}]'") from None
    driver: Driver = getattr(module, name)(settings, clock)
    return driver
