"""What `make demo` serves: its first page, and the button that kills the demo's own connections."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
import requests
from selenium.webdriver.common.by import By
from werkzeug.test import Client

import load_cities
from support.browser import browser, shows
from support.demo import served
from support.mariadb import MariaDB
from support.waiting import until
from wsgidb import Database, DatabaseMiddleware

STRATEGIES = ["per-request", "thread-local", "pooled"]
REASONS = {
    "sqlite": {"closed by the application"},
    "mariadb": {"check failed"},
    "postgresql": {"check failed", "ping failed"},  # what it sends at the end is either seen with the end, or before it
}
"""The reasons for which wsgidb discards a killed connection."""

Make = Callable[..., DatabaseMiddleware]


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make the demo as `make demo` does it: configured by the environment alone, and with the cities loaded."""
    made: list[DatabaseMiddleware] = []

    def demo(url: str, **options: str) -> DatabaseMiddleware:
        for name, text in {"url": url, **options}.items():
            monkeypatch.setenv(f"WSGIDB_{name.upper()}", text)
        for name in ("demo", "plain_wsgi"):
            monkeypatch.delitem(sys.modules, name, raising=False)
        application: DatabaseMiddleware = importlib.import_module("demo").application
        made.append(application)
        load_cities.load_cities(application.database)
        sys.modules["demo"].prepare()
        return application

    yield demo
    for each in made:
        each.database.close()
    for name in ("demo", "plain_wsgi"):
        sys.modules.pop(name, None)


@pytest.fixture(
    params=["sqlite", *(pytest.param(name, marks=pytest.mark.server) for name in ("mariadb", "postgresql"))]
)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def server(request: pytest.FixtureRequest, kind: str) -> Any:
    """The server, or None for SQLite."""
    return None if kind == "sqlite" else request.getfixturevalue(kind)


@pytest.fixture
def url(server: Any, tmp_path: Path) -> Iterator[str]:
    if server is None:
        yield f"sqlite:///{tmp_path}/cities.sqlite3"
        return
    yield server.url()
    drop_tables(server)


def drop_tables(server: Any) -> None:
    for table in ("city", "entry", "guest"):
        server.execute(f"DROP TABLE IF EXISTS {table}")


def sessions(server: Any, strategy: str) -> set[int]:
    """The demo's sessions, once the server has ended those that were closed before, by other tests or by the demo."""
    expected = 0 if strategy == "per-request" else 1
    return until(lambda: [found for found in [set(server.processes("guest"))] if len(found) == expected], 30)[0]


def run(connection: Any, statement: str) -> list[Any]:
    with closing(connection.cursor()) as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def text_of(page: str) -> str:
    """What a reader sees of a page."""
    return " ".join(re.sub(r"<[^>]*>", "", re.sub(r"<(style|script).*?</\1>", "", page, flags=re.DOTALL)).split())


