"""Strategies and drivers that applications bring: the document's examples work, a broken contract is a clear error."""

from __future__ import annotations

import re
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from strategies.conftest import MakeDatabase
from strategies.kit import Worker, get, run, together
from support.clock import Clock
from support.fakedb import FakeDB
from wsgidb import ConfigError, Database, DatabaseMiddleware, DatabaseUnavailable, WsgiDBError
from wsgidb.drivers import Driver
from wsgidb.drivers.generic import Generic
from wsgidb.drivers.states import Check
from wsgidb.strategies import Slot, Store

DOCUMENT = Path(__file__).parents[2] / "docs" / "extending.md"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The document's files, importable in the directory that they are in."""
    blocks = re.findall(r"^```python\n# (\w+\.py)\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    for name, code in blocks:
        (tmp_path / name).write_text(code)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with closing(sqlite3.connect("shop.db")) as conn:
        conn.execute("CREATE TABLE city (name TEXT)")
        conn.execute("INSERT INTO city VALUES ('Aarhus')")
        conn.commit()
    yield dict(blocks)
    for name, _ in blocks:
        sys.modules.pop(name.removesuffix(".py"), None)


class TestTheDocumentsStrategy:
    def test_it_is_short(self, files: dict[str, str]) -> None:
        """A complete strategy, its locking among it, is no more than a screen."""
        assert list(files) == ["lifo.py", "use_lifo.py", "archive.py", "use_archive.py"]
        assert len([line for line in files["lifo.py"].splitlines() if line.strip()]) <= 30

    def test_by_its_name(self, files: dict[str, str]) -> None:
        """Requests get connections of it: as many as are needed, the last one used first."""
        names: dict[str, Any] = {}
        exec(files["use_lifo.py"], names)
        with names["database"] as database:
            assert database.settings.strategy_name == "Lifo"
            with ExitStack() as stack:
                for _ in range(12):
                    run(stack.enter_context(database.connection()), "SELECT 1")
            with database.connection() as conn:
                first = conn.driver_connection
            with database.connection() as conn:
                assert conn.driver_connection is first
            assert (database.stats().connects, database.stats().open) == (12, 12)
        assert database.stats().open == 0
        with pytest.raises(DatabaseUnavailable, match="closed"):
            database.check()

    def test_from_the_environment(self, files: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
        """The class is given as one word of the configuration."""
        monkeypatch.setenv("MINE_URL", "sqlite:///shop.db")
        monkeypatch.setenv("MINE_STRATEGY", "lifo:Lifo")
        with Database.from_env("MINE_") as database:
            assert database.check() >= 0

    def test_threads(self, files: dict[str, str], fake: MakeDatabase, fakedb: FakeDB) -> None:
        """S4: with it, too, no connection is leased twice at once; what fails is discarded, and what is closed is."""
        database = fake(strategy="lifo:Lifo")

        def requests() -> None:
            for _ in range(50):
                with database.connection() as conn:
                    run(conn, "SELECT 1")

        together([requests] * 6)
        fakedb.fail("rollback", fakedb.OperationalError("gone"))
        with database.connection() as conn:
            run(conn, "SELECT 1")
        assert database.stats().discards == {"reset failed": 1}
        with database.connection():
            database.close()
        assert database.stats().open == 0


class TestTheDocumentsDriver:
    def test_by_its_name(self, files: dict[str, str]) -> None:
        """Its connections are the driver's; it reads, cannot write, and needs no rollback."""
        names: dict[str, Any] = {}
        exec(files["use_archive.py"], names)
        with names["database"] as database:
            for _ in range(2):
                with database.connection() as conn:
                    assert isinstance(conn, sqlite3.Connection)
                    assert run(conn, "SELECT name FROM city") == [("Aarhus",)]
                    with pytest.raises(sqlite3.OperationalError, match="readonly"):
                        run(conn, "DELETE FROM city")
            assert (database.stats().connects, database.check() >= 0) == (1, True)

    def test_its_url(self, files: dict[str, str]) -> None:
        """Its ConfigError for a bad url is raised at start-up."""
        by_name: Any = {"driver": "archive:Archive"}
        with pytest.raises(ConfigError, match=r"^url: takes archive:"):
            Database("archive://", **by_name)

    def test_a_missing_file(self, files: dict[str, str]) -> None:
        """What its open() raises is told in a DatabaseUnavailable."""
        by_name: Any = {"driver": "archive:Archive"}
        database = Database("archive:///none.db", **by_name)
        with database, pytest.raises(DatabaseUnavailable, match="unable to open database file"):
            database.check()


class Twice(Store):
    """Every method breaks the contract in its own way; the tests put it right where they need it."""

    slot: Any = None
    unwanted: Any = None

    def _setup(self) -> None:
        self.slot = Slot() if self.slot is None else self.slot

    def take(self) -> Any:
        return self.slot

    def put(self, slot: Slot) -> Any:
        return self.unwanted

    def close(self) -> list[Slot]:
        return []


def broken(**attributes: Any) -> type[Store]:
    return type("Broken", (Twice,), attributes)


def kind(value: object) -> str:
    """A test's name must be the same in every process, and so without an address."""
    return type(value).__name__


@pytest.mark.parametrize("rubbish", ["a slot", 0, object(), (None, "why")], ids=kind)
def test_take_returns_rubbish(fake: MakeDatabase, rubbish: Any) -> None:
    """An object that is no slot is never used as one."""
    database = fake(strategy=broken(slot=rubbish))
    with pytest.raises(WsgiDBError, match="strategy Broken breaks the contract of a store: take\\(\\) returned"):
        database.check()


def test_take_returns_a_leased_slot(fake: MakeDatabase) -> None:
    """S4: not even a broken strategy leases one connection twice; the first lease goes on undisturbed."""
    database = fake(strategy=Twice)
    with database.connection() as conn:
        with pytest.raises(WsgiDBError, match=r"strategy Twice .* a slot that is leased already"):
            Worker(database.check).outcome()
        assert run(conn, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("rubbish", [True, "closed", (None, "why"), (Slot(), "empty"), (1, 2, 3)], ids=kind)
def test_put_returns_rubbish(fake: MakeDatabase, rubbish: Any) -> None:
    """The request gets an error, instead of a connection that is lost silently."""
    database = fake(strategy=broken(unwanted=rubbish))

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]

    with pytest.raises(WsgiDBError, match="strategy Broken breaks the contract of a store: put\\(\\) returned"):
        get(DatabaseMiddleware(app, database))


def test_nothing_to_wait_for(fake: MakeDatabase) -> None:
    """A store whose take() has nothing, and that cannot wait, is an error and no hang."""
    database = fake(strategy=type("Empty", (Twice,), {"take": lambda self: None}))
    with pytest.raises(NotImplementedError, match="this store's take\\(\\) always has a slot"):
        Worker(database.check).outcome()


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("strategy", dict, "strategy: dict is not a subclass of wsgidb.strategies.Store"),
        ("strategy", "collections:OrderedDict", "strategy: OrderedDict is not a subclass of wsgidb.strategies.Store"),
        ("strategy", type("Half", (Store,), {"put": 1}), "strategy: Half does not implement close, take"),
        ("driver", dict, "driver: dict is not a subclass of wsgidb.drivers.Driver"),
        ("driver", type("Half", (Driver,), {"name": "x", "ping": 1, "close": 1}), "driver: Half does not implement ab"),
        ("strategy", "no_such_module:X", "No module named 'no_such_module'"),
        ("strategy", "lifo", "strategy: takes one of per-request, .* or a class, or its module:name, got 'lifo'"),
        ("driver", "json:loads", "driver: takes a class, or its module:name, got 'json:loads'"),
    ],
    ids=str,
)
def test_no_such_class(option: str, value: Any, message: str) -> None:
    """A class that is no strategy or driver is refused at start-up, by its name."""
    with pytest.raises(ConfigError, match=message):
        Database("sqlite:///x.db", **{option: value})


