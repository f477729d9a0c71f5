"""A port that stays one's own while nobody listens on it."""

from __future__ import annotations

import socket
from pathlib import Path


def bind(port: int = 0) -> socket.socket:
    """A socket bound to *port* on loopback (0: a free one), not listening yet.

    Kept open like that it reserves the port: whoever comes later with SO_REUSEADDR can listen on it,
    but the kernel gives it to nobody by itself, neither to another server nor to an outgoing connection.
    """
    bound = socket.socket()
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", port))
    except BaseException:
        bound.close()
        raise
    return bound


def connected(port: int) -> int:
    """How many clients' sockets are connected to this port of loopback, and have not heard of an end."""
    lines = Path("/proc/net/tcp").read_text().splitlines()[1:]
    return sum(remote.endswith(f":{port:04X}") and state == "01" for _, _, remote, state, *_ in map(str.split, lines))
