"""The status page as a WSGI application: who may see it, and what it says."""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from werkzeug.test import Client

from observe.test_board import worker
from support.clock import Clock
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.waiting import until
from wsgidb import ConfigError, Database, DatabaseMiddleware, PoolOverloaded, PoolTimeout
from wsgidb.status import StatusApp, from_this_machine
from wsgidb.status.advice import SHORT


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"hello"]


@pytest.fixture
def database(fakedb: FakeDB, clock: Clock) -> Iterator[Database]:
    with Database(creator=fakedb.connect, name="shop", pool_size=2, acquire_timeout=30, clock=clock) as made:
        yield made


class Buffered(Client):
    """A client that reads and closes each response, as a server does."""

    def open(self, *args: Any, **kwargs: Any) -> Any:
        return super().open(*args, buffered=True, **kwargs)


def page(app: Any, **headers: Any) -> Any:
    return Buffered(validator(app)).get("/", environ_overrides={"REMOTE_ADDR": "127.0.0.1", **headers})


def told(app: Any) -> Any:
    """What the page says, as JSON: of the first pool."""
    answer = Buffered(validator(app)).get("/?format=json", environ_overrides={"REMOTE_ADDR": "127.0.0.1"})
    assert answer.headers["Content-Type"] == "application/json"
    return json.loads(answer.text)["pools"][0]


def use(database: Database) -> None:
    with database.connection() as conn:
        conn.cursor().execute("SELECT 1")


class TestAccess:
    @pytest.mark.parametrize(
        ("environ", "allowed"),
        [
            ({"REMOTE_ADDR": "127.0.0.1"}, True),
            ({"REMOTE_ADDR": "127.8.8.8"}, True),
            ({"REMOTE_ADDR": "::1"}, True),
            ({"REMOTE_ADDR": "192.0.2.7"}, False),
            ({"REMOTE_ADDR": ""}, False),
            ({}, False),
            ({"REMOTE_ADDR": "nonsense"}, False),
            ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, False),
            ({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "for=192.0.2.7"}, False),
            ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_REAL_IP": "192.0.2.7"}, False),
            ({"REMOTE_ADDR": "127.0.0.1", "HTTP_VIA": "1.1 proxy"}, False),
        ],
    )
    def test_by_default_this_machine_only(self, environ: dict[str, str], allowed: bool) -> None:
        """A proxy on this machine forwards the requests of others."""
        assert from_this_machine(environ) is allowed

    def test_refused(self, database: Database) -> None:
        """With a 403 that says nothing about the database."""
        answer = page(StatusApp(database), REMOTE_ADDR="192.0.2.7")
        assert (answer.status_code, answer.text) == (403, "This page is not for you.\n")

    def test_a_callable_decides(self, database: Database) -> None:
        """It alone: a request from elsewhere may be let in, and one from here refused."""
        app = StatusApp(database, allow=lambda environ: environ.get("REMOTE_USER") == "admin")
        assert page(app, REMOTE_ADDR="192.0.2.7", REMOTE_USER="admin").status_code == 200
        assert page(app).status_code == 403

    def test_only_reading(self, database: Database) -> None:
        """HEAD has no body; other methods are refused; there is no other page below."""
        client = Buffered(validator(StatusApp(database, allow=lambda environ: True)))
        head = client.head("/")
        assert (head.status_code, head.data, int(head.headers["Content-Length"]) > 1000) == (200, b"", True)
        assert client.post("/").status_code == 405
        assert client.get("/other").status_code == 404

    def test_nothing_external_and_nothing_kept(self, database: Database) -> None:
        """The browser is told to load nothing from elsewhere, to frame it nowhere, and to store nothing."""
        answer = page(StatusApp(database))
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Cache-Control"] == "no-store"
        external = re.findall(r"https?:|//|@import|url\(", answer.text)
        assert external == []


