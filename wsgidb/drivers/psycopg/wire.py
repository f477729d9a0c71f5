"""Connecting and waiting with time limits.

psycopg does its work in generators that yield when they have to wait for the socket; their caller does the waiting.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Generator
from typing import Any

import psycopg
from psycopg import generators
from psycopg.conninfo import make_conninfo

from ..sockets import READABLE, WRITABLE, wait_ready
from ..states import Clock

READ, WRITE = 1, 2  # of psycopg.waiting.Wait and Ready

Work = Generator[Any, Any, Any]
"""A generator of psycopg's that yields when it has to wait for the socket."""
Limit = Callable[[int], "float | None"]
"""A function that tells how many seconds one wait for READ or WRITE may take, or None for no limit. It raises an error
if there is no time left."""


def drive(work: Work, limit: Limit, descriptor: int = -1) -> Any:
    """Do the work, and return its result. Blocks as long as `limit` allows, and then raises psycopg.OperationalError.

    psycopg's own waiting has a time limit only since version 3.3, and for connecting one in whole seconds."""
    try:
        wanted = next(work)
        while True:
            if type(wanted) is tuple:  # while connecting, the socket may change
                descriptor, wanted = wanted
            events = (wanted & READ and READABLE) | (wanted & WRITE and WRITABLE)
            found = wait_ready(descriptor, events, limit(wanted))
            if not found:
                raise psycopg.OperationalError("the server did not answer in time")
            ready = (READ if found & READABLE else 0) | (WRITE if found & WRITABLE else 0)
            wanted = work.send(ready or wanted)  # libpq itself finds an error of the socket
    except StopIteration as end:
        return end.value
    finally:
        work.close()


def before(deadline: float, clock: Clock) -> Limit:
    """A limit for all of the work together: one deadline."""

    def limit(wanted: int) -> float:
        left = deadline - clock()
        if left <= 0:
            raise psycopg.OperationalError("the server answers too slowly")
        return left

    return limit


def connect(arguments: dict[str, Any], deadline: float, clock: Clock) -> Any:
    """Make libpq's connection before the deadline. Raises psycopg.OperationalError.

    libpq knows only a time limit for each address. So a host's addresses are tried here, each with its share of the
    time, and one that does not answer leaves time for the next."""
    failure = psycopg.OperationalError("no time left to connect")
    addresses = _addresses(arguments)
    for position, address in enumerate(addresses):
        left = deadline - clock()
        if left <= 0:
            break
        share = left / (len(addresses) - position)
        conninfo = make_conninfo("", **{**arguments, **address})
        try:
            return drive(generators.connect(conninfo), before(deadline - left + share, clock))
        except psycopg.OperationalError as error:
            failure = error
    raise failure.with_traceback(None)


def _addresses(arguments: dict[str, Any]) -> list[dict[str, Any]]:
    """Each address of the host, as a parameter of libpq. Looking up its name may take longer than the deadline."""
    host = arguments.get("host")
    if "hostaddr" in arguments or host is None or host.startswith(("/", "@")):  # a Unix socket
        return [{}]
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise psycopg.OperationalError(f"cannot find {host} ({error})") from error
    return [{"hostaddr": address[4][0]} for address in found]
