"""R10, R13: what psycopg commits, what it refuses to commit, and what a handler is told of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from drivers.cases import BROKEN, READ, WRITE, OnServer, database, over, run
from wsgidb import TransactionLost

POSTGRESQL = "postgresql"


def swallow(conn: Any) -> None:
    run(conn, WRITE)
    with pytest.raises(psycopg.errors.UndefinedColumn):
        run(conn, BROKEN)


def swallow_a_kill(conn: Any, backend: OnServer) -> None:
    run(conn, WRITE)
    backend.kill(conn)
    with pytest.raises(psycopg.OperationalError):
        run(conn, READ)


def swallow_a_timeout(conn: Any) -> None:
    run(conn, WRITE)
    run(conn, "SET LOCAL statement_timeout = 200")
    with pytest.raises(psycopg.errors.QueryCanceled):
        run(conn, "SELECT pg_sleep(10)")


def by_method(conn: Any) -> None:
    conn.commit()


def by_statement(conn: Any) -> None:
    conn.cursor().execute("/* done */ Commit")


def by_composable(conn: Any) -> None:
    conn.execute(psycopg.sql.SQL("END"))


def by_a_cursor_of_its_own(conn: Any) -> None:
    psycopg.ClientCursor(conn).execute("COMMIT")


def past_the_lease(conn: Any) -> None:
    psycopg.ClientCursor(conn.driver_connection).execute(b"COMMIT")


def in_many(conn: Any) -> None:
    psycopg.Cursor(conn).executemany("COMMIT", [()])


def among_rows(conn: Any) -> None:
    next(psycopg.Cursor(conn).stream("PREPARE TRANSACTION 'mine'"))


COMMITS = (by_method, by_statement, by_composable, by_a_cursor_of_its_own, past_the_lease, in_many, among_rows)


@over(POSTGRESQL)
@pytest.mark.parametrize("commit", COMMITS)
@pytest.mark.parametrize("transaction", ["manual", "request"])
def test_commit_of_a_failed_transaction_is_an_error(
    backend: OnServer, transaction: str, commit: Callable[[Any], None]
) -> None:
    """R10: the server answers COMMIT after an error with a silent ROLLBACK; here it is a TransactionLost."""
    with database(backend, transaction=transaction) as made, made.connection() as conn:
        swallow(conn)
        with pytest.raises(TransactionLost):
            commit(conn)
        conn.rollback()
        run(conn, READ)
    assert backend.stored == 10


@over(POSTGRESQL)
def test_request_that_swallowed_an_error_is_lost(backend: OnServer) -> None:
    """R10: a transaction=request that ends in a failed transaction raises, and nothing of it is committed."""
    with database(backend, transaction="request") as made:
        with pytest.raises(TransactionLost), made.connection() as conn:
            swallow(conn)
        assert backend.stored == 10
        with made.connection() as conn:
            run(conn, WRITE)
        assert (backend.stored, made.stats().connects) == (11, 1)


@over(POSTGRESQL)
def test_transaction_block_that_swallowed_an_error_is_lost(backend: OnServer) -> None:
    """R10: so is a transaction() block, whose end is a COMMIT."""
    with (
        database(backend, transaction="autocommit") as made,
        made.connection() as conn,
        pytest.raises(TransactionLost),
        conn.transaction(),
    ):
        swallow(conn)
    assert backend.stored == 10


@over(POSTGRESQL)
@pytest.mark.parametrize("recover", ["ROLLBACK", "ABORT", "ROLLBACK TO SAVEPOINT before"])
def test_handler_that_recovers_may_go_on(backend: OnServer, recover: str) -> None:
    """R10: after the handler's own rollback, or to a savepoint, what follows is committed."""
    with database(backend, transaction="request") as made, made.connection() as conn:
        run(conn, "SAVEPOINT before")
        swallow(conn)
        run(conn, recover)
        run(conn, "UPDATE contract SET n = 12")
    assert backend.stored == 12


@over(POSTGRESQL)
def test_killed_and_swallowed_is_lost(backend: OnServer) -> None:
    """R10: a connection lost within a request, its error swallowed, is TransactionLost at the end."""
    with database(backend, transaction="request") as made:
        with pytest.raises(TransactionLost, match="closed"), made.connection() as conn:
            swallow_a_kill(conn, backend)
        assert (backend.stored, made.stats().open) == (10, 0)


