"""The names of pools, by which metrics and the status page tell them apart."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakValueDictionary

_lock = threading.Lock()  # guards `_owners`
_owners: WeakValueDictionary[str, Any] = WeakValueDictionary()


def claim(name: str, owner: Any) -> str:
    """A name that no other owner in this process has, as long as the owner lives: `name`, or else `name` with the first
    number that is free, such as shop#2."""
    with _lock:
        number = 1
        found = name
        while found in _owners:
            number += 1
            found = f"{name}#{number}"
        _owners[found] = owner
        return found
