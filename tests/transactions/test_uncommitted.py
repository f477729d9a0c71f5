"""The WARNING for an uncommitted write that was rolled back: the commonest lost write, and nothing but that."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from strategies.kit import BEFORE, MYSQL_BANKS, Bank, MariaDBBank, SQLiteBank, get, run
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware

WRITE = "INSERT INTO transfer VALUES (1234567), (1234567)"
READ = "SELECT * FROM account"
Handler = Callable[[Any], object]


SERVER = pytest.mark.server
KINDS = {"pymysql": [SERVER], "mysqlclient": [SERVER, pytest.mark.slow], "connector": [SERVER, pytest.mark.slow]}
by_mysql = pytest.mark.parametrize(
    "bank", [pytest.param(name, marks=marks) for name, marks in KINDS.items()], indirect=True
)


@pytest.fixture(params=["sqlite", *(pytest.param(name, marks=marks) for name, marks in KINDS.items())])
def bank(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bank]:
    if request.param == "sqlite":
        made: Any = SQLiteBank(tmp_path / "bank.db")
    else:
        made = MYSQL_BANKS[request.param](request.getfixturevalue("mariadb"), request.getfixturevalue("proxy"))
    with closing(made):
        yield made


@pytest.fixture
def warnings(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """What was logged so far, from WARNING up."""
    caplog.set_level(logging.WARNING, "wsgidb")
    return lambda: [record.getMessage() for record in caplog.records if record.name == "wsgidb"]


def app_of(handler: Handler, status: str = "200 OK") -> Any:
    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        handler(environ["db.conn"])
        start_response(status, [("Content-Type", "text/plain")])
        return [b"done"]

    return app


def warned(rows: int) -> list[str]:
    return [f"GET /: rolled back an uncommitted write of {rows} row(s)"]


def statements(*sql: str) -> Handler:
    """A handler that runs these; COMMIT and ROLLBACK are methods."""

    def handler(conn: Any) -> None:
        for each in sql:
            if each == "rollback()":
                conn.rollback()
            elif each == "commit()":
                conn.commit()
            else:
                run(conn, each)

    return handler


CASES: list[tuple[str, tuple[str, ...], int]] = [
    ("manual", (), 0),
    ("manual", (READ,), 0),
    ("manual", (WRITE,), 2),
    ("manual", (WRITE, WRITE, READ), 4),
    ("manual", ("UPDATE account SET balance = 7 WHERE id = 99",), 0),
    ("manual", ("DELETE FROM account",), 2),
    ("manual", (WRITE, "commit()"), 0),
    ("manual", (WRITE, "COMMIT"), 0),
    ("manual", (WRITE, "rollback()"), 0),
    ("manual", (WRITE, "ROLLBACK"), 0),
    ("manual", (WRITE, "commit()", READ), 0),
    ("manual", (WRITE, "commit()", "DELETE FROM account WHERE id = 1"), 1),
    ("manual", (WRITE, "COMMIT", "DELETE FROM account WHERE id = 1"), 1),
    ("manual", (WRITE, "ROLLBACK", "DELETE FROM account WHERE id = 1"), 1),
    ("autocommit", (WRITE,), 0),
    ("autocommit", ("BEGIN", WRITE), 2),
    ("autocommit", (WRITE, "BEGIN", "DELETE FROM account WHERE id = 1"), 1),
    ("autocommit", ("BEGIN", WRITE, "COMMIT"), 0),
    ("autocommit", ("BEGIN", READ), 0),
    ("request", (WRITE,), 0),
    ("request", (WRITE, "rollback()"), 0),
]


@pytest.mark.parametrize(("transaction", "sql", "rows"), CASES)
def test_rows_written_and_not_committed(
    bank: Bank, warnings: Callable[[], list[str]], transaction: Any, sql: tuple[str, ...], rows: int
) -> None:
    """One WARNING tells method, path and the number of rows, if any were written since the last commit or rollback;
    and it tells no value of the SQL's."""
    with Database(bank.url, transaction=transaction, pool_size=1) as database:
        app = DatabaseMiddleware(app_of(statements(*sql)), database)
        for request in (1, 2):
            bank.rows("DELETE FROM transfer")
            bank.rows("DELETE FROM account")
            bank.rows("INSERT INTO account VALUES (1, 100), (2, 100)")
            get(app)
            assert warnings() == warned(rows) * request * bool(rows)


