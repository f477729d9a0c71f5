"""What the stores with a connection per thread have in common."""

from __future__ import annotations

import logging
import sys
import threading

from .base import Slot, Store

log = logging.getLogger("wsgidb")


class PerThread(Store):
    """A store that keeps a slot for each thread."""

    _warned = False

    def _warn_once(self) -> None:
        """Warn, once, if a connection per thread is pointless here. A store calls this for each new thread, as it
        cannot be known before requests are served."""
        reason = None if self._warned else _pointless()
        if reason is not None:
            self._warned = True
            name = self._settings.strategy_name
            log.warning("strategy %s keeps no connection here: %s; use strategy pooled instead", name, reason)

    def claim(self) -> Slot | None:
        slot = self.take()
        if slot is None or slot.raw is None:
            return slot
        self.put(slot)
        return None


def _pointless() -> str | None:
    """Why a connection per thread is pointless on this server, or None as far as is known."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return "with gevent each greenlet counts as a thread, so that each client or request gets its own connection"
    if "process_request_thread" in threading.current_thread().name:  # socketserver.ThreadingMixIn
        return "this server starts a thread for every request"
    return None
