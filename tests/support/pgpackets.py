"""Reading PostgreSQL commands out of what a client sends, by the framing of its protocol alone.

https://www.postgresql.org/docs/current/protocol-message-formats.html. A login begins with messages that have no type:
a 4 byte length, which counts itself, and a 4 byte code. After that each message has a type byte before its length. The
extended protocol's messages are one round trip up to the Sync that ends them, so they are one command here.
"""

from __future__ import annotations

from collections.abc import Iterator

from support.packets import Command

SSL_REQUEST, GSSENC_REQUEST = 80877103, 80877104
TLS_HANDSHAKE = b"\x16"
QUERY, PARSE, BIND, CLOSE, SYNC, TERMINATE = b"QPBCSX"


class Message(Command):
    """One round trip as it went over the wire: ``QUERY SELECT 1``, ``EXECUTE SELECT $1``, ``TERMINATE``.

    A statement that was prepared before is ``EXECUTE`` and its name."""

    __slots__ = ()

    def __str__(self) -> str:
        text = self.payload.decode(errors="replace")
        return {QUERY: f"QUERY {text}".rstrip(), SYNC: text, TERMINATE: "TERMINATE"}.get(
            self.code, f"{chr(self.code)} {text}"
        )


class MessageReader:
    """The commands in one connection's stream from client to server, however it is cut into segments."""

    def __init__(self) -> None:
        self.blind = False  # TLS: no longer readable
        self._buffer = bytearray()
        self._login = True
        self._extended: list[str] = []

    def feed(self, data: bytes) -> Iterator[tuple[int, Command]]:
        """Each command that *data* completes, with the offset in *data* where it ends."""
        offset = -len(self._buffer)
        self._buffer += data
        if self._login and data[:1] == TLS_HANDSHAKE:
            self.blind = True
        while not self.blind and len(self._buffer) >= 5:
            start = 0 if self._login else 1
            length = start + int.from_bytes(self._buffer[start : start + 4], "big")
            if len(self._buffer) < length:
                return
            kind, payload = self._buffer[0], bytes(self._buffer[start + 4 : length])
            del self._buffer[:length]
            offset += length
            if self._login:  # the server may refuse to encrypt, then the login follows
                self._login = int.from_bytes(payload[:4], "big") in (SSL_REQUEST, GSSENC_REQUEST)
            if start and (command := self._message(kind, payload)):
                yield offset, command
        if self.blind:
            self._buffer.clear()

    def _message(self, kind: int, payload: bytes) -> Command | None:
        if kind == QUERY:
            return Message(kind, payload[:-1])
        if kind == PARSE:
            name, sql = payload.split(b"\0")[:2]
            self._extended.append(f"PREPARE {sql.decode()}" if name else f"EXECUTE {sql.decode()}")
        elif kind == BIND and (name := payload.split(b"\0")[1]):
            self._extended.append(f"EXECUTE {name.decode()}")
        elif kind == CLOSE:
            self._extended.append(f"CLOSE {payload[1:-1].decode()}")
        elif kind == SYNC:
            text, self._extended = "; ".join(self._extended), []
            return Message(kind, text.encode())
        elif kind == TERMINATE:
            return Message(kind, b"")
        return None


def packet(kind: bytes, payload: bytes) -> bytes:
    return kind + (len(payload) + 4).to_bytes(4, "big") + payload


READY = packet(b"Z", b"I")


def row(value: str) -> bytes:
    """The whole reply to a statement: one row with one column, as text, outside of a transaction."""
    text = value.encode()
    column = b"value\0" + bytes(6) + (25).to_bytes(4, "big") + b"\xff" * 6 + bytes(2)
    cell = len(text).to_bytes(4, "big") + text
    one = (1).to_bytes(2, "big")
    return packet(b"T", one + column) + packet(b"D", one + cell) + packet(b"C", b"SELECT 1\0") + READY


def error(state: str, text: str) -> bytes:
    """The whole reply to a statement that failed, outside of a transaction."""
    fields = {"S": "ERROR", "V": "ERROR", "C": state, "M": text}
    return packet(b"E", b"".join(f"{kind}{value}\0".encode() for kind, value in fields.items()) + b"\0") + READY
