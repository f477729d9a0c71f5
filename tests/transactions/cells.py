"""Body type × fault: how a cell of the table in docs/transactions.md is brought about, and what it has to be."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from support import packets
from support.mariadb import MariaDB
from support.proxy import TCPProxy
from support.rawhttp import Client, Reply, request
from support.servers import Server
from support.waiting import until

TEXT = b"one two three"
OUR_500 = b"Internal Server Error\n"
DEADLOCK = packets.error(1213, "40001", "Deadlock found when trying to get lock; try restarting transaction")
FAILING = "SELECT 'fails'"

LOOKS_COMPLETE = {"uWSGI", "wsgiref"}
"""Servers that end a body without a length by closing, so that nobody can tell whether it was broken off."""
NOTICES_LEAVING = {"gunicorn sync", "gunicorn gthread", "uWSGI", "Cheroot", "Werkzeug", "wsgiref"}
"""Servers that stop reading a body whose client has left;"""
MAY_NOTICE_LEAVING = {"Waitress"}
"""this one does so sometimes, as it writes in another thread; the rest reads it to its end."""


@dataclass(frozen=True)
class Body:
    kind: str
    """Its name in app.py."""
    held: bool = False
    """Complete before its first byte has to go: no failure lets the client see a success."""
    length: bool = False
    """Announced: a client can tell where it was broken off."""
    framework: bool = False
    """Exceptions become the framework's own 500, and there is no code of the handler's in the middle of the body."""
    closes: bool = True
    """Code of the handler's can run after the last byte."""
    pauses: bool = False
    """It is streamed by the handler, which may find that the client has left."""


BODIES = {
    "list": Body("list", held=True, closes=False),
    "Flask": Body("flask", held=True, length=True, framework=True),
    "Django": Body("django", held=True, length=True, framework=True),
    "Django without CommonMiddleware": Body("django-bare", framework=True),
    "generator, length, one chunk": Body("one-length", held=True, length=True),
    "generator, length, several chunks": Body("many-length", length=True, pauses=True),
    "generator, one chunk": Body("one", pauses=True),
    "generator, several chunks": Body("many", pauses=True),
    "`write()`, length": Body("write-length", length=True, pauses=True),
    "`write()`": Body("write", pauses=True),
}


@dataclass(frozen=True)
class Fault:
    query: str = ""
    answer: Callable[[MariaDB], bytes | None] | None = None
    """What the proxy does at the statement that is to fail."""
    statement: str = "COMMIT"


def kill(mariadb: MariaDB) -> None:
    """The COMMIT goes on, to a session that is no more."""
    assert mariadb.kill_connections("guest") > 0


NONE, LEAVES = Fault(), Fault()
COMMIT_FAILS = {
    "KILL": Fault(answer=kill),
    "1213": Fault(answer=lambda mariadb: DEADLOCK),
    "deadline": Fault("&db=hasty", answer=lambda mariadb: b""),
    "lost before": Fault("&swallow=1", answer=lambda mariadb: DEADLOCK, statement=FAILING),
}
REFUSED = "1213"
"""The server has rolled back and says so: the commit fails, and the connection is as good as before."""
RAISES = {name: Fault(f"&raise={place}") for name, place in
          {"raises before": "before", "raises within": "middle", "raises after": "after"}.items()}  # fmt: skip
VETOES = {"404": Fault("&status=404"), "veto": Fault("&veto=yes"), "veto raises": Fault("&veto=raise")}
FAULTS = {"none": NONE, **COMMIT_FAILS, **RAISES, **VETOES, "client leaves": LEAVES}


@dataclass
class Site:
    """A running server, the network between it and its database, and that database."""

    server: Server
    proxy: TCPProxy
    mariadb: MariaDB

    def stats(self) -> list[dict[str, Any]]:
        """Of both Databases."""
        return list(json.loads(request(self.server.port, "/stats").body))

    def at_rest(self) -> list[dict[str, Any]]:
        """The numbers when no connection is leased any more; a server may close a body after the client has all."""

        def look() -> list[dict[str, Any]]:
            stats = self.stats()
            return [] if any(each["leased"] for each in stats) else stats

        return until(look, what=f"all connections of {self.server.name} to be back")

    def has(self, note: str) -> bool:
        return self.mariadb.query("SELECT COUNT(*) FROM note WHERE text = %s", note) == [(1,)]

    def cell(self, body: Body, name: str) -> Cell | None:
        """Bring one cell about; None where there is no such thing."""
        fault = FAULTS[name]
        if (name == "raises within" and body.framework) or (name == "raises after" and not body.closes):
            return None
        before = self.at_rest()
        note = f"{self.server.name} {body.kind} {name}"
        target = f"/{body.kind}?note={note.replace(' ', '+')}{fault.query}"
        reply = None
        if fault is LEAVES:
            self._leave(target, body)
        elif (answer := fault.answer) is not None:
            done = self.proxy.answer(fault.statement, lambda: answer(self.mariadb))
            reply = request(self.server.port, target)
            assert done.is_set(), f"the {fault.statement} never came: {reply}\n{self.server.said[-3000:]}"
        else:
            reply = request(self.server.port, target)
        after = self.at_rest()
        return Cell(self.server.name, body, name, reply, self.has(note), before, after)

    def _leave(self, target: str, body: Body) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(20)
            client = Client(self.server.port, f"{target}&gate={listener.getsockname()[1]}")
            gate, _ = listener.accept()
            with gate:
                if body.pauses:
                    client.read_until(b"one ")
                client.leave()


@dataclass
class Cell:
    server: str
    body: Body
    fault: str
    reply: Reply | None
    """None: the client did not wait for it."""
    row: bool
    """Whether what the handler wrote is in the database."""
    before: list[dict[str, Any]]
    after: list[dict[str, Any]]

    def __str__(self) -> str:
        return f"{self.seen} {'✔' if self.row else '✘'}"

    @property
    def seen(self) -> str:
        """What the client can know: a status, or a body cut short; "200?" was cut short as well, but looks complete."""
        reply = self.reply
        if reply is None:
            return "left"
        if reply.status is None:
            return "none"
        if not reply.complete:
            return "cut"
        broken = reply.status == 200 and self.fault in (*COMMIT_FAILS, *RAISES, "veto raises")
        return f"{reply.status}{'?' if broken else ''}"

    @property
    def impossible(self) -> bool:
        """R9: no length was announced, and the server ends such a body by closing."""
        return not self.body.length and not self.body.held and self.server in LOOKS_COMPLETE

    @property
    def broken_off(self) -> str:
        return "200?" if self.impossible else "cut"

    def failed_commits(self) -> int:
        """How many connections were discarded because a commit failed."""
        return self._discards("commit failed")

    def other_discards(self) -> int:
        """But for those that a KILL left behind, which the next check finds dead."""
        return self._discards() - self._discards("check failed") - self.failed_commits()

    def _discards(self, *reasons: str) -> int:
        """How many connections were discarded meanwhile, for these reasons or any."""
        counts = [
            sum(
                number
                for each in stats
                for reason, number in each["discards"].items()
                if reason in (reasons or [reason])
            )
            for stats in (self.before, self.after)
        ]
        return int(counts[1] - counts[0])
