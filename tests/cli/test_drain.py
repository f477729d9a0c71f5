"""python -m wsgidb drain: the connections of all processes of a board are replaced."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wsgidb
from observe.test_board import worker
from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import Database
from wsgidb.cli.commands import main

ROOT = Path(wsgidb.__file__).parents[1]


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "board")


def use(database: Database) -> int:
    with database.connection() as conn:
        number: int = conn.number
        return number


@pytest.mark.parametrize("name", [[], ["--pool", "shop"]])
def test_it_is_done(directory: str, fakedb: FakeDB, clock: Clock, name: list[str]) -> None:
    """Another process asks for it, the next request does it. The command says what is to be done."""
    with Database(creator=fakedb.connect, name="shop", board=directory, clock=clock) as database:
        assert use(database) == 1
        line = [sys.executable, "-m", "wsgidb", "drain", directory, *name, "--over", "0"]
        done = subprocess.run(line, text=True, cwd=ROOT, timeout=60, capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "shop: 1 process with 1 open connection, to be replaced within 0 s\n"
        clock.advance(1)
        assert use(database) == 2
        assert database.stats().retirements == {"drained": 1}


def test_several_processes(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are counted together, and each pool has a line of its own."""
    with worker(directory), worker(directory):
        assert main(["drain", directory]) == 0
    assert capsys.readouterr().out == "shop: 2 processes with 4 open connections, to be replaced within 10 s\n"


def test_nobody_there(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, and leaves nothing behind."""
    assert main(["drain", directory]) == 1
    assert "has no statistics" in capsys.readouterr().err
    assert not os.path.exists(directory)


def test_another_name(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which pools there are, and asks nobody."""
    with worker(directory):
        assert main(["drain", directory, "--pool", "shpo"]) == 1
        assert "has no process of the pool 'shpo' that is alive; pools with such a process: shop" in (
            capsys.readouterr().err
        )
    assert main(["drain", directory]) == 1
    assert "has no process that is alive; pools with such a process: none" in capsys.readouterr().err
    assert not os.path.exists(os.path.join(directory, "drains"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: DIRECTORY"),
        (["board", "--over", "-1"], "--over: takes a number >= 0 and <= 1000000, got '-1'"),
    ],
)
def test_a_mistake_of_the_users(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, and the exit code is 2."""
    with pytest.raises(SystemExit) as ended:
        main(["drain", *arguments])
    assert ended.value.code == 2
    assert says in capsys.readouterr().err


def test_root_leaves_it_to_the_owner(directory: str) -> None:
    """What an operator asks for on another user's board can be read by that user's processes."""
    with worker(directory):
        if os.geteuid() == 0:
            os.chown(directory, 12345, 12345)
        assert main(["drain", directory]) == 0
        owner = os.stat(directory).st_uid
        assert os.stat(os.path.join(directory, "drains")).st_uid == owner
