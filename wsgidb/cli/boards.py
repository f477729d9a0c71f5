"""Reading a board for a command."""

from __future__ import annotations

import os
import sys

from ..observe.sources import Pool, pools_of_board
from .log import kept


class NothingToTell(Exception):
    """A board is empty, or cannot be read. The text is a sentence for the user."""


def pools(directory: str) -> list[Pool]:
    """The pools of a board, of which there is one at least. Blocks for reading its files only. What is wrong with some
    of them goes to standard error.

    Raises NothingToTell."""
    try:
        found = _pools(directory)
    except OSError as error:
        raise NothingToTell(f"{directory} cannot be read: {error.strerror}") from error
    if not found:
        raise NothingToTell(f"{directory} has no statistics: no process has written any (option board)")
    return found


def _pools(directory: str) -> list[Pool]:
    from ..observe.board import DEPARTED, SUFFIX  # only where there are locks of files

    names = os.listdir(directory) if os.path.lexists(directory) else []
    if not any(name.endswith(SUFFIX) or name == DEPARTED for name in names):
        return []  # without a reader's lock, which would be left in a directory that is no board
    with kept() as warnings:
        found = pools_of_board(directory)
    for warning in warnings:
        print(f"wsgidb: {warning}", file=sys.stderr)
    return found
