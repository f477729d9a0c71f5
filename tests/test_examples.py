"""The example applications: what they answer with each database, under wsgiref.validate, and how they are served."""

from __future__ import annotations

import re
import runpy
import socket
import subprocess
import sys
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from wsgiref.validate import validator

import pytest
import requests
from werkzeug.test import Client, TestResponse

import load_cities
from support.demo import EXAMPLES, environment, served
from support.ports import bind
from support.waiting import until
from wsgidb import Database

FRAMEWORKS = sorted([EXAMPLES / "plain_wsgi.py", *EXAMPLES.glob("*_app.py")])
APPLICATIONS = ["plain_wsgi"]
STRATEGIES = ["per-request", "thread-local", "pooled"]

Get = Callable[[str], TestResponse]


@pytest.fixture(
    params=["sqlite", *(pytest.param(name, marks=pytest.mark.server) for name in ("mariadb", "postgresql"))]
)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database without a table of cities; the table is removed after the test."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/cities.sqlite3"
        return
    address: str = request.getfixturevalue(request.param).url()
    yield address
    execute(address, "DROP TABLE IF EXISTS city")


@pytest.fixture
def cities_url(url: str) -> str:
    """A database with the cities in it."""
    with Database(url) as database:
        assert load_cities.load_cities(database) == len(load_cities.read_cities())
    return url


@pytest.fixture
def strategy() -> str:
    """The strategy of tests that are not about strategies."""
    return "pooled"


@pytest.fixture(params=APPLICATIONS)
def get(
    request: pytest.FixtureRequest, cities_url: str, strategy: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Get]:
    """Send a raw query string to an application that is configured by the environment alone, as its users do it."""
    monkeypatch.setenv("WSGIDB_URL", cities_url)
    monkeypatch.setenv("WSGIDB_STRATEGY", strategy)
    application = runpy.run_path(str(EXAMPLES / f"{request.param}.py"))["application"]
    client = Client(validator(application))
    with closing(application.database):
        yield lambda query: client.get("/", environ_overrides={"QUERY_STRING": query}, buffered=True)


def execute(url: str, statement: str) -> list[Any]:
    with Database(url) as database, database.connection() as connection, closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        rows = list(cursor.fetchall()) if cursor.description else []
        connection.commit()
    return rows


def query(name: str) -> str:
    return urlencode({"city": name})


class TestAnswers:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_every_city_is_found_under_its_own_number(self, get: Get) -> None:
        """Each city is found by exactly its name: quotes, accents, other scripts, and pairs like Århus and Aarhus."""
        for number, city, _ in load_cities.read_cities():
            assert get(query(city)).text == f'City "{city}" is #{number}'

    @pytest.mark.parametrize(
        "name",
        [
            "Atlantis",
            "london",
            "London ",
            "Zurich",
            "Kobenhavn",
            "L\\'Aquila",
            'Say "when"',
            "100%",
            "%s",
            "?",
            "L%",
            "'; DROP TABLE city; --",
            "アトランティス",
            "𝔏ondon",
            "a+b&c=d#e",
        ],
    )
    def test_a_name_that_is_no_city_is_not_found_and_repeated_as_it_came(self, get: Get, name: str) -> None:
        response = get(query(name))

        assert response.text == f'City "{name}" not found'
        assert response.status == "404 Not Found"

    @pytest.mark.parametrize("query", ["", "city=", "city", "city=&city=", "town=London"])
    def test_a_missing_or_empty_city_is_a_bad_request(self, get: Get, query: str) -> None:
        response = get(query)

        assert response.status == "400 Bad Request"
        assert "/?city=London" in response.text

    def test_a_query_of_plain_utf8_means_the_same_as_a_percent_encoded_one(self, get: Get) -> None:
        """A query that the client did not encode is understood; the server passes it as Latin-1 text."""
        plain = "city=København".encode().decode("latin-1")

        assert get(plain).text == get(query("København")).text
        assert "#" in get(plain).text

    def test_bytes_that_are_no_utf8_are_no_city(self, get: Get) -> None:
        assert get("city=%FF").text == 'City "\N{REPLACEMENT CHARACTER}" not found'

    @pytest.mark.parametrize("query", [query("東京"), query("—"), ""])
    def test_the_body_is_utf8_text_with_its_length_in_bytes(self, get: Get, query: str) -> None:
        response = get(query)

        assert response.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert response.headers["Content-Length"] == str(len(response.data))


@pytest.mark.parametrize("path", FRAMEWORKS, ids=lambda path: path.stem)
def test_an_example_is_short(path: Path) -> None:
    """Each example is one file of fewer than 50 lines, whatever the framework."""
    assert len(path.read_text().splitlines()) < 50


class TestData:
    def test_there_are_hundreds_of_cities_of_most_countries(self) -> None:
        rows = load_cities.read_cities()

        assert len(rows) >= 500
        assert len({country for _, _, country in rows}) >= 150

    def test_a_name_stands_once_in_composed_form_and_numbers_count_up(self) -> None:
        """A number is never reused, so new rows are added at the end."""
        rows = load_cities.read_cities()
        names = [city for _, city, _ in rows]

        assert [number for number, _, _ in rows] == list(range(1, len(rows) + 1))
        assert len(set(names)) == len(names)
        assert names == [unicodedata.normalize("NFC", name).strip() for name in names]
        assert (770, "London", "United Kingdom") in rows


