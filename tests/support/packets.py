"""Reading MySQL commands out of what a client sends, by the framing of its protocol alone; and one packet to answer.

A packet is a 3 byte length, a sequence number and the payload. Each command starts at sequence 0, and
the login continues the server's greeting at 1, so a 0 means a command. (A file sent with LOAD DATA
LOCAL would wrap round to 0 after 256 packets and look like one.)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol

CONTINUED = 0xFFFFFF
COMPRESS, SSL = 0x20, 0x800

NAMES = {
    0x01: "QUIT",
    0x02: "INIT_DB",
    0x03: "QUERY",
    0x04: "FIELD_LIST",
    0x09: "STATISTICS",
    0x0C: "PROCESS_KILL",
    0x0E: "PING",
    0x11: "CHANGE_USER",
    0x16: "STMT_PREPARE",
    0x17: "STMT_EXECUTE",
    0x18: "STMT_SEND_LONG_DATA",
    0x19: "STMT_CLOSE",
    0x1A: "STMT_RESET",
    0x1B: "SET_OPTION",
    0x1C: "STMT_FETCH",
    0x1F: "RESET_CONNECTION",
}
TEXTUAL = {0x02, 0x03, 0x16}


class Command(NamedTuple):
    """One command as it went over the wire; `str` makes it readable: ``QUERY SELECT 1``, ``PING``."""

    code: int
    payload: bytes

    def __str__(self) -> str:
        name = NAMES.get(self.code, f"0x{self.code:02x}")
        return f"{name} {self.payload.decode(errors='replace')}" if self.code in TEXTUAL else name


def error(code: int, sqlstate: str, message: str) -> bytes:
    """The packet with which a server answers a command that failed."""
    return packet(1, b"\xff" + code.to_bytes(2, "little") + f"#{sqlstate}{message}".encode())


def packet(sequence: int, payload: bytes) -> bytes:
    """Any packet."""
    return len(payload).to_bytes(3, "little") + bytes([sequence]) + payload


class Reader(Protocol):
    """Finds the commands in one connection's stream from client to server, however it is cut into segments."""

    def __init__(self) -> None: ...
    def feed(self, data: bytes) -> Iterator[tuple[int, Command]]: ...


class CommandReader:
    """The commands in one connection's stream from client to server, however it is cut into segments."""

    def __init__(self) -> None:
        self.blind = False  # TLS or compression: no longer readable
        self._buffer = bytearray()
        self._login = True
        self._command: bytearray | None = None
        self._continued = False

    def feed(self, data: bytes) -> Iterator[tuple[int, Command]]:
        """Each command that *data* completes, with the offset in *data* where it ends."""
        offset = -len(self._buffer)
        self._buffer += data
        while not self.blind and len(self._buffer) >= 4:
            length, sequence = int.from_bytes(self._buffer[:3], "little"), self._buffer[3]
            if len(self._buffer) < 4 + length:
                return
            payload = bytes(self._buffer[4 : 4 + length])
            del self._buffer[: 4 + length]
            offset += 4 + length
            if command := self._packet(sequence, payload):
                yield offset, command
        if self.blind:
            self._buffer.clear()

    def _packet(self, sequence: int, payload: bytes) -> Command | None:
        if self._login:
            # The client's first packet begins with its capabilities; asking for TLS it stops right after them.
            self._login = False
            self.blind = bool(int.from_bytes(payload[:4], "little") & (COMPRESS | SSL))
            return None
        if self._continued:
            if self._command is not None:
                self._command += payload
        else:
            self._command = bytearray(payload) if sequence == 0 else None
        # A payload of exactly 16 MB - 1 goes on in the next packet, even if that is empty.
        self._continued = len(payload) == CONTINUED
        if self._continued or not self._command:
            return None
        return Command(self._command[0], bytes(self._command[1:]))
