"""R2: an exception in the application rolls back, releases and is raised again. An interrupt costs the connection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from support.fakedb import FakeDB
from support.mariadb import MariaDB
from support.wsgi import Call
from wsgi.conftest import said
from wsgidb import Database, DatabaseMiddleware

INTERRUPTS = [KeyboardInterrupt, SystemExit]
with suppress(ImportError):  # greenlet does not support each free-threaded Python
    from greenlet import GreenletExit

    INTERRUPTS.append(GreenletExit)


class Surprise(Exception):
    pass


@pytest.fixture(params=["sqlite", pytest.param("mariadb", marks=pytest.mark.server)])
def accounts(request: pytest.FixtureRequest, tmp_path: Path, strategy: Any) -> Iterator[Database]:
    """A database with one account, which has 100."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/accounts.sqlite3"
    else:
        url = request.getfixturevalue("mariadb").url()
    with Database(url, strategy=strategy) as database:
        with database.connection() as conn, closing(conn.cursor()) as cursor:
            cursor.execute("CREATE TABLE r2 (amount INTEGER)")
            cursor.execute("INSERT INTO r2 VALUES (100)")
            conn.commit()
        yield database
        with database.connection() as conn, closing(conn.cursor()) as cursor:
            cursor.execute("DROP TABLE r2")


@pytest.mark.parametrize("error", [Surprise("a"), *(kind("b") for kind in INTERRUPTS)], ids=repr)
@pytest.mark.parametrize("where", ["app", "body"])
def test_the_same_object_comes_out_and_its_work_is_rolled_back(
    accounts: Database, error: BaseException, where: str
) -> None:
    """R2: the server gets the application's own exception, the write is rolled back, and the lease has ended."""

    def spend(environ: dict[str, Any]) -> None:
        with closing(environ["db.conn"].cursor()) as cursor:
            cursor.execute("UPDATE r2 SET amount = amount - 1")
        raise error

    def body(environ: dict[str, Any]) -> Iterator[bytes]:
        yield b"one"
        spend(environ)

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [])
        return spend(environ) if where == "app" else body(environ)

    with pytest.raises(type(error)) as caught:
        Call(DatabaseMiddleware(app, accounts)).read()

    assert caught.value is error
    assert accounts.stats().leased == 0
    with accounts.connection() as conn, closing(conn.cursor()) as cursor:
        cursor.execute("SELECT amount FROM r2")
        assert cursor.fetchone()[0] == 100


def test_an_ordinary_error_keeps_the_connection(fakedb: FakeDB, database: Database, strategy: str) -> None:
    """R2: after the rollback the connection is kept; only an interrupt discards it."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["db.conn"].cursor().execute("UPDATE")
        raise Surprise

    with pytest.raises(Surprise):
        Call(DatabaseMiddleware(app, database))

    assert said(fakedb) == ["connect", "cursor", "execute", "rollback"]
    assert (database.stats().idle, database.stats().discards) == (int(strategy != "per-request"), {})


@pytest.mark.parametrize("interrupt", INTERRUPTS)
@pytest.mark.parametrize("swallowed", [False, True])
def test_an_interrupt_in_a_statement_discards(
    fakedb: FakeDB, database: Database, interrupt: type[BaseException], swallowed: bool
) -> None:
    """R2: the reply may still arrive, even if the handler goes on, so the connection is dropped without a rollback."""
    fakedb.fail("execute", interrupt())

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        cursor = environ["db.conn"].cursor()
        with suppress(*[interrupt] if swallowed else []):
            cursor.execute("UPDATE")
        return [b""]

    with suppress(interrupt):
        Call(DatabaseMiddleware(app, database))

    stats = database.stats()
    assert (stats.open, sum(stats.discards.values())) == (0, 1)
    assert fakedb.count("rollback") == 0


@pytest.mark.server
@pytest.mark.parametrize("interrupt", INTERRUPTS)
def test_an_interrupt_while_pymysql_reads_discards(
    mariadb: MariaDB, strategy: Any, interrupt: type[BaseException]
) -> None:
    """R2: an unread reply would be taken for the next statement's, even if the handler swallowed the interrupt."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        conn = environ["db.conn"]
        conn._read_packet = broken  # set through the lease, so it is undone at release
        with suppress(interrupt):
            conn.cursor().execute("SELECT 'of the first request'")
        return [b""]

    def broken(*args: Any) -> Any:
        raise interrupt

    with Database(mariadb.url(), strategy=strategy) as database:
        Call(DatabaseMiddleware(app, database))

        assert database.stats().discards == {"closed by the application or the driver": 1}
        with database.connection() as conn, conn.cursor() as cursor:
            cursor.execute("SELECT 2")
            assert cursor.fetchone() == (2,)


def test_an_interrupt_between_statements_discards_too(fakedb: FakeDB, database: Database) -> None:
    """R2: nobody can know what was interrupted, so the connection is never kept."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        environ["db.conn"].cursor().execute("UPDATE")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Call(DatabaseMiddleware(app, database))

    assert database.stats().discards == {"interrupted": 1}


def test_an_interrupt_during_the_release_is_not_lost(fakedb: FakeDB, database: Database) -> None:
    """R2: an interrupt during the rollback is raised, and the connection's place in the pool is free again."""
    fakedb.fail("rollback", KeyboardInterrupt())

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        environ["db.conn"].cursor().execute("UPDATE")
        return [b""]

    with pytest.raises(KeyboardInterrupt):
        Call(DatabaseMiddleware(app, database))

    stats = database.stats()
    assert (stats.open, stats.leased, stats.discards) == (0, 0, {"interrupted": 1})