@over(POSTGRESQL)
def test_statement_timeout_that_was_swallowed(backend: OnServer) -> None:
    """R10: a statement that the server cancelled leaves no half transaction."""
    with (
        database(backend, transaction="request") as made,
        pytest.raises(TransactionLost),
        made.connection() as conn,
    ):
        swallow_a_timeout(conn)
    assert backend.stored == 10


# -- R13


def left_stream(conn: Any) -> Any:
    rows = conn.cursor().stream("SELECT generate_series(1, 100000)")
    assert next(rows) == (1,)
    return rows


def left_copy(conn: Any) -> Any:
    manager = conn.cursor().copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT")
    assert manager.__enter__().read()
    return manager


def left_named(conn: Any) -> Any:
    cursor = conn.cursor("named")
    cursor.execute("SELECT generate_series(1, 100000)")
    assert cursor.fetchone() == (1,)
    return cursor


def left_result(conn: Any) -> Any:
    cursor = conn.execute("SELECT generate_series(1, 100000)")
    assert cursor.fetchone() == (1,)
    return cursor


def left_returning(conn: Any) -> Any:
    cursor = conn.execute("INSERT INTO contract SELECT g, g FROM generate_series(10, 20) AS g RETURNING id")
    assert cursor.fetchone() == (10,)
    return cursor


@over(POSTGRESQL)
@pytest.mark.parametrize("leave", [left_stream, left_copy, left_named, left_result, left_returning])
def test_an_open_result_does_not_decide(backend: OnServer, leave: Callable[[Any], Any]) -> None:
    """R13: rows that a handler did not read are no reason to lose what it wrote, nor to drop the connection."""
    with database(backend, transaction="request", ping_timeout=30) as made:  # a busy machine reads them in 2 s or more
        with made.connection() as conn:
            run(conn, WRITE)
            kept = leave(conn)
        assert (backend.stored, made.stats().discards) == (11, {})
        with made.connection() as conn:
            assert run(conn, READ) == [(11,)]
        del kept


def endless(conn: Any) -> Any:
    rows = conn.cursor().stream("SELECT pg_sleep(0.05), repeat('x', 9999) FROM generate_series(1, 600)")
    next(rows)
    return rows


def failing(conn: Any) -> Any:
    rows = conn.cursor().stream("SELECT 1 / (500 - n) FROM generate_series(1, 100000) AS n")
    next(rows)
    return rows


def waiting_for_more(conn: Any) -> Any:
    manager = conn.cursor().copy("COPY contract FROM STDIN")
    manager.__enter__().write_row((2, 20))
    return manager


MIDDLE = "in the middle of a statement"
UNREADABLE: dict[str, tuple[Callable[[Any], Any], str, dict[str, int]]] = {
    "a result that takes longer than ping_timeout": (endless, "rows were left unread", {MIDDLE: 1}),
    "an error among the rows": (failing, "an error has ended", {}),
    "a COPY that waits for more rows": (waiting_for_more, "a COPY FROM was not ended", {MIDDLE: 1}),
}


@over(POSTGRESQL)
@pytest.mark.parametrize("case", UNREADABLE)
def test_what_cannot_be_read_to_its_end_is_a_loss(backend: OnServer, case: str) -> None:
    """R10, R13: then the request is told that nothing was committed; and it does not wait long for that."""
    leave, told, discards = UNREADABLE[case]
    kept: list[Any] = []
    with database(backend, transaction="request", ping_timeout=0.2 if leave is endless else 10) as made:
        began = time.monotonic()
        with pytest.raises(TransactionLost, match=told), made.connection() as conn:
            write_and(conn, leave, kept)
        assert time.monotonic() - began < 9
        assert (backend.stored, made.stats().discards) == (10, discards)


def write_and(conn: Any, then: Callable[[Any], Any], kept: list[Any]) -> None:
    run(conn, WRITE)
    kept.append(then(conn))


@pytest.fixture
def deferred(backend: OnServer) -> Iterator[OnServer]:
    """Constraints and triggers that speak at COMMIT."""
    backend.query("CREATE TABLE deferred (n INTEGER UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    backend.query(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION USING ERRCODE = TG_ARGV[0]; END $$"
    )
    yield backend
    backend.query("DROP TABLE deferred; DROP FUNCTION refuse")


