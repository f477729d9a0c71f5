"""Credential rotation: a callable connect_args is called for every connect, and for nothing else."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from support.client import connect, value
from support.clock import Clock
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.waiting import until
from wsgidb import ConfigError, Database, DatabaseUnavailable

USER = "rotating"


class Vault:
    """It has the current password, and counts how often it was asked."""

    def __init__(self, password: str) -> None:
        self.password = password
        self.asked = 0

    def __call__(self) -> dict[str, Any]:
        self.asked += 1
        return {"password": self.password}


vault = Vault("")  # "config.test_rotation:vault" names it


@pytest.fixture
def rotating(mariadb: MariaDB) -> Iterator[Vault]:
    """A user on the server, whose password is "first"."""
    mariadb.execute(f"CREATE USER {USER}@'127.0.0.1' IDENTIFIED BY 'first'")
    mariadb.execute(f"GRANT ALL ON test.* TO {USER}@'127.0.0.1'")
    yield Vault("first")
    mariadb.execute(f"DROP USER {USER}@'127.0.0.1'")


def change(mariadb: MariaDB, password: str) -> None:
    mariadb.execute(f"ALTER USER {USER}@'127.0.0.1' IDENTIFIED BY %s", password)


def whoami(database: Database) -> str:
    with database.connection() as conn, closing(conn.cursor()) as cursor:
        cursor.execute("SELECT CURRENT_USER()")
        return str(cursor.fetchone()[0])


@pytest.mark.server
def test_each_connect_asks_for_the_password_of_that_moment(mariadb: MariaDB, rotating: Vault) -> None:
    """A password that is changed on the server between two connects is no outage, and the url needs none."""
    with Database(mariadb.url(USER), connect_args=rotating, strategy="per-request") as database:
        assert whoami(database) == f"{USER}@127.0.0.1"
        change(mariadb, "second")
        rotating.password = "second"
        assert whoami(database) == f"{USER}@127.0.0.1"
        assert (database.stats().connects, database.stats().connect_failures, rotating.asked) == (2, 0, 2)


@pytest.mark.server
def test_what_is_open_stays_and_is_not_asked_for(mariadb: MariaDB, rotating: Vault) -> None:
    """A pooled connection outlives the rotation. The one that replaces it logs in with the new password."""
    with Database(mariadb.url(USER), connect_args=rotating) as database:
        for _ in range(5):
            whoami(database)
        assert rotating.asked == 1
        change(mariadb, "second")
        rotating.password = "second"
        assert whoami(database) == f"{USER}@127.0.0.1"
        assert rotating.asked == 1
        mariadb.kill_connections(USER)
        assert whoami(database) == f"{USER}@127.0.0.1"
        assert (rotating.asked, database.stats().connect_failures) == (2, 0)


@pytest.mark.server
def test_a_password_that_came_too_late_heals_by_itself(
    mariadb: MariaDB, rotating: Vault, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the server changes first, the login is refused. The log shows the cause but no password. Then it works."""
    change(mariadb, "second")
    with Database(mariadb.url(USER), connect_args=rotating, clock=clock) as database:
        with pytest.raises(DatabaseUnavailable, match="1045"):
            whoami(database)
        rotating.password = "second"
        clock.advance(60)  # until after the back-off
        assert whoami(database) == f"{USER}@127.0.0.1"
    assert "Access denied" in caplog.text
    assert "first" not in caplog.text
    assert "second" not in caplog.text


