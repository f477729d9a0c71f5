"""wsgidb.testing: tests of an application on a real database, in which nothing is left behind."""

from __future__ import annotations

import inspect
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from werkzeug.test import Client, TestResponse

from support.client import connect
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from wsgidb import ConfigError, ConnectionReturned, DatabaseMiddleware, DatabaseUnavailable, get_connection
from wsgidb.drivers import Driver
from wsgidb.drivers.sandbox import DESCRIBED
from wsgidb.lease import classes
from wsgidb.testing import SandboxDatabase

pytest_plugins = ["pytester"]

TRANSACTIONS = ["manual", "autocommit", "request"]
Make = Callable[..., SandboxDatabase]


class Outside:
    """Another client's view of the table `orders`, which has one row with the value 1."""

    def __init__(self, url: str, conn: Any) -> None:
        self.url, self._conn = url, conn
        self.run("DROP TABLE IF EXISTS orders")
        engine = "" if url.startswith("sqlite") else " ENGINE=InnoDB"
        self.run(f"CREATE TABLE orders (n INT){engine}")
        self.run("INSERT INTO orders VALUES (1)")

    def run(self, sql: str) -> list[int]:
        with closing(self._conn.cursor()) as cursor:
            cursor.execute(sql)
            rows = [row[0] for row in cursor.fetchall()]
        self._conn.commit()
        return rows

    @property
    def orders(self) -> list[int]:
        return self.run("SELECT n FROM orders ORDER BY n")


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.server)])
def outside(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Outside]:
    if request.param == "sqlite":
        path = tmp_path / "app.db"
        with closing(sqlite3.connect(path, timeout=0)) as conn:
            yield Outside(f"sqlite:///{path}", conn)
        return
    mariadb: MariaDB = request.getfixturevalue("mariadb")
    with closing(connect(mariadb.url("root"))) as conn:
        yield Outside(mariadb.url(), conn)
    mariadb.execute("DROP TABLE orders")


@pytest.fixture
def make(outside: Outside) -> Iterator[Make]:
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(SandboxDatabase(outside.url, **options))


@pytest.fixture(params=TRANSACTIONS)
def database(request: pytest.FixtureRequest, make: Make) -> SandboxDatabase:
    return make(transaction=request.param)


def shop(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """POST /2 orders number 2 (and answers 400 to 0), GET lists the orders. Commits with transaction=manual only."""
    conn = get_connection(environ)
    number = int(environ["PATH_INFO"][1:] or 0)
    status = "200 OK"
    with closing(conn.cursor()) as cursor:
        if environ["REQUEST_METHOD"] == "POST":
            cursor.execute(f"INSERT INTO orders VALUES ({number})")
            if environ["shop.commits"] and number:
                conn.commit()
            status = status if number else "400 Bad Request"
        cursor.execute("SELECT n FROM orders ORDER BY n")
        text = " ".join(str(row[0]) for row in cursor.fetchall())
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(text)))])
    return [text.encode()]


