"""Whether a Database has metrics, and registering them: by itself, where OpenTelemetry is installed."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec

from ..config.settings import Settings
from ..pool.stats import Stats
from .durations import Timings

log = logging.getLogger("wsgidb")


def wanted(settings: Settings) -> bool:
    """Whether metrics can be had and are not switched off. Imports nothing where OpenTelemetry is missing."""
    return settings.telemetry and find_spec("opentelemetry") is not None


def register(settings: Settings, stats: Callable[[], Stats], timings: Timings) -> None:
    """Register the instruments of a Database, whose bound method `stats` is. Never raises: metrics that cannot be had
    are a warning in the log, and no reason for an application not to start."""
    try:
        from . import opentelemetry

        opentelemetry.register(settings.pool_name, settings.most_connections, stats, timings)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with that package, requests go on
        log.warning("%s: no metrics: %s: %s", settings.address, type(error).__name__, error)