class TestLoading:
    def test_a_second_load_adds_nothing(self, cities_url: str) -> None:
        with Database(cities_url) as database:
            assert load_cities.load_cities(database) == 0

        assert execute(cities_url, "SELECT COUNT(*) FROM city")[0][0] == len(load_cities.read_cities())

    def test_a_table_with_rows_is_left_alone(self, url: str) -> None:
        """A table with rows is not changed, because it may be the user's own."""
        execute(url, "CREATE TABLE city (city_id INTEGER PRIMARY KEY, city VARCHAR(50), country_id INTEGER)")
        execute(url, "INSERT INTO city VALUES (312, 'London', 102)")

        with Database(url) as database:
            assert load_cities.load_cities(database) == 0

        assert [tuple(row) for row in execute(url, "SELECT * FROM city")] == [(312, "London", 102)]

    def test_an_interrupted_load_leaves_nothing_behind(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """An interrupted load adds nothing, so that the next one loads everything."""
        rows = load_cities.read_cities()
        monkeypatch.setattr(load_cities, "read_cities", lambda: [*rows, rows[0]])

        with Database(url) as database:
            with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
                load_cities.load_cities(database)

            monkeypatch.undo()
            assert load_cities.load_cities(database) == len(rows)

    def test_the_program_says_what_it_did(self, url: str) -> None:
        first, second = (run("load_cities.py", WSGIDB_URL=url) for _ in range(2))

        assert (first.stdout, first.stderr) == (f"{len(load_cities.read_cities())} cities added\n", "")
        assert (second.stdout, second.stderr) == ("the table city has rows already; nothing added\n", "")


def run(program: str, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / program), *arguments]
    return subprocess.run(
        command, env=environment(**settings), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def refusal(*arguments: str, **settings: str) -> str:
    """The message of serve.py when it cannot serve. It must exit with an error code and without a traceback."""
    done = run("serve.py", *arguments, **settings)
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    return done.stderr.rstrip("\n")


GUNICORN = re.compile(r"    WSGIDB_URL=(\S+) (gunicorn .*)")
COMMANDS = {path.stem: found.groups() for path in FRAMEWORKS if (found := GUNICORN.search(path.read_text()))}


def test_who_has_a_command_of_its_own() -> None:
    """Each other example is served by gunicorn."""
    assert {path.stem for path in FRAMEWORKS} - COMMANDS.keys() == {"django_app", "flask_app", "pyramid_app"}


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_the_command_at_its_top_serves_it(name: str, tmp_path: Path) -> None:
    """The command in the example's docstring serves it, after the cities were loaded as README.md says."""
    url, command = COMMANDS[name]
    (tmp_path / "examples").symlink_to(EXAMPLES)
    loaded = [sys.executable, "examples/load_cities.py"]
    subprocess.run(loaded, env=environment(WSGIDB_URL=url), cwd=tmp_path, timeout=60, check=True)
    with bind() as reserved, (tmp_path / "log").open("w") as log:
        address = f"127.0.0.1:{reserved.getsockname()[1]}"
        served = [sys.executable, "-m", *command.split(), "--bind", address]
        process = subprocess.Popen(served, env=environment(WSGIDB_URL=url), cwd=tmp_path, stderr=log)
        try:
            until(lambda: "Listening" in (tmp_path / "log").read_text(), 30)
            response = requests.get(f"http://{address}/?city=London", timeout=30)
            assert (response.status_code, response.text) == (200, 'City "London" is #770')
        finally:
            process.terminate()
            process.wait(30)


class TestServing:
    @pytest.mark.parametrize("application", APPLICATIONS)
    def test_it_loads_the_cities_and_serves_what_it_says_to_open(
        self, url: str, tmp_path: Path, application: str
    ) -> None:
        with served(tmp_path / "log", "--app", application, WSGIDB_URL=url, WSGIDB_STRATEGY="thread-local") as address:
            response = requests.get(address, timeout=30)
            assert (response.status_code, response.text) == (200, 'City "London" is #770')

            response = requests.get(address.replace("London", "N'Djamena"), timeout=30)
            assert response.text == "City \"N'Djamena\" is #135"

    def test_a_query_typed_into_curl_needs_no_encoding(self, tmp_path: Path) -> None:
        database = f"sqlite:///{tmp_path}/cities.sqlite3"
        with served(tmp_path / "log", WSGIDB_URL=database) as address:
            host, port = address.split("/")[2].split(":")
            with socket.create_connection((host, int(port)), timeout=30) as client, client.makefile("rb") as reply:
                client.sendall("GET /?city=東京 HTTP/1.0\r\n\r\n".encode())
                assert reply.read().decode().endswith('City "東京" is #391')

    def test_a_taken_port_is_one_clear_line(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            said = refusal("--port", str(port), WSGIDB_URL=f"sqlite:///{tmp_path}/cities.sqlite3")

        assert said == f"serve.py: cannot listen on 127.0.0.1:{port}: Address already in use"

    def test_a_bad_setting_is_one_line_that_names_it(self) -> None:
        said = refusal("--port", "0", WSGIDB_URL="sqlite:///unused.sqlite3", WSGIDB_STRATEGY="poolled")

        assert said.startswith("serve.py: ")
        assert "WSGIDB_STRATEGY" in said
        assert "\n" not in said

    def test_a_database_that_is_not_there_is_a_line_that_names_its_host(self) -> None:
        """wsgidb's logger reports the failed connect as well; the program's own line comes last."""
        with bind() as nobody:
            port = nobody.getsockname()[1]
            said = refusal("--port", "0", WSGIDB_URL=f"mysql+pymysql://guest:secret@127.0.0.1:{port}/test")

        line = said.splitlines()[-1]
        assert line.startswith("serve.py: ")
        assert f"127.0.0.1:{port}" in line
        assert "secret" not in said