@pytest.mark.parametrize("made", [None, 7])
def test_open_returns_no_connection(made: Any) -> None:
    """A driver whose open() returns rubbish; so does one whose connect() does."""
    opens = type("Mine", (Generic,), {"name": "mine", "open": lambda self, deadline: made})
    database = Database("mine://host/x", driver=opens)
    with (
        database,
        pytest.raises(DatabaseUnavailable, match=f"mine: returned {type(made).__name__}, which is no DB-API"),
    ):
        Worker(database.check).outcome()


def test_connect_returns_nothing() -> None:
    """The engine takes no None for a connection."""
    nothing = type("Mine", (Generic,), {"name": "mine", "connect": lambda self, deadline: None})
    database = Database("mine://host/x", driver=nothing)
    with database, pytest.raises(DatabaseUnavailable, match="driver mine: connect\\(\\) returned None"):
        Worker(database.check).outcome()


def test_no_open_of_its_own() -> None:
    """A subclass of Generic with a url must know how to open it."""
    database = Database("mine://host/x", driver=type("Mine", (Generic,), {"name": "mine"}))
    with database, pytest.raises(DatabaseUnavailable, match="mine: has no open\\(\\) of its own"):
        database.check()


class Scripted:
    """A driver that says what it is told to, and notes what it is asked: its methods' names and deadlines."""

    def __init__(self, fakedb: FakeDB) -> None:
        self.heard = self.dead = False
        self.rows = 0
        self.fault: str | None = None
        self.asked: list[tuple[str, float]] = []
        script = self

        class Mine(Generic):
            name = "mine"
            clears_sessions = True

            def open(self, deadline: float) -> Any:
                script.asked.append(("open", deadline))
                return fakedb.connect()

            def watch(self, conn: Any) -> Check:
                def check(timeout: int) -> bool:
                    script.asked.append(("check", timeout))
                    return script.heard

                return check

            def readable_is_dead(self, conn: Any) -> bool:
                return script.dead

            def ping(self, conn: Any, deadline: float) -> None:
                script.asked.append(("ping", deadline))

            def rollback(self, conn: Any, deadline: float) -> None:
                script.asked.append(("rollback", deadline))

            def reset(self, conn: Any, deadline: float) -> None:
                script.asked.append(("reset", deadline))

            def rows_written(self, conn: Any) -> int:
                return script.rows

            def retire_cursor(self, cursor: Any) -> str | None:
                return script.fault

        self.driver = Mine


