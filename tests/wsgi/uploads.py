"""What the servers in test_slow_uploads.py serve: an application that reads its request's body before it uses the
database, as frameworks do."""

from __future__ import annotations

import os
from typing import Any

from wsgidb import Database, DatabaseMiddleware

database = Database(os.environ["UPLOADS_URL"], pool_size=2, max_waiting=0)
reading: list[None] = []
"""An item for each handler that reads; a list's methods are atomic."""


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] == "/state":
        text = f"{len(reading)} {database.stats().leased}"
    else:
        reading.append(None)
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        reading.pop()
        (number,) = environ["db.conn"].execute("SELECT 42").fetchone()
        text = str(number)
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]


acquire: Any = os.environ["UPLOADS_ACQUIRE"]
application_in_middleware = DatabaseMiddleware(application, database, exclude=["/state"], acquire=acquire)