class TestFirstPage:
    def test_each_of_its_links_works(self, make: Make, url: str) -> None:
        """The page says what this is, and the links on it are answered with 200."""
        client = Client(validator(make(url)))
        page = client.get("/", buffered=True)

        assert page.status == "200 OK"
        assert page.content_type == "text/html; charset=utf-8"
        assert "wsgidb is a WSGI middleware that gives each request a validated" in text_of(page.text)
        links = re.findall(r'href="([^"]*)"', page.text)
        assert links == ["?city=London", "cities", "cities.csv", "guestbook/", "-/wsgidb", "-/wsgidb?format=json"]
        for link in links:
            answer = client.get(f"/{link}", environ_base={"REMOTE_ADDR": "127.0.0.1"}, buffered=True)
            assert (link, answer.status) == (link, "200 OK")

    @pytest.mark.parametrize("query", ["city=", "town=London"])
    def test_a_query_without_a_city_is_still_a_bad_request(self, make: Make, tmp_path: Path, query: str) -> None:
        client = Client(validator(make(f"sqlite:///{tmp_path}/cities.sqlite3")))

        assert client.get(f"/?{query}", buffered=True).status == "400 Bad Request"

    def test_it_escapes_what_it_shows(self, make: Make, tmp_path: Path) -> None:
        page = Client(make(f"sqlite:///{tmp_path}/a<b>'&.sqlite3")).get("/")

        assert "a<b>" not in page.text
        assert "a&lt;b&gt;" in page.text

    def test_it_shows_no_password(self, make: Make, mariadb: MariaDB) -> None:
        try:
            page = Client(make(mariadb.url("app"))).get("/")
        finally:
            drop_tables(mariadb)

        assert "app" in page.text
        assert "p@ss" not in page.text
        assert "p%40ss" not in page.text

    def test_nothing_may_come_from_elsewhere(self, make: Make, tmp_path: Path) -> None:
        page = Client(make(f"sqlite:///{tmp_path}/cities.sqlite3")).get("/")

        assert "default-src 'none'" in page.headers["Content-Security-Policy"]
        assert "://" not in page.text.replace("sqlite://", "")


class TestGuestBook:
    def test_it_is_served_beside_the_cities(self, make: Make, url: str) -> None:
        """A guest joins and signs, with connections of the demo's own pool; its style sheet needs none."""
        application = make(url)
        client = Client(validator(application))
        assert client.get("/guestbook", buffered=True).headers["Location"].endswith("/guestbook/")
        form = {"name": "Ada", "password": "difference"}
        assert client.post("/guestbook/join", data=form, buffered=True).headers["Location"] == "/guestbook/"
        client.post("/guestbook/sign", data={"message": "Hello from København"}, buffered=True)
        page = client.get("/guestbook/", buffered=True).text
        assert "Welcome, Ada" in page
        assert "Hello from København" in page
        leases = application.database.stats().acquires
        (sheet,) = re.findall(r'href="([^"]*)"', page)
        assert client.get(sheet, buffered=True).status == "200 OK"
        assert application.database.stats().acquires == leases

    def test_what_it_wrote_is_there_after_a_restart(self, make: Make, tmp_path: Path) -> None:
        """The tables are made if there are none, and kept if there are."""
        url = f"sqlite:///{tmp_path}/cities.sqlite3"
        form = {"name": "Ada", "password": "difference"}
        Client(make(url)).post("/guestbook/join", data=form)
        client = Client(make(url))
        client.post("/guestbook/login", data=form)
        assert "Log out" in client.get("/guestbook/").text


