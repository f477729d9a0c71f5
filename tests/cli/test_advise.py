"""python -m wsgidb advise: the size of a pool, from numbers that are given or measured."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wsgidb
from observe.test_board import worker
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from wsgidb import Database
from wsgidb.cli import boards
from wsgidb.cli.commands import main
from wsgidb.observe.recent import Recent
from wsgidb.observe.rows import Row
from wsgidb.observe.sources import Pool
from wsgidb.observe.total import empty
from wsgidb.pool.durations import DurationCounter

GIVEN = ("--rate", "400", "--use", "0.004")


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main(["advise", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_process(capsys: pytest.CaptureFixture[str]) -> None:
    """400 × 0.004 = 1.6. With 6 connections less than one request in a hundred waits, with 5 more."""
    found = told(capsys, *GIVEN)
    assert found["in_use"] == pytest.approx(1.6)
    assert (found["pool_size"], found["total"], found["advice"]) == (6, 6, [])
    assert found["each"]["wait_share"] == pytest.approx(0.00641, abs=1e-5)
    assert told(capsys, *GIVEN, "--wait-share", "0.03")["pool_size"] == 5


def test_text(capsys: pytest.CaptureFixture[str]) -> None:
    """The load, the size, and how much waiting is left."""
    assert main(["advise", *GIVEN, "--processes", "4", "--max-connections", "151"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:4] == [
        "load: 400 requests per second × 4 ms of use",
        "  = 1.6 connections in use on average (0.4 in each process)",
        "pool_size: 3 in each of 4 processes, 12 connections together",
        "  0.8 % of the requests wait for a connection, 0.013 ms on average (target: at most 1.0 % wait)",
    ]
    assert lines[4].startswith("One queue for all processes would need 6 connections instead of 12: ")
    assert lines[5].startswith("12 of the 151 connections that the server allows (max_connections): it fits, ")
    assert lines[5].endswith("no more than 139.")
    assert len(lines) == 6


def test_the_mean_wait(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a target of its own, or one more."""
    alone = told(capsys, *GIVEN, "--mean-wait", "0.001")
    assert (alone["targets"], alone["pool_size"]) == ({"wait_share": None, "mean_wait": 0.001}, 3)
    assert told(capsys, *GIVEN, "--mean-wait", "0.001", "--wait-share", "0.01")["pool_size"] == 6
    assert told(capsys, *GIVEN, "--mean-wait", "0.000001", "--wait-share", "0.5")["pool_size"] == 8


