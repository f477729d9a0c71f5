"""python -m wsgidb status: what it says of a board that other processes have written."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wsgidb
from observe.test_board import worker
from support.fakedb import FakeDB
from wsgidb import Database
from wsgidb.cli import boards
from wsgidb.cli.commands import main
from wsgidb.observe.recent import Recent
from wsgidb.observe.rows import Row
from wsgidb.observe.sources import Pool
from wsgidb.pool.durations import DurationCounter, Durations
from wsgidb.pool.stats import Holder, Notice, Stats, Waiter

ROOT = Path(wsgidb.__file__).parents[1]


@pytest.fixture
def directory(tmp_path: Path) -> str:
    return str(tmp_path / "board")


def printed(directory: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """The lines of the text, with runs of spaces as one."""
    assert main(["status", directory]) == 0
    return [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]


def command(*arguments: str, **options: Any) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "wsgidb", "status", *arguments]
    return subprocess.Popen(line, text=True, cwd=ROOT, **options)


def durations(*each: float) -> Durations:
    counter = DurationCounter()
    for one in each:
        counter.add(one)
    return counter.snapshot()


def test_a_board_of_another_process(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it holds, how many requests there were, and how old that is."""
    with worker(directory) as other:
        lines = printed(directory, capsys)
    assert lines[0] == "shop: 1 of 3 connections in use, 2 open, 0 requests waiting, 1 process"
    assert any(line.startswith("use ") and line.endswith(" 4") for line in lines)
    assert "leases 5" in lines
    (process,) = (line for line in lines if line.startswith(f"pid {other.pid} 1 of 3 connections in use, 2 open, 0"))
    assert process.endswith("ago")
    (holder,) = (line for line in lines if "GET /held" in line)
    assert f"pid {other.pid} GET /held, thread MainThread, 0 statements, idle" in holder


def test_json(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The same figures, as numbers."""
    with worker(directory) as first, worker(directory) as second:
        assert main(["status", directory, "--json"]) == 0
        (pool,) = json.loads(capsys.readouterr().out)["pools"]
    assert {each["pid"] for each in pool["processes"]} == {first.pid, second.pid}
    assert (pool["name"], pool["limit"], pool["leased"], pool["use"]["count"]) == ("shop", 6, 2, 8)
    assert [each["request"] for each in pool["holders"]] == ["GET /held"] * 2


def test_all_that_is_told(stats: Stats, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Each figure has its place. Who holds a connection, and the latest events, come in the right order."""
    recent = Recent(300.0, durations(0.0, 0.0, 0.03), durations(0.002, 0.004, 1.2))
    monkeypatch.setattr(boards, "_pools", lambda directory: [Pool("shop", [Row(stats, recent, 12.0)], None)])
    lines = printed("board", capsys)
    assert lines[0] == "shop: 2 of 2 connections in use, 2 open, 1 request waiting, 1 process"
    assert "latest 5 min p50 p95 p99 times" in lines
    assert "waiting 0.01 ms 32 ms 32 ms 3" in lines
    assert "use 4 ms 1.3 s 1.3 s 3" in lines
    assert "dead time 75 % of the time of open connections" in lines
    assert "held but idle 60 % of the time in which requests have them" in lines
    assert "discards commit failed: 2, reset failed: 1" in lines
    assert "retirements none" in lines
    assert "statements 20" in lines
    held = lines.index("connections are held by")
    assert lines[held + 1 : held + 3] == [
        "30 s pid 7 GET /slow, thread t1, 1 statement, executing (12 s ago)",
        "2.0 s pid 7 GET /caf\\x1b[31m, thread t2, 3 statements, idle (12 s ago)",
    ]
    assert "1.5 s pid 7 GET /next, thread t3 (12 s ago)" in lines
    events = lines.index("latest events")
    assert lines[events + 1 : events + 3] == ["13 s ago pid 7 timeout: too late", "62 s ago pid 7 discard: bad \\r"]


@pytest.fixture
def stats(fakedb: FakeDB) -> Stats:
    with Database(creator=fakedb.connect, name="shop") as database:
        told = vars(database.stats())
    told |= {"pid": 7, "limit": 2, "open": 2, "idle": 0, "leased": 2, "waiting": 1, "statements": 20}
    told |= {"seconds_open": 40.0, "seconds_leased": 10.0, "seconds_executing": 4.0}
    told |= {"discards": {"reset failed": 1, "commit failed": 2}}
    told["holders"] = (Holder("GET /caf\x1b[31m", "t2", 2.0, 3, False), Holder("GET /slow", "t1", 30.0, 1, True))
    told["waiters"] = (Waiter("GET /next", "t3", 1.5),)
    told["events"] = (Notice(50.0, "discard", "bad \r"), Notice(1.0, "timeout", "too late"))
    return Stats(**told)


def test_no_process_is_alive(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The sums are still there."""
    with worker(directory) as other:
        other.kill()
        other.wait(30)
    lines = printed(directory, capsys)
    assert lines[0].endswith("0 processes")
    assert "leases 5" in lines


def test_an_empty_board(directory: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The exit code is 1, and a directory that is no board is left as it is."""
    (tmp_path / "letter").write_text("")
    for path in (directory, str(tmp_path)):
        assert main(["status", path]) == 1
        said = capsys.readouterr()
        assert (said.out, said.err) == (
            "", f"wsgidb: {path} has no statistics: no process has written any (option board)\n",
        )  # fmt: skip
    assert os.listdir(tmp_path) == ["letter"]


def test_a_board_that_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file in place of the directory, and rows that are none: one line each, and the exit code 1."""
    (tmp_path / "file").write_text("")
    assert main(["status", str(tmp_path / "file")]) == 1
    assert capsys.readouterr().err == f"wsgidb: {tmp_path}/file cannot be read: Not a directory\n"
    (tmp_path / "departed").write_text("rubbish")
    assert main(["status", str(tmp_path)]) == 1
    assert "cannot be read: JSONDecodeError" in capsys.readouterr().err


def test_one_row_that_cannot_be_read(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is a warning, and the others are shown."""
    with worker(directory):
        (Path(directory) / "1-x.row").write_bytes(b"rubbish")
        assert main(["status", directory]) == 0
        said = capsys.readouterr()
    assert said.out.startswith("shop: 1 of 3")
    assert "has no row that can be read" in said.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "the following arguments are required: DIRECTORY"),
        (["board", "--watch", "0"], "--watch: takes a number > 0 and <= 1000000, got '0'"),
        (["board", "--watch", "often"], "--watch: takes a number > 0 and <= 1000000, got 'often'"),
    ],
)
def test_a_mistake_of_the_users(arguments: list[str], says: str) -> None:
    """It is named, without a traceback, and the exit code is 2."""
    with command(*arguments, stderr=subprocess.PIPE) as process:
        assert process.wait(60) == 2
        assert process.stderr is not None
        said = process.stderr.read()
    assert says in said
    assert "Traceback" not in said


