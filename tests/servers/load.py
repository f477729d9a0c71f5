"""Requests to ``/echo`` from many clients at once, and what went wrong with them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from support.rawhttp import Session
from support.servers import Server

CLIENTS = 8


@dataclass
class Load:
    """What the clients got."""

    errors: list[str] = field(default_factory=list)
    answers: list[tuple[int, int]] = field(default_factory=list)
    """The session and the process of each."""
    loaders: set[tuple[int, int]] = field(default_factory=set)
    """Likewise, of those that have loaded the application."""

    def add(self, more: Load) -> None:
        self.errors += more.errors
        self.answers += more.answers
        self.loaders |= more.loaders

    def judge(self, server: Server) -> None:
        """No error of any kind, and no process has used another's session, nor that of its parent."""
        assert self.errors == [], server.said[-3000:]
        assert len(set(self.answers)) == len(self.sessions), "each session belongs to one process"
        if server.kind.preloads:
            assert not self.sessions & {session for session, _ in self.loaders}
            assert not self.processes & {process for _, process in self.loaders}
        else:
            assert {process for _, process in self.loaders} == self.processes

    @property
    def sessions(self) -> set[int]:
        return {session for session, _ in self.answers}

    @property
    def processes(self) -> set[int]:
        return {process for _, process in self.answers}


def load(port: int, requests: int, per_connection: int | None = None, clients: int = CLIENTS) -> Load:
    """So many requests, of each client one after the other. *per_connection* is how many go over one connection,
    unless the server closes it before; None: as many as the server keeps it for."""
    numbers = iter(range(requests))
    result = Load()
    lock = threading.Lock()

    def take() -> int | None:
        with lock:
            return next(numbers, None)

    threads = [threading.Thread(target=_client, args=(port, take, per_connection, result)) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return result


def _client(port: int, take: Callable[[], int | None], per_connection: int | None, result: Load) -> None:
    number = take()
    while number is not None:
        try:
            with Session(port) as session:
                asked = 0
                while number is not None and session.kept and asked != per_connection:
                    asked += 1
                    last = "Connection: close\r\n" if asked == per_connection else ""
                    reply = session.ask(f"/echo?{number}", headers=last)
                    echo, session_id, process, *loader = map(int, reply.body.split())
                    if (reply.status, echo) != (200, number):
                        result.errors.append(f"{number}: {reply.raw!r}")
                    result.answers.append((session_id, process))
                    result.loaders.add((loader[0], loader[1]))
                    number = take()
        except (OSError, AssertionError, ValueError, IndexError) as error:
            result.errors.append(f"{number}: {error!r}")
            number = take()
