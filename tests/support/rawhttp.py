"""The raw bytes that a client reads from its socket, and what HTTP/1.1 lets it make of them."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass


@dataclass(frozen=True)
class Reply:
    """All that came until the server closed the connection."""

    raw: bytes
    head_only: bool = False
    """The request was a HEAD."""

    @property
    def head(self) -> bytes:
        """Status line and headers, without the empty line; empty if there was no whole head."""
        return self.raw.partition(b"\r\n\r\n")[0] if b"\r\n\r\n" in self.raw else b""

    @property
    def status(self) -> int | None:
        """None where the server hung up without an answer."""
        return int(self.head.split(b" ", 2)[1]) if self.head else None

    @property
    def lines(self) -> list[bytes]:
        """The headers, one line each, names in lower case."""
        pairs = [line.partition(b":") for line in self.head.split(b"\r\n")[1:]]
        return [name.lower() + b": " + value.strip() for name, _, value in pairs]

    def header(self, name: str) -> str | None:
        """The only header of that name; two of them are an AssertionError."""
        prefix = f"{name.lower()}: ".encode()
        found = [line[len(prefix) :].decode() for line in self.lines if line.startswith(prefix)]
        assert len(found) < 2, f"{len(found)} headers {name}: {found}"
        return found[0] if found else None

    @property
    def framing(self) -> str:
        """By what a client knows where the body ends: nothing (there is none), chunks, length, or close."""
        if self.head_only or self.status in (204, 304):
            return "nothing"
        if (self.header("Transfer-Encoding") or "").lower() == "chunked":
            return "chunks"
        return "close" if self.header("Content-Length") is None else "length"

    @property
    def complete(self) -> bool:
        """Whether a client must take it for complete; framed by nothing but the connection's end it always is."""
        return self.status is not None and self._parts()[2]

    @property
    def body(self) -> bytes:
        """As far as it came."""
        return self._parts()[0]

    @property
    def excess(self) -> bytes:
        """What came behind the end."""
        return self._parts()[1]

    def _parts(self) -> tuple[bytes, bytes, bool]:
        """Body, excess, and whether the body is complete."""
        rest = self.raw.partition(b"\r\n\r\n")[2]
        framing = self.framing
        if framing == "chunks":
            return self._chunks(rest)
        if framing == "close":
            return rest, b"", True
        length = int(self.header("Content-Length") or "") if framing == "length" else 0
        return rest[:length], rest[length:], len(rest) >= length

    @staticmethod
    def _chunks(rest: bytes) -> tuple[bytes, bytes, bool]:
        body = b""
        while b"\r\n" in rest:
            size, _, rest = rest.partition(b"\r\n")
            length = int(size, 16)
            if len(rest) < length + 2:
                break
            assert rest[length : length + 2] == b"\r\n", f"a chunk that does not end: {rest[:80]!r}"
            body, rest = body + rest[:length], rest[length + 2 :]
            if length == 0:
                return body, rest, True
        return body, b"", False


class Client:
    """One connection, for one request."""

    def __init__(self, port: int, target: str, method: str = "GET", timeout: float = 20) -> None:
        self._method = method
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._socket.sendall(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        self._raw = b""

    def read_until(self, piece: bytes) -> None:
        """Read until *piece* has come."""
        while piece not in self._raw:
            data = self._socket.recv(65536)
            assert data, f"ended before {piece!r} came: {self._raw!r}"
            self._raw += data

    def read(self) -> Reply:
        """Read to the end, which may be a reset."""
        with self._socket:
            try:
                while data := self._socket.recv(65536):
                    self._raw += data
            except ConnectionResetError:
                pass  # what came before counts
        return Reply(self._raw, self._method == "HEAD")

    def leave(self) -> None:
        """Be gone at once, with a reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()


def request(port: int, target: str, method: str = "GET") -> Reply:
    return Client(port, target, method).read()
