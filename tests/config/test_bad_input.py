"""Contradictory options are refused at start-up. What only the server can tell is a 503, with its cause in the log."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from support.client import connect
from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.waiting import until
from support.wsgi import Call
from wsgidb import ConfigError, Database, DatabaseMiddleware, DatabaseUnavailable
from wsgidb.config.options import OPTIONS

MYSQL = "mysql://app@db.invalid/shop"
TRANSACTIONS = ["manual", "autocommit", "request"]


def never(environ: Any, start_response: Any) -> Any:
    raise AssertionError("the application must not be called")


class TestAutocommit:
    """R9: only wsgidb sets autocommit; otherwise the commit at the end of the request might do nothing."""

    @pytest.mark.parametrize("transaction", TRANSACTIONS)
    @pytest.mark.parametrize("value", ["1", "0", "true"])
    def test_not_in_the_url(self, transaction: Any, value: str) -> None:
        """R9: autocommit is refused with any value, and the error names the option to use."""
        with pytest.raises(ConfigError, match=r"^autocommit: .* url or connect_args; use wsgidb's option transaction"):
            DatabaseMiddleware(never, f"{MYSQL}?autocommit={value}", transaction=transaction)

    @pytest.mark.parametrize("transaction", TRANSACTIONS)
    @pytest.mark.parametrize("value", [True, False])
    def test_not_in_connect_args(self, transaction: Any, value: bool) -> None:
        """R9: a dict given as connect_args is checked at start-up."""
        with pytest.raises(ConfigError, match=r"^autocommit: "):
            DatabaseMiddleware(never, MYSQL, transaction=transaction, connect_args={"autocommit": value})

    @pytest.mark.parametrize("name", ["autocommit", "isolation_level"])
    @pytest.mark.parametrize("transaction", TRANSACTIONS)
    def test_not_by_sqlites_names(self, name: str, transaction: Any) -> None:
        """R9: both of sqlite3's names for it are refused."""
        url = "sqlite:////tmp/never-opened.db"
        given: list[Any] = [{"connect_args": {name: None}}, {}]
        for options in given:
            address = url if options else f"{url}?{name}=DEFERRED"
            with pytest.raises(ConfigError, match=rf"^{name}: .*option transaction"):
                DatabaseMiddleware(never, address, transaction=transaction, **options)

    def test_it_is_no_option_of_wsgidb(self) -> None:
        """R9: the keyword is refused as unknown and not passed to the driver."""
        with pytest.raises(ConfigError, match="unknown option 'autocommit'"):
            DatabaseMiddleware(never, MYSQL, autocommit=True)  # type: ignore[call-arg]


class TestVeto:
    @pytest.mark.parametrize("transaction", ["manual", "autocommit"])
    def test_a_veto_needs_something_to_veto(self, transaction: Any) -> None:
        """commit_veto would be ignored without transaction=request, so it is refused."""
        with pytest.raises(ConfigError, match=rf"^commit_veto: needs transaction=request, got {transaction} [(]"):
            DatabaseMiddleware(never, MYSQL, transaction=transaction, commit_veto=lambda *args: True)

    def test_nor_around_a_ready_made_database(self) -> None:
        """The same holds if the Database, which has the option transaction, exists before."""
        with pytest.raises(ConfigError, match="commit_veto: needs transaction=request"):
            DatabaseMiddleware(never, Database(MYSQL), commit_veto=lambda *args: True)
        made = DatabaseMiddleware(never, Database(MYSQL, transaction="request"), commit_veto=lambda *args: True)
        assert made.settings.commit_veto is not None

    def test_a_veto_is_callable(self) -> None:
        """A pattern of statuses is refused, because it is not callable."""
        with pytest.raises(ConfigError, match=r"^commit_veto: takes a callable, or its module:name, got '5xx'"):
            DatabaseMiddleware(never, MYSQL, transaction="request", commit_veto="5xx")  # type: ignore[arg-type]