@pytest.fixture
def script(fakedb: FakeDB) -> Scripted:
    return Scripted(fakedb)


@pytest.fixture
def mine(make: MakeDatabase, script: Scripted, clock: Clock) -> MakeDatabase:
    """Makes a Database of the scripted driver; the clock stands at 1000 s."""
    return lambda **options: make("mine://host/x", driver=script.driver, clock=clock, **options)


def lease(database: Database) -> None:
    with database.connection():
        pass


class TestWhatADriverIsAsked:
    """drivers/base.py: the engine's part of the contract."""

    @pytest.mark.parametrize(("acquire_timeout", "deadline"), [(5, 1003), (1, 1001)])
    def test_connecting(self, mine: MakeDatabase, script: Scripted, acquire_timeout: float, deadline: float) -> None:
        """Its deadline is connect_timeout (3 s) from now, or the end of acquire_timeout where that is sooner."""
        lease(mine(acquire_timeout=acquire_timeout))
        assert script.asked[0] == ("open", deadline)

    def test_a_silent_connection_used_lately(self, mine: MakeDatabase, script: Scripted) -> None:
        """It costs one free check, which is called with 0, so that it never waits."""
        database = mine(ping_timeout=2)
        script.dead = True  # nobody asks for this, where nothing was heard
        lease(database)
        script.asked.clear()
        lease(database)
        assert script.asked == [("check", 0), ("rollback", 1002)]
        assert database.stats().connects == 1

    @pytest.mark.parametrize(("acquire_timeout", "deadline"), [(5, 1003), (1, 1002)])
    def test_a_ping(
        self, mine: MakeDatabase, script: Scripted, clock: Clock, acquire_timeout: float, deadline: float
    ) -> None:
        """Its deadline is ping_timeout from now, or the end of acquire_timeout where that is sooner."""
        database = mine(ping_after=1, ping_timeout=2, acquire_timeout=acquire_timeout)
        script.dead = True  # nobody asks for this, where nothing was heard
        lease(database)
        clock.advance(1)
        script.asked.clear()
        lease(database)
        assert script.asked == [("check", 0), ("ping", deadline), ("rollback", 1003)]
        assert database.stats().connects == 1

    def test_something_heard_that_may_be_harmless(self, mine: MakeDatabase, script: Scripted) -> None:
        """A ping decides, however lately the connection was used."""
        database = mine(ping_after=None)
        lease(database)
        script.heard = True
        lease(database)
        stats = database.stats()
        assert (stats.pings, stats.checks_failed, stats.connects) == (1, 0, 1)

    def test_something_heard_that_proves_it_dead(self, mine: MakeDatabase, script: Scripted) -> None:
        """The connection is replaced without a ping, and counted once."""
        database = mine()
        lease(database)
        script.heard = script.dead = True
        lease(database)
        stats = database.stats()
        assert (stats.pings, stats.checks_failed, stats.connects) == (0, 1, 2)
        assert stats.discards == {"check failed": 1}

    @pytest.mark.parametrize("reset", ["session", "rollback"])
    def test_reset(self, mine: MakeDatabase, script: Scripted, reset: str) -> None:
        """reset=session asks for `reset`, else for `rollback`: one of them, with ping_timeout for its deadline."""
        database = mine(reset=reset, ping_timeout=2)
        lease(database)
        method = {"session": "reset"}.get(reset, "rollback")
        assert script.asked[1:] == [(method, 1002)]

    @pytest.mark.parametrize(("rows", "warnings"), [(0, []), (1, ["1 row(s)"]), (2, ["2 row(s)"])])
    def test_rows_written(
        self, mine: MakeDatabase, script: Scripted, caplog: pytest.LogCaptureFixture, rows: int, warnings: list[str]
    ) -> None:
        """A lease that lost a written row is a WARNING."""
        script.rows = rows
        lease(mine())
        assert [record.getMessage().split(" of ")[-1] for record in caplog.records] == warnings

    def test_rows_that_were_to_be_rolled_back(
        self, mine: MakeDatabase, script: Scripted, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No WARNING after an error: nobody expects its writes to be kept."""
        script.rows = 1
        with pytest.raises(ValueError, match="no"), mine().connection():
            raise ValueError("no")
        assert caplog.records == []

    @pytest.mark.parametrize(("fault", "discards"), [("unread rows", {"unread rows": 1}), (None, {})], ids=str)
    def test_retiring_a_cursor(
        self, mine: MakeDatabase, script: Scripted, fault: str | None, discards: dict[str, int]
    ) -> None:
        """A cursor that cannot be ended costs its connection, for the reason that the driver gives."""
        database = mine()
        script.fault = fault
        with database.connection() as conn:
            cursor = conn.cursor()
        del cursor
        assert database.stats().discards == discards


def test_attributes_are_put_back_before_a_deadline(
    make: MakeDatabase, fakedb: FakeDB, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C5: a driver whose attributes are statements has ping_timeout for all of them."""
    told: list[Any] = []
    database = make(creator=fakedb.connect, clock=clock, ping_timeout=3)
    monkeypatch.setattr(database._driver, "put_back", lambda conn, attributes, deadline: told.append(deadline))
    with database.connection() as conn:
        conn.number = 5
    assert told == [clock() + 3]