@pytest.mark.parametrize(
    ("most", "processes", "says"),
    [
        (11, 4, "and 12 are more: with pool_size=2, 6.7 % of the requests wait for a connection, 0.17 ms on average."),
        (3, 2, "and 8 are more: with pool_size=1, 80 % of the requests wait for a connection, 16 ms on average."),
        (1, 1, "and 6 are more: with pool_size=1, requests come faster than they can be served."),
        (3, 4, "and 12 are more: there are more processes than that."),
    ],
)
def test_more_than_the_server_allows(most: int, processes: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is said what happens with the pools that are allowed."""
    found = told(capsys, *GIVEN, "--processes", str(processes), "--max-connections", str(most))
    assert found["max_connections"] == most
    assert found["advice"][-1] == f"The server allows {most} connections only (max_connections), {says}"


@pytest.mark.server
def test_the_server_is_asked(mariadb: MariaDB, capsys: pytest.CaptureFixture[str]) -> None:
    """What it says itself."""
    assert told(capsys, *GIVEN, mariadb.url())["max_connections"] == mariadb.query("SELECT @@max_connections")[0][0]


def row(pid: int, leases: int, use: float, seconds: float = 100.0, age: float = 0.0, **stats: Any) -> Row:
    """A process that has served so many requests."""
    waits, uses = DurationCounter(), DurationCounter()
    for _ in range(leases):
        waits.add(0.0)
        uses.add(use)
    told = {**vars(empty("shop")), "pid": pid, "limit": 10, **stats}
    return Row(type(empty("shop"))(**told), Recent(seconds, waits.snapshot(), uses.snapshot()), age)


@pytest.fixture
def pools(monkeypatch: pytest.MonkeyPatch) -> list[Pool]:
    """What the board has."""
    found: list[Pool] = []
    monkeypatch.setattr(boards, "_pools", lambda directory: found)
    return found


def test_measured(pools: list[Pool], capsys: pytest.CaptureFixture[str]) -> None:
    """The rates of all processes together, each over its own time, and the mean of all uses."""
    pools.append(Pool("shop", [row(1, 3000, 0.02), row(2, 1000, 0.06, seconds=20.0, age=30.0)], None))
    found = told(capsys, "--board", "board")
    assert (found["rate"], found["processes"]) == (30 + 20, 2)
    assert found["use"] == pytest.approx(0.03)
    assert found["in_use"] == pytest.approx(1.5)
    assert found["pool_size"] == told(capsys, "--rate", "50", "--use", "0.03", "--processes", "2")["pool_size"]
    assert found["advice"][-1] == "Now it is 10."
    assert told(capsys, "--board", "board", "--rate", "500", "--processes", "5")["rate"] == 500


def test_a_busy_and_a_lazy_process(pools: list[Pool], capsys: pytest.CaptureFixture[str]) -> None:
    """An even share would be too little for one of them."""
    pools.append(Pool("shop", [row(1, 5000, 0.1, limit=8), row(2, 1, 0.1, limit=None)], None))
    notes = told(capsys, "--board", "board")["advice"]
    assert notes[-2:] == [
        "The processes have unequal shares: the busiest had 5 connections in use on average, for which pool_size=12 "
        "would be right.",
        "Now it is unlimited or 8.",
    ]


@pytest.mark.parametrize("busy", [{"waiting": 1}, {"limit": 1}])
def test_an_exhausted_pool(pools: list[Pool], busy: dict[str, int], capsys: pytest.CaptureFixture[str]) -> None:
    """What it keeps from coming cannot be measured."""
    pools.append(Pool("shop", [row(1, 1000, 0.09, **busy)], None))
    assert "nearly exhausted" in " ".join(told(capsys, "--board", "board")["advice"])
    pools[:] = [Pool("shop", [row(1, 1000, 0.09)], None)]
    assert "nearly exhausted" not in " ".join(told(capsys, "--board", "board")["advice"])


def test_a_board_of_another_process(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its four requests are measured, and it is said that this is little."""
    directory = str(tmp_path / "board")
    with worker(directory):
        found = told(capsys, "--board", directory)
        assert found["measured"]["sizes"] == [3]
        assert found["rate"] == pytest.approx(5 / max(1, found["measured"]["seconds"]), rel=0.9)
        assert "ask again later" in found["advice"][0]
        with Database(creator=FakeDB().connect, name="other", board=directory) as database:
            with database.connection():
                pass
            with pytest.raises(SystemExit):
                main(["advise", "--board", directory])
            assert "choose one with --pool: other, shop" in capsys.readouterr().err
            assert told(capsys, "--board", directory, "--pool", "shop")["measured"]["sizes"] == [3]


def test_no_requests(pools: list[Pool], capsys: pytest.CaptureFixture[str]) -> None:
    """There is nothing to measure."""
    pools.append(Pool("shop", [row(1, 0, 0.0)], None))
    assert main(["advise", "--board", "board"]) == 1
    assert "tells of no request of shop" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--rate", "5"], "give --rate and --use, or --board"),
        ([*GIVEN, "--pool", "shop"], "--pool is for --board"),
        ([*GIVEN, "--max-connections", "5", "sqlite:///x.db"], "give a url or --max-connections, not both"),
        (["--rate", "1e6", "--use", "1"], "no pool is large enough: 1e+06 connections would be in use on average"),
        (["--rate", "nan", "--use", "1"], "--rate: takes a number > 0 and <= 1000000, got 'nan'"),
        ([*GIVEN, "--wait-share", "1.5"], "--wait-share: takes a number > 0 and <= 1, got '1.5'"),
        ([*GIVEN, "--processes", "0.5"], "--processes: takes a whole number >= 1 and <= 1000000, got '0.5'"),
    ],
)
def test_a_mistake_of_the_users(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It is named, and the exit code is 2."""
    with pytest.raises(SystemExit) as caught:
        main(["advise", *arguments])
    assert caught.value.code == 2
    assert says in " ".join(capsys.readouterr().err.split())


def test_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no server to ask for limits."""
    with pytest.raises(SystemExit):
        main(["advise", *GIVEN, f"sqlite:///{tmp_path}/asked.db"])
    assert "the url is of a SQLite, which allows any number of connections" in capsys.readouterr().err


def test_a_bad_url(capsys: pytest.CaptureFixture[str]) -> None:
    """It is a mistake, too."""
    assert main(["advise", *GIVEN, "myqsl://h/d"]) == 2
    assert "unknown scheme 'myqsl'" in capsys.readouterr().err


def test_as_a_user_types_it() -> None:
    """The command, and its exit code."""
    line = [sys.executable, "-m", "wsgidb", "advise", *GIVEN]
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=60, check=False, cwd=Path(wsgidb.__file__).parents[1]
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "pool_size: 6\n" in done.stdout