def test_watching(directory: str) -> None:
    """It looks again and again, one line of JSON each time, also while the board is empty. Ctrl-C ends it quietly."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with command(directory, "--json", "--watch", "0.05", **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            assert "has no statistics" in process.stderr.readline()
            with worker(directory) as other:
                for _ in range(2):
                    (pool,) = json.loads(process.stdout.readline())["pools"]
                    assert [each["pid"] for each in pool["processes"]] == [other.pid]
            process.send_signal(signal.SIGINT)
            said = process.communicate(timeout=30)[1]
        finally:
            process.kill()
        assert process.returncode == 0
        assert "Traceback" not in said


def test_watching_in_a_terminal(directory: str) -> None:
    """Each look begins on an empty screen."""
    ours, theirs = pty.openpty()
    with worker(directory), command(directory, "--watch", "0.05", stdout=theirs) as process:
        try:
            os.close(theirs)
            seen = b""
            while seen.count(b"shop: ") < 2:
                seen += os.read(ours, 1 << 16)
        finally:
            process.send_signal(signal.SIGINT)
            while _more(ours):
                pass
            os.close(ours)
    assert process.returncode == 0
    before, *looks = seen.split(b"\x1b[H\x1b[2J\x1b[3J")
    assert (before, len(looks) >= 2) == (b"", True)
    assert [look.count(b"shop: ") for look in looks[:-1]] == [1] * len(looks[:-1])
    assert all(look.startswith(b"shop: "[: len(look)]) for look in looks), "the last one may have begun just now"


def _more(file: int) -> bool:
    try:
        return os.read(file, 1 << 16) != b""
    except OSError:  # the other side is closed
        return False


def test_a_reader_that_has_seen_enough(directory: str) -> None:
    """`| head -1` ends the command without a word."""
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with worker(directory), command(directory, "--watch", "0.01", **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("shop: ")
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_terminal_of_few_characters(directory: str) -> None:
    """What it cannot show is escaped."""
    options: dict[str, Any] = {"stdout": subprocess.PIPE, "env": {**os.environ, "PYTHONIOENCODING": "ascii"}}
    database = Database(creator=FakeDB().connect, name="caffè", board=directory)
    with database, database.connection(), command(directory, **options) as process:
        assert process.stdout is not None
        assert process.stdout.read().startswith("caff\\xe8: 1 of 10")
        assert process.wait(30) == 0


def test_root_leaves_the_board_to_its_owner(directory: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is written by an operator who looks at another user's board can be read by that user."""
    with worker(directory) as other:
        other.kill()
        other.wait(30)
    if os.geteuid() == 0:
        for path in (directory, *(entry.path for entry in os.scandir(directory))):
            os.chown(path, 12345, 12345)
    printed(directory, capsys)
    owners = {name: os.stat(os.path.join(directory, name)).st_uid for name in (".", "lock", "departed")}
    assert set(owners.values()) == {os.stat(directory).st_uid}


def test_ctrl_c(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Outside of --watch it ends a command quietly, with the exit code that shells have for it."""

    def interrupted(directory: str) -> list[Pool]:
        raise KeyboardInterrupt

    monkeypatch.setattr(boards, "_pools", interrupted)
    assert main(["status", "board"]) == 130
    assert capsys.readouterr() == ("", "")
