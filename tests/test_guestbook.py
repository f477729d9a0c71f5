"""examples/guestbook: its own tests pass, and a person can use it in a browser."""

from __future__ import annotations

import os
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from configparser import RawConfigParser
from pathlib import Path
from urllib.request import urlopen

import pytest
from selenium.webdriver.common.by import By

from support.browser import browser, shows
from support.demo import EXAMPLES, environment
from support.mariadb import MariaDB
from support.ports import bind
from support.postgresql import PostgreSQL
from support.waiting import until

GUESTBOOK = EXAMPLES / "guestbook"


@pytest.fixture(
    params=["sqlite", *(pytest.param(name, marks=pytest.mark.server) for name in ("mariadb", "postgresql"))]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/guests.db"
        return
    server: MariaDB | PostgreSQL = request.getfixturevalue(request.param)
    yield server.url()
    server.execute("DROP TABLE entry")
    server.execute("DROP TABLE guest")


def run(*command: object, **settings: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *map(str, command)],
        cwd=GUESTBOOK, env=environment(**settings), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_its_own_tests_pass(tmp_path: Path) -> None:
    """They pass in a copy of the folder, as somebody has it who begins with it."""
    shutil.copytree(GUESTBOOK, tmp_path / "copy", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path / "copy", env=environment(), capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert (done.returncode, "9 passed" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A copy of the folder with a virtual environment in it, as guestbook.service wants it in /srv, and the unit with
    the copy's paths."""
    folder = tmp_path / "srv"
    shutil.copytree(GUESTBOOK, folder, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / ".venv" / "bin").mkdir(parents=True)
    for name in ("flask", "gunicorn"):
        program = folder / ".venv" / "bin" / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m {name} "$@"\n')
        program.chmod(0o755)
    unit = folder / "guestbook.service"
    unit.write_text(unit.read_text().replace("/srv/guestbook", str(folder)))
    return folder


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_the_unit(installed: Path) -> None:
    """It finds the commands, and knows every setting."""
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", installed / "guestbook.service"],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert [line for line in done.stderr.splitlines() if "guestbook" in line] == []


def test_the_commands_of_the_unit(installed: Path, tmp_path: Path) -> None:
    """As systemd runs them: with the unit's environment, in its folder, until gunicorn says that it serves."""
    unit = RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(installed / "guestbook.service")
    service = unit["Service"]
    with bind() as listener, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        listener.listen(16)
        name = f"wsgidb-{secrets.token_hex(8)}"
        systemd.bind(f"\0{name}")
        systemd.settimeout(60)
        settings = environment(
            **dict([service["Environment"].split("=", 1)]),
            WSGIDB_URL=f"sqlite:///{tmp_path}/guests.db", SECRET_KEY="of a test",
            PYTHONPATH=os.environ.get("PYTHONPATH", ""), NOTIFY_SOCKET=f"@{name}",
            GUNICORN_CMD_ARGS=f"--bind fd://{listener.fileno()}",  # in place of the port 8000
        )  # fmt: skip
        folder = service["WorkingDirectory"]
        subprocess.run(shlex.split(service["ExecStartPre"]), cwd=folder, env=settings, timeout=60, check=True)
        with subprocess.Popen(
            shlex.split(service["ExecStart"]), cwd=folder, env=settings, pass_fds=[listener.fileno()]
        ) as gunicorn:
            try:
                assert b"READY=1" in systemd.recv(1000)
                with urlopen(f"http://127.0.0.1:{listener.getsockname()[1]}/", timeout=60) as answer:
                    assert b"Nobody has signed yet" in answer.read()
            finally:
                gunicorn.terminate()
            assert gunicorn.wait(timeout=60) == 0


@pytest.mark.slow
def test_a_person_uses_it(url: str, tmp_path: Path) -> None:
    """With gunicorn and its settings file, somebody joins, signs, is still logged in after a restart of the server, and
    removes what was written."""
    settings = {"WSGIDB_URL": url, "SECRET_KEY": "of a test", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    run("flask", "--app", "guests", "init-db", **settings)
    run("flask", "--app", "guests", "init-db", **settings)  # the tables are there already
    with bind() as listener, browser(width=800) as chrome:
        listener.listen(16)  # clients wait while no gunicorn runs
        address = f"127.0.0.1:{listener.getsockname()[1]}"

        def press(button: str) -> None:
            until(lambda: chrome.find_elements(By.XPATH, f"//button[.='{button}']"), 30, button)[0].click()

        def enter(name: str, text: str) -> None:
            until(lambda: chrome.find_elements(By.NAME, name), 30, name)[0].send_keys(text)

        for turn in (1, 2):
            command = [sys.executable, "-m", "gunicorn", "-b", f"fd://{listener.fileno()}", "guests:create_app()"]
            with (
                (tmp_path / "gunicorn.log").open("w") as log,
                subprocess.Popen(
                    command, cwd=GUESTBOOK, env=environment(**settings), stderr=log, pass_fds=[listener.fileno()]
                ) as gunicorn,
            ):
                try:
                    chrome.get(f"http://{address}/")
                    if turn == 1:
                        shows(chrome, "Nobody has signed yet")
                        enter("name", "Ada")
                        enter("password", "difference")
                        press("Join")
                        shows(chrome, "Welcome, Ada")
                        enter("message", "Hello from København")
                        press("Sign")
                        shows(chrome, "Hello from København")
                        shows(chrome, r"Ada, \d{4}-\d\d-\d\d \d\d:\d\d UTC")
                        if directory := os.environ.get("WSGIDB_TEST_PICTURES"):
                            chrome.save_screenshot(f"{directory}/guestbook.png")
                    else:
                        shows(chrome, "Log out")
                        press("Remove")
                        shows(chrome, "Nobody has signed yet")
                        press("Log out")
                        shows(chrome, "Password")
                finally:
                    gunicorn.terminate()
                    assert until(lambda: gunicorn.poll() is not None, 60, "gunicorn to end")
