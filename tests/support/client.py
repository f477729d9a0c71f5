"""A plain PyMySQL client for tests, so that a test can look at a server without the package under test."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

import pymysql


def connect(url: str, **options: Any) -> pymysql.Connection[Any]:
    """Connect to *url* (as `MariaDB.url` makes it), without TLS unless *options* say so, and with time limits."""
    parts = urlsplit(url)
    if not any(name.startswith("ssl") for name in options):
        options["ssl_disabled"] = True
    defaults: dict[str, Any] = {"connect_timeout": 10, "read_timeout": 10, "write_timeout": 10}
    return pymysql.connect(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        database=unquote(parts.path.lstrip("/")),
        **{**defaults, **options},
    )


def value(connection: pymysql.Connection[Any], sql: str) -> Any:
    """The single value that *sql* gives."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
        assert row is not None, f"no row: {sql}"
        return row[0]
