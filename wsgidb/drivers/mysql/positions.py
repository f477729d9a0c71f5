"""Where a server of MariaDB or MySQL stands in the order of all transactions, by its global transaction ids.

https://mariadb.com/kb/en/gtid/ and https://dev.mysql.com/doc/refman/8.4/en/replication-gtids-concepts.html. What is
here for MySQL follows the documentation; the tests have no server of it.
"""

from __future__ import annotations

import re
from typing import Any

from ..states import Position

READ_ONLY = "SET SESSION TRANSACTION READ ONLY"

LAST = {True: "SELECT @@last_gtid", False: "SELECT @@GLOBAL.gtid_executed"}
"""The question of what a session has written, by whether the server is MariaDB. MySQL can only be asked what all
sessions have written."""
REACHED = {
    True: "SELECT @@GLOBAL.server_id, @@GLOBAL.gtid_current_pos",
    False: "SELECT @@GLOBAL.server_uuid, @@GLOBAL.gtid_executed",
}
"""The question of who a replica is, and what it has applied."""
TRACK = {
    True: "session_track_system_variables = 'last_gtid'",
    False: "session_track_gtids = OWN_GTID",
}
"""What to SET so that the reply to a COMMIT tells the transaction's id."""

SESSION_TRACK = 1 << 23
"""The client's flag that asks for changes of the session's state in replies."""
STATE_CHANGED = 0x4000
"""The flag of a reply's status by which it has such changes."""
SYSTEM_VARIABLE, GTIDS = 0, 3
"""The types of changes that tell of transactions: MariaDB's, and MySQL's."""

_INTERVAL = re.compile(r"1(?:-(\d+))?$")


def is_mariadb(version: Any) -> bool:
    text = version.decode("ascii", "replace") if isinstance(version, (bytes, bytearray)) else str(version)
    return "mariadb" in text.lower()


def parse(text: Any, mariadb: bool) -> Position:
    """The position that a server tells. Of MySQL's sets counts what has no gap before it."""
    if isinstance(text, (bytes, bytearray)):
        text = text.decode("ascii")
    position: Position = {}
    for each in filter(None, text.replace("\n", "").replace(" ", "").split(",")):
        if mariadb:  # domain-server-number
            domain, _, number = each.split("-")
            position[domain] = int(number)
        else:  # uuid:1-5:7
            source, *intervals = each.lower().split(":")
            found = [match for match in map(_INTERVAL.match, intervals) if match]
            if found:
                position[source] = int(found[0][1] or 1)
    return position


def told(data: bytes) -> Position:
    """The position in the part of an OK packet that follows its number of warnings:
    https://mariadb.com/kb/en/ok_packet/. Raises IndexError or ValueError if it is malformed."""
    size, at = _number(data, 0)  # a text for people
    size, at = _number(data, at + size)
    end = at + size
    position: Position = {}
    while at < end:
        kind = data[at]
        size, at = _number(data, at + 1)
        stop = at + size
        if kind == SYSTEM_VARIABLE:
            while at < stop:
                name, at = _string(data, at)
                value, at = _string(data, at)
                if name == b"last_gtid":
                    position |= parse(value, mariadb=True)
        elif kind == GTIDS:  # after a byte that tells how they are written
            value, _ = _string(data, at + 1)
            source, _, number = value.decode("ascii").lower().partition(":")
            position[source] = int(re.split("[-:]", number)[-1])  # one's own transactions are the last ones
        at = stop
    return position


def _number(data: bytes, at: int) -> tuple[int, int]:
    first = data[at]
    if first < 0xFB:
        return first, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(data[at + 1 : at + 1 + size], "little"), at + 1 + size


def _string(data: bytes, at: int) -> tuple[bytes, int]:
    size, at = _number(data, at)
    return data[at : at + size], at + size