def test_what_was_committed_at_once_is_not_told(bank: Bank, warnings: Callable[[], list[str]]) -> None:
    """Under autocommit nothing is lost by the rollback that follows an error."""

    def handler(conn: Any) -> None:
        run(conn, WRITE)
        with suppress(*bank.errors):
            run(conn, "SELECT no_such_column FROM account")

    with Database(bank.url, transaction="autocommit") as database:
        get(DatabaseMiddleware(app_of(handler), database))
    assert warnings() == []
    assert bank.state == (100, 100, 2)


def test_the_request_is_named(bank: Bank, warnings: Callable[[], list[str]]) -> None:
    """Method and whole path, as the client asked; a query string may hold secrets and is not told."""
    with Database(bank.url) as database:
        app = DatabaseMiddleware(app_of(statements(WRITE)), database)
        Call(app, "/order", REQUEST_METHOD="POST", SCRIPT_NAME="/shop", QUERY_STRING="token=1")
    assert warnings() == ["POST /shop/order: rolled back an uncommitted write of 2 row(s)"]
    assert bank.state == BEFORE


def test_a_server_may_leave_empty_paths_out(bank: Bank, warnings: Callable[[], list[str]]) -> None:
    """PEP 3333: SCRIPT_NAME and PATH_INFO need not be in the environ where they are empty."""

    def start_response(status: str, headers: Any) -> Any:
        """Of a server without write()."""

    with Database(bank.url) as database:
        app = DatabaseMiddleware(app_of(statements(WRITE)), database)
        app({"REQUEST_METHOD": "GET", "PATH_INFO": "/order"}, start_response)
    assert warnings() == ["GET /order: rolled back an uncommitted write of 2 row(s)"]


@pytest.mark.parametrize("acquire", ["request", "first-use"])
def test_whenever_the_connection_was_acquired(bank: Bank, warnings: Callable[[], list[str]], acquire: Any) -> None:
    """The request is known with acquire=first-use, too."""
    with Database(bank.url, acquire=acquire) as database:
        get(DatabaseMiddleware(app_of(statements(WRITE)), database))
    assert warnings() == warned(2)


class Upload:
    """Something large in an environ."""


def test_the_request_is_let_go_of(bank: Bank) -> None:
    """An idle connection keeps nothing of its last request in memory."""
    upload = Upload()
    here = weakref.ref(upload)
    with Database(bank.url) as database:
        Call(DatabaseMiddleware(app_of(statements(WRITE)), database), upload=upload)
        del upload
        gc.collect()
        assert here() is None


@pytest.mark.parametrize("transaction", ["manual", "request"])
def test_a_handler_that_raised_meant_it(bank: Bank, warnings: Callable[[], list[str]], transaction: Any) -> None:
    """An exception is what rolls back; there is nothing to warn of."""

    def fail(conn: Any) -> None:
        run(conn, WRITE)
        raise ZeroDivisionError

    with Database(bank.url, transaction=transaction) as database:
        with pytest.raises(ZeroDivisionError):
            get(DatabaseMiddleware(app_of(fail), database))
        assert bank.state == BEFORE
    assert warnings() == []


def test_a_veto_meant_it(bank: Bank, warnings: Callable[[], list[str]]) -> None:
    """Nor is there when a response is vetoed."""
    with Database(bank.url, transaction="request") as database:
        assert get(DatabaseMiddleware(app_of(statements(WRITE), "409 Conflict"), database)).status_code == 409
        assert bank.state == BEFORE
    assert warnings() == []


