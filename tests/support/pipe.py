"""One proxied connection: two sockets and the bytes on their way between them."""

from __future__ import annotations

import contextlib
import selectors
import socket
import struct
from collections import deque

from support.packets import CommandReader, Reader
from support.wiretap import Break, Wiretap

CHUNK = 1 << 18
FULL = 1 << 22  # a flow holding this much reads no more: a slow reader must be felt by the sender


class Flow:
    """One direction. Chunks wait in order until they are due; an empty one stands for the end of the stream."""

    def __init__(self, source: socket.socket, sink: socket.socket) -> None:
        self.source, self.sink = source, sink
        self.waiting: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.read_end = self.sent_end = self.clogged = False

    def read(self) -> bytes | None:
        """What has arrived, b"" for the end, None for nothing yet."""
        if self.read_end or self.size >= FULL:
            return None
        try:
            data = self.source.recv(CHUNK)
        except BlockingIOError:
            return None
        self.read_end = not data
        return data

    def push(self, due: float, data: bytes) -> None:
        # Never before an earlier chunk, even if the delay was shortened in between.
        self.waiting.append((max(due, self.waiting[-1][0] if self.waiting else due), data))
        self.size += len(data)

    def write(self, now: float) -> None:
        """Send what is due, as far as the other side takes it."""
        self.clogged = False
        while self.waiting and self.waiting[0][0] <= now:
            due, data = self.waiting[0]
            if not data:
                self.sink.shutdown(socket.SHUT_WR)
                self.sent_end = True
            else:
                try:
                    sent = self.sink.send(data)
                except BlockingIOError:
                    self.clogged = True
                    return
                self.size -= sent
                if sent < len(data):
                    self.waiting[0] = (due, data[sent:])
                    continue
            self.waiting.popleft()


class Pipe:
    """A client's connection and the one to the target made for it. Not thread-safe: the proxy's lock guards it."""

    def __init__(
        self,
        client: socket.socket,
        target_port: int,
        selector: selectors.BaseSelector,
        tap: Wiretap,
        reader: type[Reader] = CommandReader,
    ) -> None:
        self.client, self.server = client, socket.socket()
        self.closed = False
        self._selector, self._tap = selector, tap
        self._reader = reader()
        self._break: Break | None = None
        self._mute = False
        for end in (self.client, self.server):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._up, self._down = Flow(client, self.server), Flow(self.server, client)
        self._target: int | None = target_port

    def work(self, now: float, delay: float, deaf: bool) -> None:
        """Move what can be moved without waiting; any error of one side resets the other."""
        if self.closed:
            return
        if deaf:
            self._watch(self.client, 0)
            self._watch(self.server, 0)
            return
        try:
            if self._target is not None:
                self.server.connect_ex(("127.0.0.1", self._target))
                self._target = None
            self._read_up(now + delay)
            if not self.closed:
                self._read_down(now + delay)
            if not self.closed:
                self._up.write(now)
                self._down.write(now)
        except OSError:
            self.reset()
        if self._up.sent_end and self._down.sent_end:
            self._close()
        if not self.closed:
            self._watch(self.client, self._interest(self._up, self._down))
            self._watch(self.server, self._interest(self._down, self._up))

    def next_due(self) -> float | None:
        """When the next chunk may go on; a clogged flow is woken by its socket instead."""
        due = [flow.waiting[0][0] for flow in (self._up, self._down) if flow.waiting and not flow.clogged]
        return min(due, default=None)

    def reset(self) -> None:
        """End both sides with RST, at once."""
        if self._break:
            self._break.done.set()  # first: whoever sees the reset sees this too
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):  # it may have ended by itself
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close()

    def forget(self) -> None:
        """Take no more notice of either side, and leave both open."""
        self._watch(self.client, 0)
        self._watch(self.server, 0)

    def _read_up(self, due: float) -> None:
        while (data := self._up.read()) is not None:
            done = 0
            for end, command in self._reader.feed(data):
                verdict, planned = self._tap.heard(command)
                self._break = planned or self._break
                if verdict == "cut":
                    self._push_and_send(data[:done])
                    self.reset()
                    return
                reply = self._tap.answered(command)
                if reply is not None:
                    # Beside its text a command has 5 bytes in MySQL's protocol, and 6 in PostgreSQL's.
                    alone = end - done == len(data) and len(data) - len(command.payload) in (5, 6)
                    assert alone, "answers are for statements sent alone"
                    if reply:
                        self._down.push(due, reply)
                    return
                done = end
                self._mute = self._mute or verdict == "mute"
            self._up.push(due, data)

    def _read_down(self, due: float) -> None:
        while (data := self._down.read()) is not None:
            if self._mute:
                self.reset()
                return
            self._down.push(due, data)

    def _push_and_send(self, data: bytes) -> None:
        if data:
            self._up.push(0.0, data)
            self._up.write(float("inf"))

    def _interest(self, reading: Flow, writing: Flow) -> int:
        wanted = 0 if reading.read_end or reading.size >= FULL else selectors.EVENT_READ
        return wanted | (selectors.EVENT_WRITE if writing.clogged else 0)

    def _watch(self, end: socket.socket, events: int) -> None:
        # Not watched for nothing: epoll would go on reporting a hang-up that nobody may act on.
        watched = self._selector.get_map().get(end)
        if watched is None:
            if events:
                self._selector.register(end, events)
        elif not events:
            self._selector.unregister(end)
        elif watched.events != events:
            self._selector.modify(end, events)

    def _close(self) -> None:
        if not self.closed:
            self.closed = True
            for end in (self.client, self.server):
                self._watch(end, 0)
                end.close()
