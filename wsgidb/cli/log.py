"""What wsgidb's log says while a command runs: it is kept, as part of what the command prints itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


class Kept(logging.Handler):
    """Keeps warnings and errors."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append(record.getMessage())


@contextmanager
def kept() -> Iterator[list[str]]:
    """The warnings that are logged meanwhile, which appear nowhere else."""
    logger = logging.getLogger("wsgidb")
    handler, propagate = Kept(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler.said
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate
