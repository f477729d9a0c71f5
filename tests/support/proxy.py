"""A network between client and server that a test can slow down, cut, mute and listen to."""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

from support.packets import Command, CommandReader, Reader
from support.pipe import Pipe
from support.ports import bind
from support.wiretap import Wiretap

BACKLOG = 128


class TCPProxy:
    """A loopback TCP proxy in front of *target_port*; a context manager, listening from the start.

    One thread moves all bytes. Every control takes effect before it returns, and every count includes
    what clients had sent by then: both act on the sockets themselves, under the lock that the
    thread holds while it works (no socket in here ever blocks).
    """

    def __init__(self, target_port: int, reader: type[Reader] = CommandReader) -> None:
        """*reader* knows the protocol in which commands are counted."""
        # All below is guarded by the lock; `delay` may be set at any time and holds for what is read from then on.
        self._lock = threading.RLock()
        self.delay = 0.0
        self.target_port = target_port
        self._tap = Wiretap()
        self._reader = reader
        self._connections = 0
        self._pipes: list[Pipe] = []
        self._forgotten: list[Pipe] = []
        self._deaf = False
        self._closed = False
        # Bound for as long as the proxy lives, so that nobody else is given the port while it refuses.
        self._reserved = bind()
        self.port: int = self._reserved.getsockname()[1]
        self._selector = selectors.DefaultSelector()
        self._alarm, self._waker = socket.socketpair()
        self._alarm.setblocking(False)
        self._waker.setblocking(False)
        self._selector.register(self._alarm, selectors.EVENT_READ)
        self._listener: socket.socket | None = None
        self.accept()
        self._thread = threading.Thread(target=self._run, name=f"proxy-{self.port}", daemon=True)
        self._thread.start()
        _living.add(self)

    def __enter__(self) -> TCPProxy:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def url_from(self, url: str) -> str:
        """*url*, but through this proxy."""
        parts = urlsplit(url)
        login, at, _ = parts.netloc.rpartition("@")
        return parts._replace(netloc=f"{login}{at}127.0.0.1:{self.port}").geturl()

    # What it saw

    @property
    def connections(self) -> int:
        """How many connections were accepted so far."""
        with self._working():
            return self._connections

    @property
    def open_connections(self) -> int:
        """How many of them still go through (forgotten ones do not)."""
        with self._working():
            return len(self._pipes)

    @property
    def commands(self) -> list[Command]:
        """Every command sent after a login so far, of all connections (none of those under TLS)."""
        with self._working():
            return list(self._tap.commands)

    def mark(self) -> int:
        """A point in time for `commands_since`."""
        return len(self.commands)

    def commands_since(self, mark: int) -> list[str]:
        return [str(command) for command in self.commands[mark:]]

    @contextlib.contextmanager
    def counting(self) -> Iterator[list[str]]:
        """``with proxy.counting() as seen:``: the commands sent in the block are in *seen* when it ends."""
        seen: list[str] = []
        mark = self.mark()
        try:
            yield seen
        finally:
            seen += self.commands_since(mark)

    # What it does to them

    def cut(self) -> int:
        """Reset (RST, both ways) all current connections and return how many there were."""
        with self._working():
            count = len(self._pipes)
            for pipe in list(self._pipes):
                pipe.reset()
            return count

    def deaf(self) -> None:
        """Forward nothing any more, not even an end; new connections are accepted, and hear nothing either."""
        with self._working():
            self._deaf = True

    def hear(self) -> None:
        """Undo `deaf`; what was sent meanwhile arrives now."""
        with self._working():
            self._deaf = False

    def forget(self) -> int:
        """Like a firewall that lost its table: current connections stay open and silent for ever; new ones work."""
        with self._working():
            for pipe in self._pipes:
                pipe.forget()
            count = len(self._pipes)
            self._forgotten += self._pipes
            self._pipes.clear()
            return count

    def say(self, data: bytes) -> int:
        """Give all current clients what their server never said, and return how many there were."""
        with self._working():
            for pipe in self._pipes:
                pipe.client.sendall(data)
            return len(self._pipes)

    def refuse(self) -> None:
        """Stop listening: new connections are refused, current ones go on."""
        with self._working():
            if self._listener is not None:
                self._selector.unregister(self._listener)
                self._listener.close()
                self._listener = None

    def accept(self) -> None:
        """Undo `refuse`, on the same port."""
        with self._working():
            if self._listener is None:
                self._listener = bind(self.port)
                self._listener.listen(BACKLOG)
                self._listener.setblocking(False)
                self._selector.register(self._listener, selectors.EVENT_READ)

    def retarget(self, port: int) -> None:
        """Connections accepted from now on lead to another port."""
        with self._working():
            self.target_port = port

    def break_after(self, n: int, reply: bool = False) -> threading.Event:
        """Cut the connection that sends the *n*-th command from now; the event returned is set when it happens.

        With *reply* false the server never gets to see that command. With *reply* true it executes it,
        and the connection is cut when its reply arrives, which the client never gets.
        """
        with self._working():
            return self._tap.plan(n, reply).done

    def lose_reply(self, statement: str) -> threading.Event:
        """When *statement* (exactly) is sent next, the server executes it, and its connection is cut as with
        `break_after`: when the reply arrives, which the client never gets."""
        with self._working():
            return self._tap.plan_at(statement).done

    def answer(self, statement: str, reply: Callable[[], bytes | None]) -> threading.Event:
        """When *statement* (exactly) is sent next, call *reply*, and give the client what it returns, instead of the
        server, which never gets to see the statement: a packet (`packets.error`), or ``b""`` for nothing at all.
        With None the statement goes on to the server. The event returned is set when it happens."""
        with self._working():
            return self._tap.answer(statement, reply).done

    def close(self) -> None:
        """Reset what is open, end the thread and close every socket. What clients have said by now, as a goodbye, is
        passed on before."""
        with self._lock:
            if self._closed:
                return
            self._work()
            self._closed = True
            self._wake()
        self._thread.join()
        for pipe in self._pipes + self._forgotten:
            pipe.reset()
        self._release()

    # The machinery

    def _run(self) -> None:
        while True:
            with self._lock:
                wait = self._next_due()
            self._selector.select(wait)
            with self._lock:
                if self._closed:
                    return
                with contextlib.suppress(BlockingIOError):
                    while self._alarm.recv(4096):
                        pass
                self._work()

    @contextlib.contextmanager
    def _working(self) -> Iterator[None]:
        """The lock, with all that has arrived dealt with before, and the thread told of what changed after."""
        with self._lock:
            if self._closed:
                raise RuntimeError("this proxy is closed")
            self._work()
            yield
            self._work()
            self._wake()

    def _work(self) -> None:
        """Do all that can be done now without waiting."""
        while self._listener is not None:
            try:
                client, _ = self._listener.accept()
            except BlockingIOError:
                break
            self._connections += 1
            self._pipes.append(Pipe(client, self.target_port, self._selector, self._tap, self._reader))
        for pipe in self._pipes:
            pipe.work(time.monotonic(), self.delay, self._deaf)
        self._pipes = [pipe for pipe in self._pipes if not pipe.closed]

    def _next_due(self) -> float | None:
        due = [when for pipe in self._pipes if (when := pipe.next_due()) is not None]
        return max(0.0, min(due) - time.monotonic()) if due and not self._deaf else None

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # full: it is awake
            self._waker.send(b"!")

    def _release(self) -> None:
        self._selector.close()
        for each in (self._listener, self._reserved, self._alarm, self._waker):
            if each is not None:
                each.close()

    def _leave_to_parent(self) -> None:
        # A forked child's copies would keep connections open that the parent has cut.
        self._closed = True
        for pipe in self._pipes + self._forgotten:
            pipe.client.close()
            pipe.server.close()
        self._release()


_living: weakref.WeakSet[TCPProxy] = weakref.WeakSet()


def _after_fork() -> None:
    for proxy in list(_living):
        proxy._leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)
