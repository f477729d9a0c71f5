"""The names of pools, by which metrics and the status page tell them apart."""

from __future__ import annotations

import threading
from typing import Any
from weakref import WeakValueDictionary

_lock = threading.RLock()  # guards `_owners`; reentrant, as garbage collection may close a Database meanwhile
_owners: WeakValueDictionary[str, Any] = WeakValueDictionary()


def claim(name: str, owner: Any) -> str:
    """A name that no other owner in this process has, until it is given up or the owner is gone: `name`, or else `name`
    with the first number that is free, such as shop#2."""
    with _lock:
        number = 1
        found = name
        while found in _owners:
            number += 1
            found = f"{name}#{number}"
        _owners[found] = owner
        return found


def give_up(name: str, owner: Any) -> None:
    """Let others have the name, if this owner has it."""
    with _lock:
        if _owners.get(name) is owner:
            del _owners[name]
