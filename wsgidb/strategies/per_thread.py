"""What the stores with a connection per thread have in common: the servers where that makes no sense."""

from __future__ import annotations

import logging
import sys
import threading

from .base import Store

log = logging.getLogger("wsgidb")


class PerThread(Store):
    _warned = False

    def _warn_once(self) -> None:
        """To be called for each new thread: at the start of service, which is when it can be known."""
        reason = None if self._warned else _pointless()
        if reason is not None:
            self._warned = True
            name = self._settings.strategy_name
            log.warning("strategy %s keeps no connection here: %s; pooled is the better choice", name, reason)


def _pointless() -> str | None:
    """Why a connection per thread is no good on this server, where that can be known."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and monkey.is_module_patched("threading"):
        return "gevent makes it one connection per greenlet, that is per client or request"
    if "process_request_thread" in threading.current_thread().name:  # socketserver.ThreadingMixIn
        return "this server starts a thread for every request"
    return None
