"""Registering the metrics of a Database: by itself, where OpenTelemetry is installed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec

from ..config.settings import Settings
from ..pool.stats import Stats

log = logging.getLogger("wsgidb")


def register(settings: Settings, name: str, stats: Callable[[], Stats]) -> None:
    """Register the instruments of a Database, whose bound method `stats` is, unless they are switched off. Imports
    nothing where OpenTelemetry is missing.

    Never raises: metrics that cannot be had are a warning in the log, and no reason for an application not to start."""
    try:
        if settings.telemetry and find_spec("opentelemetry") is not None:
            from . import opentelemetry

            opentelemetry.register(name, stats)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with that package, requests go on
        log.warning("%s: no metrics: %s: %s", settings.address, type(error).__name__, error)