class TestKill:
    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_the_connections_are_killed_and_the_next_request_is_answered(
        self, make: Make, kind: str, url: str, server: Any, strategy: str
    ) -> None:
        """The session is gone from the server, the request after it got 200 on another one, and the page tells so."""
        application = make(url, strategy=strategy)
        database = application.database
        client = Client(validator(application))
        client.get("/", buffered=True)
        before = set() if server is None else sessions(server, strategy)

        answer = client.post("/kill", buffered=True)

        assert (answer.status, answer.headers["Location"]) == ("303 See Other", "/#recovery")
        page = text_of(client.get("/", buffered=True).text)
        assert "was answered with 200 OK after" in page
        if strategy == "per-request":
            assert "No connection killed: none was idle, as the strategy per-request keeps none." in page
            assert "wsgidb noted nothing." in page
            assert database.stats().discards == {}
        else:
            assert "1 connection killed." in page
            assert "wsgidb noted: connection discarded" in page
            ((reason, count),) = database.stats().discards.items()
            assert (reason in REASONS[kind], count) == (True, 1)
            assert database.stats().errors == 0
            if server is not None:
                assert not before & sessions(server, strategy)

    def test_all_idle_connections_are_killed_and_none_in_use(self, make: Make, url: str) -> None:
        """Of five connections, four are idle; what a request is using goes on, and so does another program's."""
        application = make(url)
        database = application.database
        with Database(url) as other, other.connection() as foreign, database.connection() as used:
            run(used, "INSERT INTO city (city_id, city, country) VALUES (0, 'Atlantis', '')")
            with ExitStack() as leases:
                for _ in range(4):
                    leases.enter_context(database.connection())

            Client(application).post("/kill")

            assert "4 connections killed." in text_of(Client(application).get("/").text)
            assert run(used, "SELECT city FROM city WHERE city_id = 0") == [("Atlantis",)]
            assert run(foreign, "SELECT 1") == [(1,)]
        assert database.stats().lost == database.stats().errors == 0

    def test_a_server_that_is_away_is_a_503(self, make: Make, own_mariadb: MariaDB) -> None:
        """No connection can be killed, and none can be opened; the demo goes on when the server is back."""
        application = make(own_mariadb.url(), acquire_timeout="1")
        client = Client(validator(application))
        own_mariadb.kill()
        client.post("/kill", buffered=True)

        assert client.get("/", buffered=True).status_code == 503
        own_mariadb.start()
        until(lambda: client.get("/", buffered=True).status_code == 200)
        assert "No connection killed: none was idle. The next request" in text_of(client.get("/", buffered=True).text)

    def test_only_a_post_kills(self, make: Make, tmp_path: Path) -> None:
        application = make(f"sqlite:///{tmp_path}/cities.sqlite3")
        answer = Client(validator(application)).get("/kill", buffered=True)

        assert (answer.status, answer.headers["Allow"]) == ("405 Method Not Allowed", "POST")
        assert application.database.stats().discards == {}


@pytest.mark.slow
class TestInABrowser:
    def test_the_button_kills_and_the_figures_follow(self, tmp_path: Path) -> None:
        """A click shows the recovery; the figures change without a reload, and the console shows no error."""
        with (
            served(tmp_path / "log", WSGIDB_URL=f"sqlite:///{tmp_path}/cities.sqlite3") as address,
            browser() as driver,
        ):
            driver.get(address)
            until(lambda: "Updated every second." in driver.find_element(By.ID, "live").text, timeout=30)
            assert driver.find_element(By.ID, "discarded").text == "0"
            leases = int(driver.find_element(By.ID, "leases").text)
            requests.get(f"{address}?city=London", timeout=30)
            until(lambda: int(driver.find_element(By.ID, "leases").text) == leases + 1, timeout=30)

            driver.find_element(By.TAG_NAME, "button").click()

            shown = until(lambda: driver.find_elements(By.ID, "recovery"), timeout=30)[0].text
            assert "1 connection killed." in shown
            assert "answered with 200 OK" in shown
            assert driver.current_url == f"{address}#recovery"
            assert driver.find_element(By.ID, "discarded").text == "1"
            log: Any = driver.get_log("browser")  # type: ignore[no-untyped-call]
            assert [entry["message"] for entry in log if "favicon" not in entry["message"]] == []

            driver.find_element(By.LINK_TEXT, "The guest book").click()
            shows(driver, r"Nobody has signed yet\.")
            if directory := os.environ.get("WSGIDB_TEST_PICTURES"):
                driver.save_screenshot(f"{directory}/guestbook_in_demo.png")
                driver.back()
                driver.save_screenshot(f"{directory}/demo.png")

    def test_without_javascript_on_a_narrow_screen(self, tmp_path: Path) -> None:
        """The button works, and at 360 pixels nothing is cut off."""
        file = tmp_path / ("a-long-name" * 10)
        with (
            served(tmp_path / "log", WSGIDB_URL=f"sqlite:///{file}") as address,
            browser(width=360, javascript=False) as driver,
        ):
            driver.get(address)
            driver.find_element(By.TAG_NAME, "button").click()

            shown = until(lambda: driver.find_elements(By.ID, "recovery"), timeout=30)[0].text
            assert "1 connection killed." in shown
            metrics: Any = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})
            assert metrics["cssContentSize"]["width"] == 360