class Browser(Client):
    """Reads and closes each body, as the validator inside demands."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        return super().open(*args, **{"buffered": True, **kwargs})


def client(database: SandboxDatabase) -> Browser:
    app = validator(DatabaseMiddleware(shop, database))
    commits = database.settings.transaction == "manual"
    return Browser(lambda environ, start_response: app({**environ, "shop.commits": commits}, start_response))


def test_requests_see_each_others_work_and_nobody_else_does(outside: Outside, database: SandboxDatabase) -> None:
    """A request finds what earlier requests committed, and after the test nothing of it is there."""
    browser = client(database)
    assert browser.post("/2").text == "1 2"
    assert browser.get("/").text == "1 2"
    if outside.url.startswith("mysql"):  # an SQLite file would be locked
        assert outside.orders == [1]
    database.close()
    assert outside.orders == [1]


def test_what_a_request_did_not_commit_is_gone_for_the_next(database: SandboxDatabase) -> None:
    """An order is undone that was not committed (manual) or was vetoed (request), and kept with autocommit."""
    browser = client(database)
    assert browser.post("/0").text == "0 1"
    assert browser.get("/").text == ("0 1" if database.settings.transaction == "autocommit" else "1")


def test_an_uncommitted_write_is_logged_as_it_would_be(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    """The warning about an uncommitted write is logged in a test too, and counts only what is not committed."""
    with make().connection() as conn, closing(conn.cursor()) as cursor:
        cursor.execute("INSERT INTO orders VALUES (2), (3)")
        conn.commit()
        cursor.execute("INSERT INTO orders VALUES (4)")
    assert "rolled back an uncommitted write of 1 row(s)" in caplog.text


def test_a_handlers_rollback_undoes_what_came_after_its_commit(make: Make) -> None:
    """commit(), rollback() and a ``with conn:`` that commits do what they always do."""
    database = make()
    with database.connection() as conn, closing(conn.cursor()) as cursor:
        for number in (2, 3):
            cursor.execute(f"INSERT INTO orders VALUES ({number})")
            conn.commit()
        cursor.execute("INSERT INTO orders VALUES (4)")
        conn.rollback()
        cursor.execute("SELECT n FROM orders ORDER BY n")
        assert [row[0] for row in cursor.fetchall()] == [1, 2, 3]
        with conn:
            cursor.execute("INSERT INTO orders VALUES (5)")
    assert client(database).get("/").text.split()[:3] == ["1", "2", "3"]


def test_a_with_block_commits_into_the_sandbox_only(outside: Outside, make: Make) -> None:
    """sqlite3's ``with conn:`` commits in C code. PyMySQL's closes the connection, which here ends the lease."""
    database = make()
    with database.connection() as conn, conn, closing(conn.cursor()) as cursor:
        cursor.execute("INSERT INTO orders VALUES (5)")
    committed = "1 5" if outside.url.startswith("sqlite") else "1"
    assert client(database).get("/").text == committed
    database.close()
    assert outside.orders == [1]


def test_begin_commits_what_was_before_it(outside: Outside, make: Make) -> None:
    """PyMySQL's begin() sends a BEGIN, which must not end the sandbox's own transaction."""
    database = make()
    with database.connection() as conn, closing(conn.cursor()) as cursor:
        cursor.execute("INSERT INTO orders VALUES (2)")
        if hasattr(conn, "begin"):
            conn.begin()
            cursor.execute("INSERT INTO orders VALUES (3)")
        else:
            conn.commit()
    assert client(database).get("/").text == "1 2"
    database.close()
    assert outside.orders == [1]


def test_undo_in_the_middle(database: SandboxDatabase) -> None:
    """undo() takes back everything, committed or not, and the sandbox can be used further."""
    browser = client(database)
    browser.post("/2")
    database.undo()
    assert browser.get("/").text == "1"
    assert browser.post("/3").text == "1 3"


def test_an_outage_while_it_lasts(database: SandboxDatabase) -> None:
    """Requests get a 503, scripts and health pages DatabaseUnavailable. Afterwards, earlier work is still there."""
    browser = client(database)
    browser.post("/2")
    with database.outage():
        response = browser.get("/")
        assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
        with pytest.raises(DatabaseUnavailable), database.connection():
            pass
        with pytest.raises(DatabaseUnavailable):
            database.check()
    assert browser.get("/").text == "1 2"
    assert database.check() >= 0


def test_an_outage_with_acquire_on_first_use(database: SandboxDatabase) -> None:
    """With acquire=first-use, requests that need no database are served in an outage, and others get a 503."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] == "/":
            return shop(environ, start_response)
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    browser = Client(DatabaseMiddleware(app, database, acquire="first-use"))
    with database.outage():
        assert [browser.get(path).status_code for path in ("/static", "/")] == [200, 503]


