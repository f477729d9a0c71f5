"""What a database server says of itself, as far as it concerns those who connect to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..config.settings import Settings
from ..database import Database

Ask = Callable[[str], Any]
Facts = dict[str, Any]


def facts(settings: Settings) -> Facts:
    """Connect once and ask. Blocks up to acquire_timeout, and as long as the questions take.

    Raises DatabaseUnavailable, or the driver's error."""
    with Database(settings) as database:
        began = time.monotonic()
        with database.connection() as conn:
            connected = time.monotonic() - began
            cursor = conn.cursor()

            def ask(sql: str) -> Any:
                cursor.execute(sql)
                rows = cursor.fetchall()
                return rows[0] if rows else None

            scheme = settings.url.scheme if settings.url is not None else ""
            about = next((found for start, found in ABOUT.items() if scheme.startswith(start)), None)
            told = {} if about is None else about(ask)
            conn.rollback()
        return {"connect_seconds": connected, "round_trip_seconds": database.check(), **told}


def _mysql(ask: Ask) -> Facts:
    """https://mariadb.com/kb/en/server-system-variables/"""
    version, most, idle, read_only = ask("SELECT VERSION(), @@max_connections, @@wait_timeout, @@read_only")
    _, cipher = ask("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
    return {
        "server": "MariaDB" if "mariadb" in version.lower() else "MySQL",
        "version": version,
        "tls": cipher or None,
        "max_connections": int(most),
        "idle_timeout": float(idle),
        "read_only": bool(int(read_only)),
    }


def _postgresql(ask: Ask) -> Facts:
    """https://www.postgresql.org/docs/current/runtime-config.html"""
    (version,), (most,) = ask("SHOW server_version"), ask("SHOW max_connections")
    milliseconds = "SELECT COALESCE(MAX(setting::float), 0) FROM pg_settings WHERE name = 'idle_session_timeout'"
    (idle,) = ask(milliseconds)
    (read_only,) = ask("SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::bool")
    (cipher,) = ask("SELECT (SELECT cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid())")
    return {
        "server": "PostgreSQL",
        "version": version,
        "tls": cipher or None,
        "max_connections": int(most),
        "idle_timeout": idle * 0.001 or None,
        "read_only": bool(read_only),
    }


def _sqlite(ask: Ask) -> Facts:
    (version,), (journal,) = ask("SELECT sqlite_version()"), ask("PRAGMA journal_mode")
    return {"server": "SQLite", "version": version, "journal_mode": journal}


ABOUT: Mapping[str, Callable[[Ask], Facts]] = {"mysql": _mysql, "postgresql": _postgresql, "sqlite": _sqlite}
"""By the beginning of a url's scheme."""


def advice(told: Facts, settings: Settings) -> list[str]:
    """What does not fit together, in sentences."""
    found = []
    idle = told.get("idle_timeout")
    if idle is not None and (settings.max_idle is None or settings.max_idle >= idle):
        kept = "for ever" if settings.max_idle is None else f"for {settings.max_idle:g} s (max_idle)"
        found.append(
            f"The server closes idle connections after {idle:g} s, and wsgidb keeps them {kept}: "
            "set max_idle below it."
        )
    if told.get("read_only"):
        found.append("The server takes no writes: it is read-only, or a standby.")
    most = told.get("max_connections")
    if most is not None and settings.most_connections is not None:
        workers = most // settings.most_connections
        if workers < 2:
            each = settings.most_connections
            found.append(f"The server allows {most} connections, and each process may open {each} (pool_size).")
    return found