class TestOption:
    def wrapped(self, database: Database, **options: Any) -> Client:
        return Buffered(validator(DatabaseMiddleware(hello, database, **options)))

    def test_off_by_default(self, database: Database) -> None:
        """Without the option the application gets every path."""
        assert self.wrapped(database).get("/-/wsgidb").text == "hello"

    @pytest.mark.parametrize("path", ["/-/wsgidb", "/-/wsgidb/"])
    def test_its_path(self, database: Database, path: str) -> None:
        """The page needs no connection, not even when all are in use."""
        client = self.wrapped(database, status="/-/wsgidb")
        here = {"REMOTE_ADDR": "127.0.0.1"}
        with database.connection(), database.connection():
            answer = client.get(path, environ_overrides=here)
        assert (answer.status_code, "2</b> in use of <b>2" in answer.text) == (200, True)
        assert client.get("/-/wsgidbs", environ_overrides=here).text == "hello"
        assert client.get("/-/wsgidb", environ_overrides={"REMOTE_ADDR": "192.0.2.7"}).status_code == 403

    def test_who_may(self, database: Database) -> None:
        """The option status_allow decides."""
        client = self.wrapped(database, status="/s", status_allow=lambda environ: "key=7" in environ["QUERY_STRING"])
        assert [client.get(path).status_code for path in ("/s?key=7", "/s")] == [200, 403]

    @pytest.mark.parametrize("path", ["status", "/", 7])
    def test_a_path_that_is_none(self, database: Database, path: Any) -> None:
        """The error says what is taken."""
        with pytest.raises(ConfigError, match=r"^status: takes a path that begins with /"):
            DatabaseMiddleware(hello, database, status=path)

    def test_without_jinja2(self) -> None:
        """The error names the extra."""
        code = (
            "import sys; sys.modules['jinja2'] = None\n"
            "import importlib.util; real = importlib.util.find_spec\n"
            "importlib.util.find_spec = lambda name, *a: None if name == 'jinja2' else real(name, *a)\n"
            "from wsgidb import DatabaseMiddleware\n"
            "DatabaseMiddleware(print, 'sqlite:////tmp/never-opened.db', status='/s')"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        assert "status: the page needs the package jinja2: pip install 'wsgidb[status]'" in done.stderr


class TestContent:
    def test_a_pool_that_is_large_enough(self, database: Database) -> None:
        """The first line says so."""
        for _ in range(3):
            use(database)
        found = told(StatusApp(database))
        assert (found["state"], found["leased"], found["idle"], found["limit"]) == ("good", 0, 1, 2)
        assert "large enough" in found["verdict"]
        assert (found["wait"]["count"], found["use"]["count"], found["create"]["count"]) == (3, 3, 1)
        assert found["advice"] == []

    def test_who_holds_and_who_waits(self, database: Database, clock: Clock) -> None:
        """Named by their requests, on the page and in JSON; what a client sends cannot become markup."""
        app = StatusApp(database)
        first = database.lease(("GET", "", "/slow<script>"))
        clock.advance(1)
        second = database.lease(("POST", "", "/order"))
        second.cursor().execute("SELECT 1")
        thread = threading.Thread(target=lambda: database.lease(("GET", "", "/late")).close())
        thread.start()
        until(lambda: database.stats().waiting, what="the third request to wait")
        found, shown = told(app), page(app).text
        first.close()
        thread.join(30)
        assert [(each["request"], each["statements"]) for each in found["holders"]] == [
            ("GET /slow<script>", 0),
            ("POST /order", 1),
        ]
        assert [each["request"] for each in found["waiters"]] == ["GET /late"]
        assert (found["state"], "1 request is waiting" in found["verdict"]) == ("busy", True)
        assert "GET /slow&lt;script&gt;" in shown
        assert "<script>" not in shown.partition("<main>")[2].partition("</main>")[0]
        assert "GET /late" in shown

    def test_refused_requests(self, fakedb: FakeDB) -> None:
        """The page leads from a 503 to the handler that caused it."""
        database = Database(creator=fakedb.connect, pool_size=2, acquire_timeout=0.1)
        held = database.lease(("GET", "", "/report")), database.lease(("GET", "", "/report"))
        with pytest.raises(PoolTimeout):
            database.lease(("GET", "", "/victim"))
        for lease in held:
            lease.close()
        found = told(StatusApp(database))
        assert (found["state"], "refused" in found["verdict"]) == ("bad", True)
        (event,) = found["events"]
        assert event["text"].startswith("GET /victim: no connection became free")
        assert "GET /report for" in event["text"]

    def test_an_outage(self, database: Database, fakedb: FakeDB) -> None:
        """While the database cannot be reached, the page says so, and asks it nothing."""
        fakedb.fail("connect", FakeDB.OperationalError("down"))
        with pytest.raises(Exception, match="down"):
            use(database)
        found = told(StatusApp(database))
        assert (found["state"], "down" in found["verdict"]) == ("bad", True)

    def test_what_is_over(self, fakedb: FakeDB, clock: Clock) -> None:
        """After the recovery an outage is an event and no verdict; so are refusals of more than a minute ago."""
        with Database(creator=fakedb.connect, clock=clock, pool_size=1, max_waiting=0) as database:
            fakedb.fail("connect", FakeDB.OperationalError("down"))
            with pytest.raises(Exception, match="down"):
                use(database)
            clock.advance(5)
            use(database)
            assert told(StatusApp(database))["state"] == "good"
            with database.connection(), pytest.raises(PoolOverloaded):
                use(database)
            assert told(StatusApp(database))["state"] == "bad"
            clock.advance(61)
            found = told(StatusApp(database))
            assert (found["state"], [event["kind"] for event in found["events"]]) == (
                "good",
                ["outage", "recovery", "refusal"],
            )

    def test_uncommitted_writes(self, tmp_path: Path) -> None:
        """The commonest way to lose a write is an advice."""
        with Database(f"sqlite:///{tmp_path / 'x.db'}") as database:
            with database.connection() as conn:
                conn.execute("CREATE TABLE t (a)")
                conn.execute("INSERT INTO t VALUES (1)")
            lines = told(StatusApp(database))["advice"]
            assert [line for line in lines if line.startswith("1 request(s) ended with uncommitted writes")]

    def test_all_processes(self, fakedb: FakeDB, tmp_path: Path) -> None:
        """With a board it has the other workers, too: the same page, whichever answers."""
        directory = str(tmp_path / "board")
        with Database(creator=fakedb.connect, name="shop", pool_size=2, board=directory) as database:
            use(database)
            with worker(directory) as other:
                found = told(StatusApp(database))
                assert (found["limit"], found["leased"], len(found["processes"])) == (5, 1, 2)
                (holder,) = found["holders"]
                assert (holder["pid"], holder["request"]) == (other.pid, "GET /held")

    def test_a_board_that_cannot_be_read(self, fakedb: FakeDB, tmp_path: Path) -> None:
        """The page has its own process."""
        path = tmp_path / "file"
        path.write_text("")
        with Database(creator=fakedb.connect, board=str(path)) as database:
            use(database)
            assert len(told(StatusApp(database))["processes"]) == 1

    @pytest.mark.server
    def test_more_than_the_server_allows(self, mariadb: MariaDB) -> None:
        """Processes × pool_size against max_connections, which the server is asked for."""
        with Database(mariadb.url(), pool_size=50_000) as database:
            use(database)
            found = told(StatusApp(database))
        allowed = found["max_connections"]
        assert 0 < allowed < 50_000
        assert found["advice"][0].startswith(f"1 process × 50000 connections = 50000, and the server allows {allowed}")

    @pytest.mark.server
    def test_no_secrets(self, mariadb: MariaDB) -> None:
        """Neither a password nor what a statement contained."""
        with Database(mariadb.url()) as database, database.connection() as conn:
            conn.cursor().execute("SELECT 'statement-text'")
            shown = page(StatusApp(database)).text + json.dumps(told(StatusApp(database)))
            assert "statement-text" not in shown
            password = database.settings.url.password if database.settings.url is not None else None
            assert not password or str(password) not in shown

    @pytest.mark.parametrize("strategy", ["per-request", "thread-local", "pooled"])
    def test_what_is_slow_is_no_sign_of_a_small_pool(self, fakedb: FakeDB, strategy: Any) -> None:
        """A request that opens a connection, or pings one, waits for no other request; on a slow machine, too, where
        every step takes its time: here 4 ms from one look at the clock to the next."""
        ticks = itertools.count(1000.0, 0.004)
        clock: Callable[[], float] = lambda: next(ticks)  # noqa: E731
        with Database(creator=fakedb.connect, strategy=strategy, clock=clock, ping_after=0) as database:
            for _ in range(3):
                use(database)
            found = told(StatusApp(database))
        assert found["wait"]["p50"] > SHORT
        assert (found["state"], found["advice"]) == ("good", [])

    @pytest.mark.parametrize(("seconds", "state"), [(0.004, "good"), (0.1, "busy")])
    def test_requests_that_had_to_queue(self, fakedb: FakeDB, clock: Clock, seconds: float, state: str) -> None:
        """How many of them waited for longer than anybody would notice; the connection then was another's."""
        with Database(creator=fakedb.connect, pool_size=1, clock=clock) as database:
            held = database.lease()
            thread = threading.Thread(target=use, args=(database,))
            thread.start()
            until(lambda: database.stats().waiters)
            clock.advance(seconds)
            held.close()
            thread.join(30)
            found = told(StatusApp(database))
        assert (found["state"], found["leased"]) == (state, 0)
        assert ("50 % of the latest requests waited" in found["verdict"]) is (state == "busy")
