"""A reader who follows a page of the documentation from its first line to its last."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from support.mariadb import MariaDB
from support.ports import bind
from support.postgresql import PostgreSQL
from support.quoted import fits
from support.waiting import until

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"(?:#|;) ([\w./-]+)\n")
"""The first line of a block that is a file: a comment with its name."""


LEFT_OUT = ("WSGIDB_", "PYTEST_", "DJANGO_", "FLASK_")
"""Settings of the tests and of what they test, which a reader does not have."""
ALONE = {
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": "-p wsgidb.pytest_plugin", "PYTHONWARNINGS": "ignore",
    "PYTHONUNBUFFERED": "1",
}  # fmt: skip
"""What a reader installs has no other plugins of pytest, and the warnings of third parties differ from one version to
the next. In a terminal, output and errors come in the order in which they are written."""


class Reader:
    """Does in a directory what a page says, with other ports than those of the page.

    A block that begins with the name of a file is saved under it. In a block of the kind ``console``, each line that
    begins with ``$`` is run, and must print what stands below it. A block of the kind ``sh`` prepares the machine of a
    reader, so it is not run: the tests have their own. There must be no others."""

    def __init__(self, directory: Path, mariadb: MariaDB | None = None, postgresql: PostgreSQL | None = None) -> None:
        self.directory = directory
        self.mariadb, self.postgresql = mariadb, postgresql
        self.stack = ExitStack()
        reserved = self.stack.enter_context(bind())
        self.port: int = reserved.getsockname()[1]
        self.changes = {r"\b8000\b": str(self.port)}
        """Patterns of what is written in another way here."""
        if mariadb is not None:
            self.changes[r"\b3306\b"] = str(mariadb.port)
        if postgresql is not None:
            self.changes[r"\b5432\b"] = str(postgresql.port)
        ours = {name: value for name, value in os.environ.items() if not name.startswith(LEFT_OUT)}
        path = f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}"
        self.environ = {**ours, "PATH": path, "HOME": str(directory), **ALONE}
        self._background: list[subprocess.Popen[bytes]] = []
        self._log = self.stack.enter_context((directory / "background.log").open("wb"))

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc_info: object) -> None:
        while self._background:
            self._stop()
        self.stack.close()

    def follow(self, text: str) -> dict[str, int]:
        """Save every file and run every command, in the order of the page; returns how many blocks of each kind there
        were."""
        kinds: dict[str, int] = {}
        for kind, block in BLOCK.findall(text):
            kinds[kind] = kinds.get(kind, 0) + 1
            if kind == "console":
                self._console(block)
            elif kind != "sh":
                self._save(block)
        return kinds

    def _mine(self, text: str) -> str:
        for theirs, ours in self.changes.items():
            text = re.sub(theirs, ours, text)
        return text

    def _save(self, block: str) -> None:
        name = FILE.match(block)
        assert name is not None, f"a block without the name of its file:\n{block}"
        path = self.directory / name[1]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._mine(block))

    def _console(self, block: str) -> None:
        assert block.startswith("$ "), block
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, shown = step.partition("\n")
            printed = self._run(self._mine(command))
            wanted = " ".join(self._mine(shown).split())
            assert fits(wanted, printed), f"{command}\nprinted:\n{printed}\n{self.said()}"

    def _run(self, command: str) -> str:
        """What the command prints. What only a reader's machine has is done in another way."""
        words = shlex.split(command)
        if words[0] == "export":
            for word in words[1:]:
                name, _, value = word.partition("=")
                self.environ[name] = value
        elif words[-1] == "&":
            self._start(words[:-1])
        elif words == ["kill", "%1"]:
            self._stop()
        elif words[:3] == ["sudo", "mysql", "-e"]:
            assert self.mariadb is not None
            for statement in words[3].split("; "):
                self.mariadb.query(statement)
        elif words[:3] == ["sudo", "systemctl", "restart"]:
            assert self.mariadb is not None
            self.mariadb.restart()
        else:
            done = subprocess.run(command, shell=True, timeout=60, text=True, **self._where(subprocess.STDOUT))
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{self.said()}"
            return str(done.stdout)
        return ""

    def _where(self, errors: int, output: Any = subprocess.PIPE) -> dict[str, Any]:
        return {
            "cwd": self.directory, "env": self.environ, "stdin": subprocess.DEVNULL, "stdout": output, "stderr": errors,
        }  # fmt: skip

    def _start(self, words: list[str]) -> None:
        self._background.append(subprocess.Popen(words, **self._where(subprocess.STDOUT, self._log)))
        if any(str(self.port) in word for word in (*words, *self._settings())):
            until(self._answers, 30, f"{words[0]} to listen")

    def _settings(self) -> list[str]:
        """The files of settings and programs that the page has shown, one of which may have the port."""
        return [path.read_text() for path in self.directory.rglob("*") if path.suffix in (".py", ".ini")]

    def _answers(self) -> bool:
        assert self._background[-1].poll() is None, self.said()
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def said(self) -> str:
        """What the programs in the background have written."""
        return (self.directory / "background.log").read_text(errors="replace")[-3000:]

    def _stop(self) -> None:
        process = self._background.pop()
        process.terminate()
        process.wait(60)
