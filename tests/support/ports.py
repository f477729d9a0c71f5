"""A port that stays one's own while nobody listens on it."""

from __future__ import annotations

import socket


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
