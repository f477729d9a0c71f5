"""The table of servers in docs/compatibility.md, made from the servers that the tests run."""

from __future__ import annotations

from pathlib import Path

from support.pages import Row, Table
from support.server_kinds import SERVERS, Kind

CHECKS = {
    "keep-alive": "keep-alive",
    "chunks": "chunked streams",
    "stop": "graceful stop",
    "reload": "reload",
    "recycling": "recycling",
}
"""The checks that not every server passes, each with the heading of its column."""


def row(name: str, kind: Kind) -> Row:
    cells = (f"✘ {kind.cannot[check]}" if check in kind.cannot else "✔" for check in CHECKS)
    return (name, kind.shown, *cells, kind.know)


ROWS = {(name, kind.shown): row(name, kind) for name, kind in SERVERS.items()}
TABLE = Table(
    Path(__file__).parents[2] / "docs" / "compatibility.md",
    "servers",
    ("server", "how to run it", *CHECKS.values(), "what to know"),
    ROWS,
)