def test_a_client_that_left_is_no_mistake_of_the_handlers(bank: Bank, warnings: Callable[[], list[str]]) -> None:
    """A body that was closed before its end: the handler may have been about to commit."""

    def app(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        run(environ["db.conn"], WRITE)
        yield b"some"
        yield b"more"

    with Database(bank.url) as database:
        call = Call(DatabaseMiddleware(app, database))
        assert next(iter(call.body)) == b"some"
        call.body.close()
    assert warnings() == []


def test_giving_the_connection_back_early(bank: Bank, warnings: Callable[[], list[str]]) -> None:
    """conn.close() rolls back and warns then; where the request is one transaction, it loses nothing."""

    def close(conn: Any) -> None:
        run(conn, WRITE)
        conn.close()

    with Database(bank.url) as database:
        get(DatabaseMiddleware(app_of(close), database))
        assert warnings() == warned(2)
        assert bank.state == BEFORE
    with Database(bank.url, transaction="request") as database:
        get(DatabaseMiddleware(app_of(close), database))
        assert bank.state == (100, 100, 2)
    assert warnings() == warned(2)


def test_a_script_is_warned_too(bank: Bank, warnings: Callable[[], list[str]]) -> None:
    """``with db.connection()`` commits nothing by itself; an exception out of it meant it."""
    with Database(bank.url) as database:
        with database.connection() as conn:
            run(conn, WRITE)
        assert warnings() == ["outside of a request: rolled back an uncommitted write of 2 row(s)"]
        with suppress(ZeroDivisionError), database.connection() as conn:
            run(conn, WRITE)
            raise ZeroDivisionError
        with database.connection() as conn:
            run(conn, READ)
    assert len(warnings()) == 1
    assert bank.state == BEFORE


@by_mysql
@pytest.mark.parametrize("sql", ["CREATE TABLE another (n INT)", "ANALYZE TABLE account", "BEGIN", "begin()"])
def test_an_implicit_commit_is_a_commit(bank: MariaDBBank, warnings: Callable[[], list[str]], sql: str) -> None:
    """On MariaDB DDL, BEGIN and the like commit by the way: nothing was rolled back, nothing is told."""

    def handler(conn: Any) -> None:
        run(conn, WRITE)
        bank.begin(conn) if sql == "begin()" else run(conn, sql)

    with Database(bank.url) as database:
        get(DatabaseMiddleware(app_of(handler), database))
        bank.drop("another")
        assert warnings() == []
        assert bank.state == (100, 100, 2)


@by_mysql
@pytest.mark.parametrize("sql", ["ANALYZE TABLE account", "BEGIN"])
def test_what_came_after_an_implicit_commit(bank: MariaDBBank, warnings: Callable[[], list[str]], sql: str) -> None:
    """Only that was rolled back, and is told."""
    with Database(bank.url) as database:
        get(DatabaseMiddleware(app_of(statements(WRITE, sql, "DELETE FROM account WHERE id = 1")), database))
    assert warnings() == warned(1)
    assert bank.state == (100, 100, 2)


@pytest.mark.parametrize("bank", [pytest.param("pymysql", marks=SERVER)], indirect=True)
def test_a_database_is_no_statement(bank: MariaDBBank, warnings: Callable[[], list[str]]) -> None:
    """PyMySQL's select_db() commits nothing, though the database may be called as a statement that does."""

    def handler(conn: Any) -> None:
        run(conn, WRITE)
        with suppress(*bank.errors):
            conn.select_db("check")

    with Database(bank.url) as database:
        get(DatabaseMiddleware(app_of(handler), database))
    assert warnings() == warned(2)
    assert bank.state == BEFORE


@by_mysql
def test_a_temporary_table_commits_nothing(bank: MariaDBBank, warnings: Callable[[], list[str]]) -> None:
    """On MariaDB it is the DDL that does not: what was written before it is rolled back, and told."""
    with Database(bank.url) as database:
        get(DatabaseMiddleware(app_of(statements(WRITE, "CREATE TEMPORARY TABLE passing (n INT)")), database))
    assert warnings() == warned(2)
    assert bank.state == BEFORE


@by_mysql
@pytest.mark.parametrize("sql", ["SET @x = 1", "SELECT balance FROM account FOR UPDATE", "DO 1"])
def test_a_variable_or_a_lock_is_no_write(bank: MariaDBBank, warnings: Callable[[], list[str]], sql: str) -> None:
    """What changes no row of a table is not warned of."""
    with Database(bank.url) as database:
        get(DatabaseMiddleware(app_of(statements(READ, sql)), database))
    assert warnings() == []
