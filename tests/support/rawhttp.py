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
        chunks: list[bytes] = []
        at = 0
        while (line := rest.find(b"\r\n", at)) >= 0:
            length = int(rest[at:line], 16)
            end = line + 2 + length
            if len(rest) < end + 2:
                break
            assert rest[end : end + 2] == b"\r\n", f"a chunk that does not end: {rest[at : at + 80]!r}"
            chunks.append(rest[line + 2 : end])
            at = end + 2
            if length == 0:
                return b"".join(chunks), rest[at:], True
        return b"".join(chunks), b"", False


class Client:
    """One connection, for one request."""

    def __init__(self, port: int, target: str, method: str = "GET", headers: str = "", timeout: float = 20) -> None:
        """*headers* are whole lines."""
        self._method = method
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        headers += "Connection: close\r\n"
        self._socket.sendall(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
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


def request(port: int, target: str, method: str = "GET", headers: str = "") -> Reply:
    return Client(port, target, method, headers).read()


class Session:
    """One connection for several requests, one after the other. What breaks HTTP's rules is an AssertionError."""

    def __init__(self, port: int, timeout: float = 30) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.kept = True
        """Whether the server has left it open for another request."""

    def ask(self, target: str, method: str = "GET", headers: str = "") -> Reply:
        """*headers* are whole lines. The reply is complete."""
        self._socket.sendall(f"{method} {target} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode())
        reply = Reply(b"", method == "HEAD")
        while not reply.complete or reply.framing == "close":
            data = self._socket.recv(65536)
            if not data:
                assert reply.complete, f"broken off: {reply.raw!r}"
                break
            reply = Reply(reply.raw + data, method == "HEAD")
        assert reply.excess == b"", "nothing comes behind the response's end"
        said = (reply.header("Connection") or "").lower()
        self.kept = said != "close" and reply.framing != "close" and reply.raw.startswith(b"HTTP/1.1")
        if not self.kept:
            assert self.ended(), "it said that it would close"
        return reply

    def ended(self) -> bool:
        """Wait for the server to close, or for what else it sends."""
        return self._socket.recv(1) == b""

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()
