"""The tutorial, followed from its first line to its last, as a reader does it."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.mariadb import MariaDB
from support.ports import bind
from support.quoted import fits
from support.waiting import until

TEXT = (Path(__file__).parents[1] / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)
pytestmark = [pytest.mark.slow, pytest.mark.server]


class Reader:
    """Does in a directory what the page says, with other ports than those of the page."""

    def __init__(self, directory: Path, server: MariaDB, port: int) -> None:
        self.directory = directory
        self.server = server
        self.ports = {":8000": f":{port}", ":3306": f":{server.port}"}
        self.port = port
        ours = {name: value for name, value in os.environ.items() if not name.startswith(("WSGIDB_", "PYTEST_"))}
        path = f"{Path(sys.executable).parent}{os.pathsep}{ours['PATH']}"
        self.environ = {**ours, "PATH": path, "HOME": str(directory)}
        self.serving: subprocess.Popen[bytes] | None = None
        self.log = (directory / "gunicorn.log").open("wb")

    def mine(self, text: str) -> str:
        for theirs, ours in self.ports.items():
            text = text.replace(theirs, ours)
        return text

    def save(self, code: str) -> None:
        name = code.partition("\n")[0].removeprefix("# ")
        (self.directory / name).write_text(self.mine(code))

    def run(self, command: str) -> str:
        """What the command prints. What only a reader's machine has is done in another way."""
        words = shlex.split(command)
        if words[0] == "export":
            name, _, value = words[1].partition("=")
            self.environ[name] = value
        elif words[-1] == "&":
            self.serving = subprocess.Popen(
                words[:-1], cwd=self.directory, env=self.environ, stdout=self.log, stderr=subprocess.STDOUT
            )
            until(self.answers, 30, "gunicorn to listen")
        elif words == ["kill", "%1"]:
            self.stop()
        elif words[:3] == ["sudo", "mysql", "-e"]:
            for statement in words[3].split("; "):
                self.server.query(statement)
        elif words[:3] == ["sudo", "systemctl", "restart"]:
            self.server.restart()
        else:
            done = subprocess.run(
                command, shell=True, cwd=self.directory, env=self.environ, timeout=60, text=True,
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout
            return done.stdout
        return ""

    def answers(self) -> bool:
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        if self.serving is not None:
            self.serving.terminate()
            self.serving.wait(30)
            self.serving = None


@pytest.fixture
def reader(tmp_path: Path, own_mariadb: MariaDB) -> Iterator[Reader]:
    with bind() as reserved:
        found = Reader(tmp_path, own_mariadb, reserved.getsockname()[1])
        try:
            yield found
        finally:
            found.stop()
            found.log.close()


def test_the_tutorial_can_be_followed(reader: Reader) -> None:
    """Every file is saved and every command is run, in the page's order, and prints what the page shows."""
    kinds = [kind for kind, _ in BLOCKS]
    assert kinds.count("sh") == 1  # what is installed
    assert set(kinds) == {"sh", "python", "console"}
    commands = 0
    for kind, block in BLOCKS:
        if kind == "python":
            reader.save(block)
        if kind == "console":
            for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
                command, _, shown = step.partition("\n")
                printed = reader.run(reader.mine(command))
                commands += 1
                assert fits(" ".join(shown.split()), printed), f"{command}\nprinted:\n{printed}"
    assert commands == TEXT.count("\n$ ")
