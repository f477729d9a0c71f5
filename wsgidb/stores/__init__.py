"""The strategies: a store each."""

from __future__ import annotations

from .base import Slot, Store
from .per_request import PerRequest
from .pooled import Pooled
from .thread_local import ThreadLocal

__all__ = ["STORES", "Slot", "Store"]

STORES: dict[str, type[Store]] = {
    "per-request": PerRequest,
    "thread-local": ThreadLocal,
    "pooled": Pooled,
}
