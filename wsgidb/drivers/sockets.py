"""Sockets as all networked drivers use them: a free liveness check, and a TCP connect under one deadline."""

from __future__ import annotations

import ctypes
import os
import select
import socket
from functools import lru_cache, partial
from math import ceil
from typing import Any

from .states import Check, Clock

MINIMUM = 0.001
"""A socket timeout of 0 would mean non-blocking, so what is left of a deadline is never less than this."""


def remaining(deadline: float, clock: Clock) -> float:
    return max(deadline - clock(), MINIMUM)


class _PollFD(ctypes.Structure):
    """struct pollfd of poll(2)."""

    _fields_ = (("fd", ctypes.c_int), ("events", ctypes.c_short), ("revents", ctypes.c_short))


_poll = ctypes.PyDLL(None).poll
_ONE = ctypes.c_ulong(1)


def watch(descriptor: int) -> Check:
    """A check that is true when anything can be read from the socket, or its peer has closed it.

    poll(2) with a timeout of 0 costs 0.5 µs; it sees what the peer's kernel has sent: a FIN or RST after a KILL, a
    shutdown or an idle timeout. It cannot see a peer that vanished without a word. select(2) would fail at
    descriptors of 1024 and above.

    It never waits, and so it keeps the interpreter lock: select.poll lets go of it, and where other threads have work
    that costs their turn, at every request. Nor does gevent get to replace it by one that switches greenlets.
    """
    asked = _PollFD(descriptor, select.POLLIN | getattr(select, "POLLRDHUP", 0))
    return partial(_poll, ctypes.byref(asked), _ONE)


READABLE, WRITABLE = select.POLLIN, select.POLLOUT


def wait_ready(descriptor: int, wanted: int, seconds: float | None) -> int:
    """Wait until the socket is `READABLE` or `WRITABLE`, whichever of them are `wanted`.

    Returns what poll(2) tells of it, or 0 after so many seconds. What waits is looked up now: gevent may have replaced
    poll, and eventlet has no poll, but a select() that takes descriptors of any number."""
    poll = getattr(select, "poll", None)
    if poll is None:
        reading, writing = ([descriptor] if wanted & event else [] for event in (READABLE, WRITABLE))
        readable, writable, _ = select.select(reading, writing, [], seconds)
        return (READABLE if readable else 0) | (WRITABLE if writable else 0)
    waiting = poll()
    waiting.register(descriptor, wanted)
    events: list[tuple[int, int]] = waiting.poll(None if seconds is None else ceil(seconds * 1000))
    return events[0][1] if events else 0


def wait_readable(descriptor: int, seconds: float) -> bool:
    """Wait until anything can be read from the socket, for so many seconds at most. Returns whether it can."""
    return bool(wait_ready(descriptor, READABLE, seconds))


def connect_tcp(host: str, port: int, deadline: float, clock: Clock, source: str | None = None) -> socket.socket:
    """A TCP connection to the first of the host's addresses that answers, before the deadline for all of them.

    Blocks until the deadline; looking the name up may take longer (the resolver has timeouts of its own). Raises
    OSError.
    """
    failure: OSError = TimeoutError(f"no connection to {host}:{port} in time")
    addresses = _literal(host, port) or socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for position, (family, kind, protocol, _, address) in enumerate(addresses):
        if clock() >= deadline:
            break
        share = remaining(deadline, clock) / (len(addresses) - position)  # a deaf address leaves time for the next
        candidate = socket.socket(family, kind, protocol)
        try:
            candidate.settimeout(share)
            if source is not None:
                candidate.bind((source, 0))
            candidate.connect(address)
            candidate.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return candidate
        except OSError as error:
            candidate.close()
            failure = error
        except BaseException:
            candidate.close()
            raise
    raise failure


@lru_cache(maxsize=100)
def _literal(host: str, port: int) -> list[tuple[Any, Any, int, str, Any]] | None:
    """What getaddrinfo() finds for an address, for which no name has to be looked up; None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except OSError:
            continue
        return [(family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]
    return None


def connect_unix(path: str, deadline: float, clock: Clock) -> socket.socket:
    """A connection to a server's Unix socket, before the deadline. Raises OSError."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.settimeout(remaining(deadline, clock))
        made.connect(path)
    except BaseException:
        made.close()
        raise
    return made


def shutdown(descriptor: int) -> None:
    """End the connection of a socket known by its descriptor, which stays open. Never blocks. Raises OSError."""
    with socket.socket(fileno=os.dup(descriptor)) as same:
        same.shutdown(socket.SHUT_RDWR)