@pytest.fixture
def sessions(mariadb: MariaDB) -> Iterator[Any]:
    """A function that counts the server's sessions, including its own."""
    with closing(connect(mariadb.url("root", database="mysql"))) as admin, closing(admin.cursor()) as cursor:

        def count() -> int:
            cursor.execute("SELECT COUNT(*) FROM information_schema.processlist WHERE command <> 'Daemon'")
            row = cursor.fetchone()
            assert row is not None
            return int(row[0])

        yield count


class TestInitSQL:
    @pytest.mark.server
    @pytest.mark.parametrize("transaction", TRANSACTIONS)
    @pytest.mark.parametrize(
        "init_sql", ["SELECT nonsense", "SET time_zone = '+00:00'\nSET no_such_variable = 1", "SELEC 1"]
    )
    def test_one_that_fails_is_a_503_and_leaks_no_session(
        self, mariadb: MariaDB, sessions: Any, caplog: pytest.LogCaptureFixture, transaction: Any, init_sql: str
    ) -> None:
        """R1: the application is not called, the client does not learn the cause, and the log shows it."""
        before = sessions()
        app = DatabaseMiddleware(never, mariadb.url(), init_sql=init_sql, transaction=transaction)
        with app.database, caplog.at_level(logging.WARNING, "wsgidb"):
            call = Call(app)
            assert (call.status, call.read()) == ("503 Service Unavailable", b"Service Unavailable\n")
            assert "db.conn" not in call.environ
            stats = app.database.stats()
            assert (stats.open, stats.connects, stats.connect_failures) == (0, 0, 1)
        with Database(mariadb.url(), init_sql=init_sql) as database:
            with pytest.raises(DatabaseUnavailable) as caught, database.connection():
                pass
            assert caught.tb is not None  # it keeps alive what its frames refer to
            until(lambda: sessions() <= before, what="the sessions to end")  # one of an earlier test may end meanwhile
        assert "cannot connect: " in caplog.text
        assert any(word in caplog.text for word in ("nonsense", "no_such_variable", "SELEC"))

    def test_one_that_fails_on_sqlite(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        """R1: the same holds for SQLite, and the file is closed."""
        app = DatabaseMiddleware(
            never, f"sqlite:///{tmp_path}/file.db", init_sql="SELECT nonsense", on_unavailable="raise"
        )
        with app.database:
            with pytest.raises(DatabaseUnavailable) as caught:
                Call(app)
            assert caught.tb is not None  # it keeps alive what its frames refer to
            opened = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.islink(entry.path)]
            assert str(tmp_path / "file.db") not in opened
        assert "nonsense" in caplog.text

    def test_one_that_fails_closes_what_a_creator_made(self, fakedb: FakeDB) -> None:
        """R1: the connection of a creator is closed."""
        fakedb.fail("execute", FakeDB.OperationalError("no such variable"))
        with Database(creator=fakedb.connect, init_sql="SET x = 1") as database:
            with pytest.raises(DatabaseUnavailable, match="no such variable"), database.connection():
                pass
            assert (fakedb.opened, fakedb.open_now, database.stats().open) == (1, 0, 0)

    @pytest.mark.server
    def test_one_that_writes_is_committed(self, mariadb: MariaDB) -> None:
        """init_sql is committed, so that no request's rollback takes it back."""
        mariadb.execute("CREATE TABLE visits (n INT)")
        try:
            with Database(mariadb.url(), init_sql="INSERT INTO visits VALUES (1)") as database:
                with database.connection() as conn:
                    conn.rollback()
                assert mariadb.query("SELECT n FROM visits") == [(1,)]
        finally:
            mariadb.execute("DROP TABLE visits")


def test_every_option_refuses_what_is_of_no_type_of_its_own() -> None:
    """A meaningless object is a ConfigError that names the option, for every option."""
    nonsense: Any = object()
    for name in OPTIONS:
        with pytest.raises(ConfigError, match=rf"^{name}: takes "):
            Database(None if name == "url" else MYSQL, **{name: nonsense})