@pytest.mark.server
def test_a_name_in_place_of_the_callable(mariadb: MariaDB, rotating: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment names the callable as module:name, and that object is called."""
    import config.test_rotation as importable  # what module:name finds is another module object than this one

    monkeypatch.setattr(importable, "vault", rotating)
    monkeypatch.setenv("ROTATING_URL", mariadb.url(USER))
    monkeypatch.setenv("ROTATING_CONNECT_ARGS", "config.test_rotation:vault")
    with Database.from_env("ROTATING_") as database:
        assert whoami(database) == f"{USER}@127.0.0.1"
    assert rotating.asked == 1


@pytest.mark.server
def test_the_callable_may_change_the_user_too(mariadb: MariaDB, rotating: Vault) -> None:
    """What the callable returns takes precedence over the url, as some vaults rotate by making new users."""
    users = iter(["guest", USER])
    passwords = {"guest": "", USER: "first"}

    def arguments() -> dict[str, Any]:
        user = next(users)
        return {"user": user, "password": passwords[user]}

    with Database(mariadb.url("app"), connect_args=arguments, strategy="per-request") as database:
        assert [whoami(database) for _ in range(2)] == ["guest@%", f"{USER}@127.0.0.1"]


@pytest.mark.server
@pytest.mark.parametrize(
    ("returned", "cause"),
    [
        ({"autocommit": True}, "autocommit: cannot be given in the url or connect_args"),
        ({"pasword": "x"}, "pasword: PyMySQL has no such option"),
    ],
)
def test_what_it_returns_is_checked_at_every_connect(
    mariadb: MariaDB, caplog: pytest.LogCaptureFixture, returned: dict[str, Any], cause: str
) -> None:
    """A bad argument is found when connecting, so it is a DatabaseUnavailable with its cause, which is logged."""
    sessions = set(mariadb.processes("guest"))  # some of an earlier test may be about to end
    with Database(mariadb.url(), connect_args=lambda: returned) as database:
        with pytest.raises(DatabaseUnavailable, match=cause) as caught:
            whoami(database)
        assert isinstance(caught.value.__cause__, ConfigError)
    assert cause in caplog.text
    assert not set(mariadb.processes("guest")) - sessions


def test_a_callable_that_raises_is_an_outage_with_its_cause(
    fakedb: FakeDB, caplog: pytest.LogCaptureFixture, clock: Clock
) -> None:
    """If the callable fails, no connect is tried and the log says why. The next request calls it again."""
    answers: list[Any] = [ConnectionError("the vault is sealed"), {"password": "x"}]

    def arguments() -> Any:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    with (
        caplog.at_level(logging.WARNING, "wsgidb"),
        Database(creator=fakedb.connect, connect_args=arguments, clock=clock) as database,
    ):
        with pytest.raises(DatabaseUnavailable, match="the vault is sealed"), database.connection():
            pass
        assert fakedb.count("connect") == 0
        clock.advance(60)
        with database.connection() as conn:
            assert conn.kwargs == {"password": "x"}
    assert "cannot connect: ConnectionError: the vault is sealed" in caplog.text


def test_a_program_reads_it_from_its_environment(tmp_path: Any) -> None:
    """The environment of a separate process names the callable, and it is called for every connect."""
    (tmp_path / "secrets_of_mine.py").write_text(
        "asked = []\ndef arguments():\n    asked.append(1)\n    return {'timeout': 1.5}\n"
    )
    program = (
        "import secrets_of_mine, wsgidb\n"
        "with wsgidb.Database.from_env() as database:\n"
        "    for _ in range(3):\n"
        "        with database.connection() as conn: pass\n"
        "print(len(secrets_of_mine.asked))\n"
    )
    environ = {
        "PYTHONPATH": f"{tmp_path}:{':'.join(filter(None, sys.path))}",
        "WSGIDB_URL": f"sqlite:///{tmp_path}/file.db",
        "WSGIDB_STRATEGY": "per-request",
        "WSGIDB_CONNECT_ARGS": "secrets_of_mine:arguments",
    }
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("3\n", "")


@pytest.mark.server
def test_a_wrong_password_leaves_no_session(mariadb: MariaDB, rotating: Vault) -> None:
    """A refused login leaves no session on the server."""
    with closing(connect(mariadb.url("root", database="mysql"))) as admin:
        latest = int(value(admin, "SELECT CONNECTION_ID()"))
        with Database(mariadb.url(USER, password="wrong")) as database, pytest.raises(DatabaseUnavailable):
            whoami(database)
        later = f"SELECT COUNT(*) FROM information_schema.processlist WHERE id > {latest} AND command <> 'Daemon'"
        until(lambda: value(admin, later) == 0, what="the session to end")
