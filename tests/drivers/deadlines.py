"""Measuring that something ends at its deadline, in real time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from drivers.cases import ERRORS
from wsgidb.config.settings import Settings
from wsgidb.drivers import make_driver
from wsgidb.drivers.base import Driver

LIMIT = 0.3
MARGIN = 5.0
"""Seconds over the deadline that a busy machine may take. Without the guard it would be 7 (READ_TIMEOUT) at least."""
READ_TIMEOUT = 7
"""Of the driver's own, where one is set beside the deadline."""


def driver_of(url: str, **options: Any) -> Driver:
    return make_driver(Settings.of({"url": url, **options}))


@contextmanager
def over_at_deadline(margin: float = MARGIN) -> Iterator[float]:
    """Give a deadline; what is done with it must raise, not before it (but for a slow clock), nor long after."""
    began = time.monotonic()
    with pytest.raises(ERRORS):
        yield began + LIMIT
    assert LIMIT - 0.05 <= time.monotonic() - began < LIMIT + margin