def refused_with(backend: OnServer, sqlstate: str) -> None:
    backend.query(
        "CREATE CONSTRAINT TRIGGER refused AFTER INSERT ON deferred DEFERRABLE INITIALLY DEFERRED "
        f"FOR EACH ROW EXECUTE FUNCTION refuse('{sqlstate}')"
    )


@over(POSTGRESQL)
@pytest.mark.parametrize(
    ("sqlstate", "connects"), [("40001", 1), ("40P01", 1), ("23505", 1), ("P0001", 1), ("40003", 2), ("58030", 2)]
)
def test_a_refused_commit_costs_no_connection(deferred: OnServer, sqlstate: str, connects: int) -> None:
    """R13: the request is told the server's error. Where that means that the transaction is undone the connection is
    as good as before; where it does not, the connection goes."""
    refused_with(deferred, sqlstate)
    with database(deferred, transaction="request") as made:
        with pytest.raises(psycopg.Error) as caught, made.connection() as conn:
            write_and(conn, lambda conn: run(conn, "INSERT INTO deferred VALUES (1)"), [])
        assert caught.value.sqlstate == sqlstate
        with made.connection() as conn:
            assert run(conn, READ) == [(10,)]
        assert made.stats().connects == connects


def run_each(statements: dict[Any, str]) -> None:
    for conn, statement in statements.items():
        run(conn, statement)


@over(POSTGRESQL)
def test_a_serialization_failure_at_commit(backend: OnServer) -> None:
    """R13: of two requests that read what the other one writes, one is refused at its COMMIT, and both connections
    are kept."""
    init = ["SET default_transaction_isolation = serializable"]
    update = "UPDATE contract SET n = (SELECT sum(n) FROM contract WHERE id <> {0}) WHERE id = {0}"
    backend.query("INSERT INTO contract VALUES (2, 20)")
    with database(backend, transaction="request", init_sql=init, pool_size=2) as made:
        with pytest.raises(psycopg.errors.SerializationFailure), made.connection() as one, made.connection() as other:
            run_each({one: update.format(1), other: update.format(2)})
        assert (made.stats().open, made.stats().discards) == (2, {})


# -- the warning about a lost write


def closed(conn: Any, backend: OnServer) -> None:
    conn.driver_connection.close()


def reset(conn: Any, backend: OnServer) -> None:
    conn.driver_connection.pgconn.reset()


def reset_and_used(conn: Any, backend: OnServer) -> None:
    conn.pgconn.reset()
    with pytest.raises(TransactionLost, match="reset in the middle"):
        conn.execute("SELECT 1")
    with pytest.raises(TransactionLost, match="reset in the middle"):
        conn.commit()


def killed(conn: Any, backend: OnServer) -> None:
    backend.kill(conn)
    with suppress(psycopg.Error):
        conn.execute("SELECT 1")


def unread(conn: Any, backend: OnServer) -> Any:
    return left_stream(conn)


@over(POSTGRESQL)
@pytest.mark.parametrize("end", [closed, reset, reset_and_used, killed, unread])
@pytest.mark.parametrize("write", ["execute", "executemany", "pipeline", "copy"])
def test_a_lost_write_is_logged(
    backend: OnServer, end: Callable[[Any, OnServer], Any], write: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that did not commit is told so, also where its connection is then discarded for another reason."""
    with caplog.at_level(logging.WARNING, "wsgidb"), database(backend) as made:
        with made.connection() as lease:
            conn: Any = lease
            if write == "execute":
                conn.execute("UPDATE contract SET n = 11; SELECT 1")
            elif write == "executemany":
                conn.cursor().executemany("UPDATE contract SET n = %s", [(1,)])
            elif write == "pipeline":
                with conn.pipeline():
                    conn.execute("UPDATE contract SET n = 11")
            else:
                with conn.cursor().copy("COPY contract FROM STDIN") as copy:
                    copy.write_row((2, 20))
            kept = end(conn, backend)
        del kept
        assert "rolled back an uncommitted write of 1 row(s)" in caplog.text
        assert made.stats().open == 0


@over(POSTGRESQL)
def test_a_rollback_ends_what_a_reset_has_lost(backend: OnServer) -> None:
    """R10: after its own rollback a handler may go on, also on a session that it has opened itself."""
    with database(backend) as made:
        with made.connection() as conn:
            run(conn, WRITE)
            conn.pgconn.reset()
            conn.rollback()
            run(conn, WRITE)
            conn.commit()
        assert (backend.stored, made.stats().discards) == (11, {"reconnected by the application": 1})
