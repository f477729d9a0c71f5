"""What a proxy heard, at which command it is to cut the line, and which statement it answers itself. The proxy's lock
guards it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Literal

from support.packets import Command

Verdict = Literal["forward", "cut", "mute"]


class Break:
    """A planned cut, at a command's number or at a statement; ``done`` is set when it happens, just before the client
    can notice."""

    def __init__(self, at: int | str, reply: bool) -> None:
        self.at, self.reply, self.done = at, reply, threading.Event()


class Answer:
    """A planned answer to a statement; ``done`` is set when it was given."""

    def __init__(self, statement: str, reply: Callable[[], bytes | None]) -> None:
        self.statement, self.reply, self.done = statement, reply, threading.Event()


class Wiretap:
    def __init__(self) -> None:
        self.commands: list[Command] = []
        self._breaks: dict[int | str, Break] = {}
        self._answers: list[Answer] = []

    def answer(self, statement: str, reply: Callable[[], bytes | None]) -> Answer:
        """Ask *reply* when *statement* comes next; see `TCPProxy.answer`."""
        self._answers.append(Answer(statement, reply))
        return self._answers[-1]

    def answered(self, command: Command) -> bytes | None:
        """What the client gets instead of the server's reply to *command*, if that was planned."""
        for answer in self._answers:
            if str(command) == f"QUERY {answer.statement}":
                self._answers.remove(answer)
                reply = answer.reply()
                answer.done.set()
                return reply
        return None

    def plan(self, n: int, reply: bool) -> Break:
        """Break at the *n*-th command from now."""
        if n < 1:
            raise ValueError("the first command from now is number 1")
        at = len(self.commands) + n
        if at in self._breaks:
            raise ValueError(f"a break at command {n} from now is planned already")
        self._breaks[at] = Break(at, reply)
        return self._breaks[at]

    def plan_at(self, statement: str) -> Break:
        """Break when the reply to this statement comes, once."""
        at = f"QUERY {statement}"
        self._breaks[at] = Break(at, reply=True)
        return self._breaks[at]

    def heard(self, command: Command) -> tuple[Verdict, Break | None]:
        """Note a command that has arrived in full, and say what to do with it.

        "cut" before the server sees it, or "mute": forward it, and cut when its reply comes.
        """
        self.commands.append(command)
        planned = self._breaks.pop(len(self.commands), None) or self._breaks.pop(str(command), None)
        if planned is None:
            return "forward", None
        return ("mute" if planned.reply else "cut"), planned