def test_threads_take_turns_on_one_connection(outside: Outside, make: Make) -> None:
    """Leases of several threads follow one another, in the one transaction."""
    database = make()
    browser = client(database)
    threads = [threading.Thread(target=browser.post, args=(f"/{number}",)) for number in range(2, 10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert browser.get("/").text == "1 2 3 4 5 6 7 8 9"
    assert database.stats().connects == 1
    database.close()
    assert outside.orders == [1]


@pytest.mark.server
def test_a_lost_connection_says_that_the_tests_work_is_lost(own_mariadb: MariaDB) -> None:
    """A second connection would not see what the test did, so a lost connection is an error."""
    own_mariadb.execute("CREATE TABLE orders (n INT)")
    with SandboxDatabase(own_mariadb.url()) as database:
        browser = client(database)
        assert browser.post("/2").text == "2"
        own_mariadb.kill_connections("guest")
        assert browser.get("/").status_code == 503
        with pytest.raises(DatabaseUnavailable, match="sandbox has lost its connection"), database.connection():
            pass
    assert own_mariadb.query("SELECT * FROM orders") == []


def test_an_application_that_fails_leaves_nothing(outside: Outside, database: SandboxDatabase) -> None:
    """The exception reaches the test, and the sandbox can be used further."""

    def broken(environ: dict[str, Any], start_response: Any) -> Any:
        with closing(get_connection(environ).cursor()) as cursor:
            cursor.execute("INSERT INTO orders VALUES (7)")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Client(DatabaseMiddleware(broken, database)).get("/")
    assert client(database).get("/").text == ("1 7" if database.settings.transaction == "autocommit" else "1")
    database.close()
    assert outside.orders == [1]


@pytest.mark.parametrize(
    "options", [{"strategy": "pooled"}, {"pool_size": 2}, {"max_lifetime": 5}, {"max_idle": 5}, {"ping_after": 0}]
)
def test_it_has_one_connection_and_keeps_it(options: dict[str, Any]) -> None:
    """Options that contradict the one connection are refused by name."""
    with pytest.raises(ConfigError, match=rf"^{next(iter(options))}: cannot be given to a sandbox"):
        SandboxDatabase("sqlite:////tmp/never-opened.db", **options)


def test_what_the_driver_cannot_do_is_refused_as_ever() -> None:
    """An option that the driver does not have is refused as without a sandbox."""
    with pytest.raises(ConfigError, match=r"^read_timeout: sqlite has no such option"):
        SandboxDatabase("sqlite:////tmp/never-opened.db", read_timeout=5)


def test_the_environment_is_asked_where_nothing_is_given(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox uses the application's settings from the environment, except for the one connection."""
    monkeypatch.setenv("WSGIDB_URL", outside.url)
    monkeypatch.setenv("WSGIDB_STRATEGY", "thread-local")
    monkeypatch.setenv("WSGIDB_TRANSACTION", "request")
    with SandboxDatabase() as database:
        assert client(database).post("/2").text == "1 2"
    assert outside.orders == [1]


def test_a_lease_is_told_all_that_the_driver_tells() -> None:
    """What the proxy's class is made of is the wrapped driver's."""
    source = inspect.getsource(classes._proxy_class)
    read = set(re.findall(r"\bdriver\.(\w+)", source))
    described = {name for name in read if not callable(getattr(Driver, name))}
    assert len(described) > 5
    assert described <= set(DESCRIBED)


def test_what_a_handler_changes_in_place_is_put_back(mariadb: MariaDB) -> None:
    """As without a sandbox."""
    with SandboxDatabase(mariadb.url()) as database:
        with database.connection() as conn:
            conn.encoders[complex] = str
        with database.connection() as conn:
            assert complex not in conn.encoders


def test_a_creator_works_or_says_why_not(fakedb: FakeDB, tmp_path: Path) -> None:
    """The commit() of a creator's connection must be replaceable; that of a plain sqlite3 connection is not."""
    with SandboxDatabase(creator=fakedb.connect) as database:
        with database.connection() as conn:
            conn.commit()
        assert fakedb.count("commit") == 0
        assert fakedb.statements()[:2] == ["BEGIN", "SAVEPOINT wsgidb_sandbox"]
    assert (fakedb.statements()[-1], fakedb.open_now) == ("ROLLBACK", 0)
    bare = SandboxDatabase(creator=lambda: sqlite3.connect(tmp_path / "file.db"))
    with (
        pytest.raises(DatabaseUnavailable, match=r"which sqlite3\.Connection does not allow"),
        bare.connection(),
    ):
        pass


def test_a_creators_own_execute_gives_a_cursor_of_the_lease(tmp_path: Path) -> None:
    """R8: a cursor is unusable after its lease, as without a sandbox."""

    class Own(sqlite3.Connection):
        pass

    with SandboxDatabase(creator=lambda: sqlite3.connect(tmp_path / "file.db", factory=Own)) as database:
        with database.connection() as conn:
            cursor = conn.execute("SELECT 1")
            assert cursor.connection is conn
        with pytest.raises(ConnectionReturned):
            cursor.fetchone()


class TestPlugin:
    def test_it_does_nothing_until_used(self, pytester: pytest.Pytester) -> None:
        """pytest finds the plugin, and a test run that does not use it imports nothing else of wsgidb."""
        pytester.makepyfile(
            """
            import sys

            def test_nothing_was_imported():
                assert "wsgidb.pytest_plugin" in sys.modules
                assert "wsgidb.testing" not in sys.modules
                assert "pymysql" not in sys.modules

            def test_it_is_known(pytestconfig):
                assert pytestconfig.pluginmanager.get_plugin("wsgidb") is sys.modules["wsgidb.pytest_plugin"]
            """
        )
        pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)

    def test_importing_it_imports_no_driver(self) -> None:
        """Neither the plugin nor wsgidb imports a driver before a url names it."""
        drivers = "{'pymysql', 'sqlite3', 'MySQLdb', 'psycopg', 'dbutils', 'sqlalchemy'}"
        program = f"import sys, wsgidb.pytest_plugin; print(sorted({drivers} & sys.modules.keys()))"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert (done.stdout, done.stderr) == ("[]\n", "")

    def test_what_its_fixture_makes_is_undone_and_closed(self, outside: Outside, pytester: pytest.Pytester) -> None:
        """Two tests write the same row, and each finds the table as it was."""
        pytester.makepyfile(
            f"""
            import pytest

            @pytest.mark.parametrize("turn", [1, 2])
            def test_order(wsgidb_sandbox, turn):
                database = wsgidb_sandbox({outside.url!r}, transaction="request")
                with database.connection() as conn:
                    cursor = conn.cursor()
                    cursor.execute("INSERT INTO orders VALUES (2)")
                with database.connection() as conn:
                    cursor = conn.cursor()
                    cursor.execute("SELECT COUNT(*) FROM orders")
                    assert cursor.fetchone()[0] == 2
                    cursor.close()
            """
        )
        pytester.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error").assert_outcomes(passed=2)
        assert outside.orders == [1]


def test_an_application_that_drains(make: Make) -> None:
    """The sandbox keeps its connection, and with it what the test has done."""
    database = make(transaction="manual")
    with database.connection() as conn, closing(conn.cursor()) as cursor:
        cursor.execute("INSERT INTO orders VALUES (2)")
        conn.commit()
    assert (database.warm(), database.drain(over=0), database.trim()) == (1, 0, 0)
    with database.connection() as conn, closing(conn.cursor()) as cursor:
        cursor.execute("SELECT COUNT(*) FROM orders")
        assert cursor.fetchone()[0] == 2
