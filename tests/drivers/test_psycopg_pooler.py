"""psycopg through a connection pooler: the trap of prepared statements, and how it is avoided."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import psycopg
import pytest

from drivers.cases import run, soon
from drivers.deadlines import driver_of
from support.pgbouncer import PgBouncer
from support.pgpackets import error, row
from support.postgresql import PostgreSQL
from support.proxy import TCPProxy
from support.waiting import until
from wsgidb import Database, DatabaseUnavailable
from wsgidb.drivers.psycopg import pooler

QUESTION = pooler.QUESTION.decode()
pytestmark = pytest.mark.server


@pytest.fixture(params=["session", "transaction"])
def pooled(request: pytest.FixtureRequest, postgresql: PostgreSQL) -> Iterator[PgBouncer]:
    """PgBouncer in either mode, with two sessions of the server."""
    with PgBouncer(postgresql, request.param, pool_size=2) as bouncer:
        yield bouncer


@pytest.fixture
def tables(postgresql: PostgreSQL) -> Iterator[None]:
    for name in ("mine", "theirs"):
        postgresql.execute(f"CREATE TABLE {name} (number INT)")
    yield
    for name in ("mine", "theirs"):
        postgresql.execute(f"DROP TABLE {name}")


def write(database: Database, table: str, number: int) -> None:
    with database.connection() as conn, conn.cursor() as cursor:
        cursor.execute(f"INSERT INTO {table} VALUES (%s)", (number,))


def misplaced(postgresql: PostgreSQL, bouncer: PgBouncer) -> int:
    """Two programs write until psycopg would have prepared their statements, each in a session of its own; then one of
    them gets the other's session. Returns how many of their rows are in the other one's table."""
    plain = f"host=127.0.0.1 port={bouncer.port} user=guest dbname=test"
    options: dict[str, Any] = {"transaction": "autocommit", "pool_size": 1}
    with (
        Database(bouncer.url(), **options) as mine,
        Database(bouncer.url(), **options) as theirs,
        closing(psycopg.connect(plain)) as first,
        closing(psycopg.connect(plain)) as second,
    ):
        for _ in range(7):  # in the first session
            write(mine, "mine", 1)
        first.execute("SELECT 1")  # holds the first session
        for _ in range(7):  # in the second session
            write(theirs, "theirs", 2)
        second.execute("SELECT 1")  # holds the second session
        first.rollback()
        write(theirs, "theirs", 2)  # acknowledged
        second.rollback()
    sql = "SELECT (SELECT count(*) FROM mine WHERE number = 2) + (SELECT count(*) FROM theirs WHERE number = 1)"
    return int(postgresql.query(sql)[0][0])


@pytest.mark.slow
@pytest.mark.usefixtures("tables")
def test_no_row_gets_into_another_programs_table(postgresql: PostgreSQL) -> None:
    """C1: behind transaction pooling nothing is prepared, so that each statement is the one that was sent."""
    with PgBouncer(postgresql, "transaction", pool_size=2) as bouncer:
        assert misplaced(postgresql, bouncer) == 0
    assert postgresql.query("SELECT count(*) FROM mine") == [(7,)]
    assert postgresql.query("SELECT count(*) FROM theirs") == [(8,)]


@pytest.mark.slow
@pytest.mark.usefixtures("tables")
def test_the_trap(postgresql: PostgreSQL, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, if nobody looks for a pooler: an acknowledged row is in the other program's table."""
    monkeypatch.setattr(pooler, "is_behind_pooler", lambda conn: iter(()))
    with PgBouncer(postgresql, "transaction", pool_size=2) as bouncer:
        assert misplaced(postgresql, bouncer) == 1


@pytest.mark.slow
def test_a_pooler_is_found_and_told_of_once(pooled: PgBouncer, caplog: pytest.LogCaptureFixture) -> None:
    """prepare_threshold: with either kind of pooling it is none, for each new connection; one line in the log."""
    with Database(pooled.url(), pool_size=2) as database, database.connection() as one, database.connection() as other:
        assert [one.prepare_threshold, other.prepare_threshold] == [None, None]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.slow
def test_a_threshold_that_was_given_is_kept(pooled: PgBouncer, caplog: pytest.LogCaptureFixture) -> None:
    """prepare_threshold: whoever gives it knows better, and is warned; for none nobody is asked."""
    with closing(driver_of(pooled.url(query="prepare_threshold=5")).connect(soon())) as conn:
        assert conn.prepare_threshold == 5
    assert "another program's table" in caplog.text
    caplog.clear()
    with closing(driver_of(pooled.url(), connect_args={"prepare_threshold": None}).connect(soon())) as conn:
        assert conn.prepare_threshold is None
    assert caplog.records == []


@pytest.mark.slow
def test_pooler_without_a_server(own_postgresql: PostgreSQL) -> None:
    """R1: PgBouncer accepts a login without its server; that counts as a failed connect, so the client gets a 503."""
    with PgBouncer(own_postgresql) as bouncer, Database(bouncer.url(), strategy="per-request") as database:
        with database.connection() as conn:
            assert run(conn, "SELECT 1") == [(1,)]
        own_postgresql.stop()
        with pytest.raises(DatabaseUnavailable):
            database.lease()
        own_postgresql.start()
        with psycopg.connect(bouncer.url().replace("+psycopg", ""), autocommit=True):
            pass

        def back() -> bool:
            try:
                return database.check() > 0
            except DatabaseUnavailable:
                return False

        until(back, what="service")


@pytest.mark.slow
def test_a_restart_of_the_pooler_is_noticed_for_free(pooled: PgBouncer) -> None:
    """C2: no request gets a connection that the pooler's restart has ended."""
    with Database(pooled.url(), pool_size=1) as database:
        for _ in range(3):
            with database.connection() as conn:
                assert run(conn, "SELECT 1") == [(1,)]
            pooled.restart()
        assert database.stats().discards == {"check failed": 2}


def test_no_pooler(postgresql: PostgreSQL, caplog: pytest.LogCaptureFixture) -> None:
    """prepare_threshold: psycopg's default holds on PostgreSQL itself."""
    with closing(driver_of(postgresql.url()).connect(soon())) as conn:
        assert conn.prepare_threshold == 5
    assert caplog.records == []


def test_answers_to_the_question(postgresql_proxy: TCPProxy, postgresql: PostgreSQL) -> None:
    """prepare_threshold: another process is a pooler's sign; a server without that function is not behind one; what
    else fails is a failed connect."""
    driver = driver_of(postgresql_proxy.url_from(postgresql.url()))
    postgresql_proxy.answer(QUESTION, lambda: row("17"))
    with closing(driver.connect(soon())) as conn:
        assert conn.prepare_threshold is None
    postgresql_proxy.answer(QUESTION, lambda: error("42883", "function pg_backend_pid() does not exist"))
    with closing(driver.connect(soon())) as conn:
        assert conn.prepare_threshold == 5
        assert run(conn, "SELECT 1") == [(1,)]
    postgresql_proxy.answer(QUESTION, lambda: error("08P01", "query_wait_timeout"))
    with pytest.raises(psycopg.OperationalError, match="query_wait_timeout"):
        driver.connect(soon())
