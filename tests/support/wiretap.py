"""What a proxy heard, and at which command it is to cut the line. The proxy's lock guards it."""

from __future__ import annotations

import threading
from typing import Literal

from support.packets import Command

Verdict = Literal["forward", "cut", "mute"]


class Break:
    """A planned cut; ``done`` is set when it happens, just before the client can notice."""

    def __init__(self, at: int, reply: bool) -> None:
        self.at, self.reply, self.done = at, reply, threading.Event()


class Wiretap:
    def __init__(self) -> None:
        self.commands: list[Command] = []
        self._breaks: dict[int, Break] = {}

    def plan(self, n: int, reply: bool) -> Break:
        """Break at the *n*-th command from now."""
        if n < 1:
            raise ValueError("the first command from now is number 1")
        planned = Break(len(self.commands) + n, reply)
        if planned.at in self._breaks:
            raise ValueError(f"a break at command {n} from now is planned already")
        self._breaks[planned.at] = planned
        return planned

    def heard(self, command: Command) -> tuple[Verdict, Break | None]:
        """Note a command that has arrived in full, and say what to do with it.

        "cut" before the server sees it, or "mute": forward it, and cut when its reply comes.
        """
        self.commands.append(command)
        planned = self._breaks.pop(len(self.commands), None)
        if planned is None:
            return "forward", None
        return ("mute" if planned.reply else "cut"), planned
