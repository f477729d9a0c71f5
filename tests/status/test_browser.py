"""The status page in a real browser: what a person sees of a busy pool, with and without JavaScript."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import pytest

from support.browser import browser
from support.fakedb import FakeDB
from support.waiting import until
from wsgidb import Database, DatabaseMiddleware

pytestmark = pytest.mark.slow


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]


@contextmanager
def served(application: Any) -> Iterator[str]:
    """The address of an application that is served meanwhile."""
    with make_server("127.0.0.1", 0, application, server_class=Server, handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join(30)


def text_of(driver: Any, selector: str) -> str:
    """What a person reads there, in one step: the page replaces its figures at any moment."""
    shown: str = driver.execute_script("return document.querySelector(arguments[0]).innerText", selector)
    return shown


@pytest.fixture
def database(fakedb: FakeDB) -> Iterator[Database]:
    with Database(creator=fakedb.connect, name="shop", pool_size=2, acquire_timeout=60) as made:
        yield made


def test_a_stranger_sees_whether_the_pool_is_too_small(database: Database) -> None:
    """In use of the limit, who holds and who waits; the figures change without a reload; nothing is fetched from
    elsewhere, and the console shows no error."""
    with served(DatabaseMiddleware(hello, database, status="/-/wsgidb")) as address, browser() as driver:
        driver.get(f"{address}/-/wsgidb")
        assert "large enough" in text_of(driver, ".verdict")
        held = database.lease(("GET", "", "/report")), database.lease(("GET", "", "/export"))
        waiting = threading.Thread(target=lambda: database.lease(("POST", "", "/order")).close())
        waiting.start()
        until(lambda: "1 request is waiting" in text_of(driver, ".verdict"), timeout=30)
        shown = text_of(driver, "main")
        assert "2 in use of 2, 0 idle, 1 waiting" in shown
        assert all(request in shown for request in ("GET /report", "GET /export", "POST /order"))
        for lease in held:
            lease.close()
        waiting.join(30)
        until(lambda: "0 in use of 2" in text_of(driver, "main"), timeout=30)
        fetched = driver.execute_script("return performance.getEntriesByType('resource').map(each => each.name)")
        assert {each for each in fetched if not each.startswith(address)} == set()
        log: Any = driver.get_log("browser")  # type: ignore[no-untyped-call]
        errors = [entry["message"] for entry in log if "favicon" not in entry["message"]]
        assert errors == []


def test_without_javascript(database: Database) -> None:
    """All is there, and the browser reloads the page by itself."""
    lease = database.lease(("GET", "", "/report"))
    with (
        served(DatabaseMiddleware(hello, database, status="/-/wsgidb")) as address,
        browser(javascript=False) as driver,
    ):
        driver.get(f"{address}/-/wsgidb")
        assert "GET /report" in text_of(driver, "main")
        lease.close()
        until(lambda: "0 in use of 2" in driver.page_source.replace("<b>", "").replace("</b>", ""), timeout=30)


def test_on_a_narrow_screen(database: Database) -> None:
    """At 360 pixels nothing is cut off: what is wider scrolls within its own table."""
    lease = database.lease(("GET", "", "/" + "a-long-path/" * 30))
    with (
        served(DatabaseMiddleware(hello, database, status="/-/wsgidb")) as address,
        browser(width=360) as driver,
    ):
        driver.get(f"{address}/-/wsgidb")
        width, room = driver.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
        assert (width, room) == (360, 360)
        assert "a-long-path" in text_of(driver, "main")
    lease.close()
