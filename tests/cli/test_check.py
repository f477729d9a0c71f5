"""python -m wsgidb: what it prints, and with which exit code it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import wsgidb
from support.mariadb import MariaDB
from support.ports import bind
from wsgidb.cli.commands import main
from wsgidb.config.options import OPTIONS
from wsgidb.config.settings import Settings
from wsgidb.observe.server import advice


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command as a user types it."""
    return subprocess.run(
        [sys.executable, "-m", "wsgidb", *arguments],
        capture_output=True, text=True, timeout=60, check=False, cwd=Path(wsgidb.__file__).parents[1],
    )  # fmt: skip


def told(url: str, capsys: pytest.CaptureFixture[str], *options: str) -> dict[str, Any]:
    assert main(["check", url, "--json", *options]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.server
@pytest.mark.parametrize("scheme", ["mysql+pymysql", "mysql+mysqldb", "mysql+mysqlconnector"])
def test_mariadb(mariadb: MariaDB, scheme: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What the server itself says."""
    found = told(mariadb.url().replace("mysql+pymysql", scheme), capsys)
    assert found["server"] == "MariaDB"
    assert found["max_connections"] == mariadb.query("SELECT @@max_connections")[0][0]
    assert (found["tls"], found["read_only"], found["advice"]) == (None, False, [])
    assert 0 < found["round_trip_seconds"] < 10


@pytest.mark.server
def test_tls(tls_mariadb: MariaDB, capsys: pytest.CaptureFixture[str]) -> None:
    """The cipher that is in use."""
    assert told(tls_mariadb.url(), capsys)["tls"]


@pytest.mark.server
def test_postgresql(request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]) -> None:
    """The same questions, in its own words."""
    found = told(request.getfixturevalue("postgresql").url(), capsys)
    assert (found["server"], found["tls"], found["read_only"]) == ("PostgreSQL", None, False)
    assert found["idle_timeout"] is None


def test_sqlite(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no server to ask for limits."""
    found = told(f"sqlite:///{tmp_path}/checked.db", capsys)
    assert (found["server"], found["journal_mode"]) == ("SQLite", "delete")


@pytest.mark.server
def test_an_idle_time_out_below_max_idle(own_mariadb: MariaDB, capsys: pytest.CaptureFixture[str]) -> None:
    """What does not fit is said, with the option that changes it."""
    own_mariadb.execute("SET GLOBAL wait_timeout = 60")
    (note,) = told(own_mariadb.url(), capsys)["advice"]
    assert note == (
        "The server closes idle connections after 60 s, and wsgidb keeps them for 600 s (max_idle): "
        "set max_idle below it."
    )
    assert told(own_mariadb.url(), capsys, "--option", "max_idle=30")["advice"] == []


def test_advice_on_what_the_server_takes() -> None:
    """A standby, and a pool that takes all that the server allows."""
    settings = Settings.of({"url": "mysql://h/d", "pool_size": 100})
    found = advice({"idle_timeout": 28800.0, "read_only": True, "max_connections": 151}, settings)
    assert found == [
        "The server takes no writes: it is read-only, or a standby.",
        "The server allows 151 connections, and each process may open 100 (pool_size).",
    ]


def test_a_server_that_is_not_there() -> None:
    """One line that says why, without a password, and the exit code 1."""
    with bind() as reserved:
        done = run("check", f"mysql://app:geheim@127.0.0.1:{reserved.getsockname()[1]}/shop")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("wsgidb: cannot connect: ")
    assert len(done.stderr.splitlines()) == 1
    assert "geheim" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "myqsl://h/d"], "unknown scheme 'myqsl'"),
        (["check", "sqlite:///x.db", "--option", "pool_sise=3"], "did you mean 'pool_size'"),
        (["check", "sqlite:///x.db", "--option", "pool_size"], "takes NAME=VALUE"),
        (["chekc"], "invalid choice"),
        ([], "required"),
    ],
)
def test_a_mistake_of_the_users(arguments: list[str], says: str) -> None:
    """It is named, without a traceback, and the exit code is 2."""
    done = run(*arguments)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_the_environment_is_read_without_a_url(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the middleware reads it."""
    monkeypatch.setenv("WSGIDB_URL", f"sqlite:///{tmp_path}/env.db")
    assert main(["check"]) == 0
    assert "SQLite" in capsys.readouterr().out


def test_options_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    """All of them, from the table."""
    assert main(["options", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == [*OPTIONS]
    assert main(["options"]) == 0
    assert "acquire_timeout (seconds), default 5.0" in capsys.readouterr().out
