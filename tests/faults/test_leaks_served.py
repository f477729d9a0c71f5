"""Leaks on real servers: the log's stack has the line of the application that holds the connection."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import pytest

import wsgidb
from support.mariadb import MariaDB
from support.rawhttp import request
from support.servers import Server
from support.waiting import until

pytestmark = [pytest.mark.slow, pytest.mark.server]

TESTS = Path(__file__).parents[1]
LEAKING = TESTS / "faults" / "leaking.py"
HOLDING = {
    text.partition("# holds: ")[2]: number
    for number, text in enumerate(LEAKING.read_text().splitlines(), 1)
    if "# holds: " in text
}
"""The line that holds the connection, by path."""


CASES = [(server, "request", path) for server in ("gunicorn gthread", "Waitress", "uWSGI") for path in HOLDING]
CASES += [("Waitress", "first-use", path) for path in HOLDING if path != "/unused"]


@pytest.mark.parametrize(("server", "acquire", "path"), CASES)
def test_the_log_has_the_line_of_the_application(
    server: str, acquire: str, path: str, mariadb: MariaDB, tmp_path: Path
) -> None:
    """leak_after: a handler that waits, in a statement or elsewhere, a body that waits or that the client does not
    read, and a thread in the background."""
    places = [str(TESTS), str(Path(wsgidb.__file__).parents[1])]
    told: dict[str, Any] = {"LEAKING_URL": mariadb.url(), "LEAKING_ACQUIRE": acquire}
    with Server(server, "faults.leaking:application", tmp_path / "log", places, 8, **told) as running:
        with socket.create_connection(("127.0.0.1", running.port), timeout=30) as client:
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())

            def reported() -> bool:
                assert request(running.port, "/touch").body == b"touched"
                return f"GET {path}: has held a connection" in running.said

            until(reported, what="the report")
        assert request(running.port, "/release").status == 200
        report = re.search(rf"GET {path}: has held a connection.*\n((?:  .*\n)+)", running.said)
        assert report is not None
        name = {"/background": "work"}.get(path, path[1:])
        assert f'File "{LEAKING}", line {HOLDING[path]}, in {name}\n' in report[1]
