"""An application that writes notes and reads them, and tells which server it was: in the test's process, or served with
the urls of the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from wsgidb import DatabaseMiddleware

TABLE = "CREATE TABLE notes (n INT PRIMARY KEY)"
Start = Callable[..., Any]


def run(conn: Any, sql: str, *args: object) -> list[Any]:
    cursor = conn.cursor()
    try:
        cursor.execute(sql, args)
        return list(cursor.fetchall()) if cursor.description else []
    finally:
        cursor.close()


def port(conn: Any) -> int:
    """Which server it is."""
    sql = "SELECT inet_server_port()" if "psycopg" in str(conn.__class__) else "SELECT @@port"
    return int(run(conn, sql)[0][0])


def write(conn: Any, n: int) -> None:
    run(conn, "INSERT INTO notes VALUES (%s)", n)


def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    """Paths: /write/1, /read/1, /both/1 (which writes with the primary's connection and reads with the usual one), and
    /early/1, which sends its head before it writes."""
    _, what, number = environ["PATH_INFO"].split("/")
    conn, n = environ["db.conn"], int(number)
    if what == "early":
        start_response("200 OK", [])(b"begun")
    if what == "both":
        write(environ["db.primary"], n)
        environ["db.primary"].commit()
    elif what != "read":
        write(conn, n)
        conn.commit()
    found = run(conn, "SELECT n FROM notes WHERE n = %s", n)
    text = f"{'found' if found else 'missing'} {port(conn)}".encode()
    if what != "early":
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text]


def served() -> DatabaseMiddleware:
    return DatabaseMiddleware(application)


if "WSGIDB_URL" in os.environ:
    site = served()
