"""One option: a row of the table, in which its name, default, accepted values and meaning stand once.

Error messages, the names of environment variables and docs/options.md are derived from the table, and `keywords` is
compared with it by a test."""

from __future__ import annotations

from dataclasses import field
from typing import Any

from . import values

# Time limits need a bound, because drivers and poll() hold them as milliseconds in 32 bits: above 24 days some raise
# OverflowError, and others wrap around to a short time.
WEEK = 604_800
YEAR = 31_536_000


def option(default: Any, takes: values.Parser, meaning: str, *, unit: str = "", hidden: bool = False) -> Any:
    """One row of the table. A `hidden` value may contain a password, so no repr shows it."""
    metadata = {"takes": takes, "meaning": meaning, "unit": unit, "default": default}
    if isinstance(default, dict):
        return field(default_factory=lambda: dict(default), repr=not hidden, metadata=metadata)
    return field(default=default, repr=not hidden, metadata=metadata)
