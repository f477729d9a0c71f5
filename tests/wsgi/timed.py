"""What the servers in test_server_timing.py serve."""

from __future__ import annotations

import os
from itertools import count
from typing import Any

from support.waiting import until
from wsgidb import DatabaseMiddleware

requests = count()


def sleeping(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if next(requests) == 0:
        until(lambda: application.database.stats().waiting, what="the other request to wait")
    environ["db.conn"].cursor().execute("SELECT SLEEP(0.25)")
    start_response("200 OK", [("Content-Type", "text/plain"), ("Server-Timing", "app;dur=1")])
    return [b"slept"]


application = DatabaseMiddleware(sleeping, os.environ["TIMED_URL"], pool_size=1, server_timing=True)
