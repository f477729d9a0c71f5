"""The example paste.ini with the two servers that read such files: gunicorn and Pyramid's pserve."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

import load_cities
from support.mariadb import MariaDB
from support.ports import bind
from support.waiting import until
from wsgidb import Database

EXAMPLES = Path(load_cities.__file__).parent
SERVERS: dict[str, Callable[[Path, int], list[str]]] = {
    "gunicorn": lambda ini, port: ["gunicorn", "--paste", str(ini), "--bind", f"127.0.0.1:{port}"],
    "pserve": lambda ini, port: ["pserve", str(ini)],
}
LISTEN = "listen = 127.0.0.1:8000"


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def written(directory: Path, port: int, url: str | None = None, **keys: str) -> Path:
    """Copy the example's ini into a directory, with another port, and perhaps another url and other keys for wsgidb."""
    text = (EXAMPLES / "paste.ini").read_text()
    assert LISTEN in text
    lines = text.replace(LISTEN, f"listen = 127.0.0.1:{port}").splitlines()
    given = {**({"url": url.replace("%", "%%")} if url else {}), **keys}
    lines = [line for line in lines if line.partition(" = ")[0] not in given]
    place = lines.index("use = egg:wsgidb") + 1
    ini = directory / "examples" / "paste.ini"
    ini.parent.mkdir(exist_ok=True)
    ini.write_text("\n".join([*lines[:place], *(f"{key} = {value}" for key, value in given.items()), *lines[place:]]))
    return ini


def command(server: str, ini: Path, port: int) -> list[str]:
    name, *arguments = SERVERS[server](ini, port)
    return [str(Path(sys.executable).with_name(name)), *arguments]


def environment(home: Path) -> dict[str, str]:
    """This process's environment without wsgidb's settings, and with another HOME, where gunicorn puts a socket."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("WSGIDB_")}
    path = [str(EXAMPLES), *filter(None, [ours.get("PYTHONPATH")])]
    return {**ours, "HOME": str(home), "PYTHONPATH": os.pathsep.join(path)}


@contextmanager
def serving(server: str, ini: Path, port: int, log: Path) -> Iterator[str]:
    """Run the server, and yield its address as soon as it answers."""

    def answers() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return requests.get(f"{address}/", timeout=10).status_code == 400
        except requests.ConnectionError:
            return False

    address = f"http://127.0.0.1:{port}"
    with log.open("w") as out:
        process = subprocess.Popen(
            command(server, ini, port), env=environment(log.parent), stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
        try:
            until(answers, timeout=60, what=f"{server} to answer")
            yield address
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            finally:
                process.kill()
                process.wait()


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.server)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str | None]:
    """The url of the cities; None is the example's own."""
    if request.param == "sqlite":
        (tmp_path / "build" / "demo").mkdir(parents=True)
        with Database(f"sqlite:///{tmp_path}/build/demo/cities.sqlite3") as database:
            load_cities.load_cities(database)
        yield None
        return
    mariadb: MariaDB = request.getfixturevalue("mariadb")
    with Database(mariadb.url("app")) as database:
        load_cities.load_cities(database)
    yield mariadb.url("app")  # its password contains %, @ and /
    mariadb.execute("DROP TABLE city")


def test_the_example_is_served(server: str, url: str | None, tmp_path: Path) -> None:
    """The example answers over HTTP, on its own database and on MariaDB."""
    with bind() as reserved:
        port = reserved.getsockname()[1]
        ini = written(tmp_path, port, url)
        with serving(server, ini, port, tmp_path / "log") as address:
            response = requests.get(f"{address}/?city=London", timeout=30)
            assert (response.status_code, response.text) == (200, 'City "London" is #770')
            response = requests.get(f"{address}/", params={"city": "東京"}, timeout=30)
            assert response.text == 'City "東京" is #391'


def test_a_bad_key_stops_the_server_at_its_start(server: str, tmp_path: Path) -> None:
    """The error names the key, and the server ends."""
    with bind() as reserved:
        port = reserved.getsockname()[1]
        ini = written(tmp_path, port, pool_size="many")
        done = subprocess.run(
            command(server, ini, port), env=environment(tmp_path), stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode != 0
    assert "ConfigError: pool_size: takes a whole number >= 1 and <= 100000, got 'many'" in done.stdout
