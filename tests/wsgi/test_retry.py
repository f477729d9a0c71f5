"""R14, the WSGI side: what is repeated of a request, how often, and when not. On SQLite, where a rival has the lock."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from werkzeug.wrappers import Request

from strategies.kit import AFTER, BEFORE, SQLiteBank, get, run
from support.clock import Clock
from support.fakedb import FakeDB
from support.wsgi import Call
from transactions.losses import GIVE, NOTE, TAKE
from transactions.repeating import Repeating
from wsgidb import ConfigError, Database, DatabaseMiddleware, DatabaseUnavailable
from wsgidb.lease.proxy import settle
from wsgidb.testing import SandboxDatabase

Start = Callable[..., Any]


@pytest.fixture(autouse=True)
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, which take no time."""
    made: list[float] = []
    monkeypatch.setattr("wsgidb.wsgi.retry.time.sleep", made.append)
    return made


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[SQLiteBank]:
    with closing(SQLiteBank(tmp_path / "bank.db")) as bank:
        yield bank


def locked(conn: Any, bank: Any) -> None:
    """A rival has written since this transaction began to read: SQLITE_BUSY_SNAPSHOT, or the lock for SQLITE_BUSY."""
    if conn.in_transaction:
        conn.rollback()
    bank.rows("BEGIN IMMEDIATE")
    try:
        run(conn, GIVE)
    finally:
        bank.rows("ROLLBACK")


class Site(Repeating):
    """A handler that is given what to do at each attempt: `acts` gets environ, start_response and the number."""

    def __init__(self, bank: SQLiteBank, act: Callable[[dict[str, Any], Start, int], Any], **options: Any) -> None:
        super().__init__(bank, **{"retry_if": None, "acquire_timeout": 60, **options})
        self.act = act

    def app(self, environ: dict[str, Any], start: Start) -> Any:
        self.attempts.append(environ["wsgidb.attempt"])
        return self.act(environ, start, len(self.attempts))

    def call(self, method: str = "GET", **environ: Any) -> Call:
        return Call(self.middleware, REQUEST_METHOD=method, **environ)

    def lose(self, environ: dict[str, Any]) -> None:
        """Lose the transaction, and let the error out."""
        run(environ["db.conn"], TAKE)
        locked(environ["db.conn"], self.bank)

    def page(self, start: Start, body: bytes = b"done") -> list[bytes]:
        start("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]


def transfers(conn: Any) -> None:
    for sql in (TAKE, GIVE, NOTE):
        run(conn, sql)


def autocommit(conn: Any) -> bool:
    conn.isolation_level = None
    return True


class TestDrivers:
    """R14: what SQLite tells."""

    def repeated(self, bank: SQLiteBank, step: Callable[[Any], object]) -> list[int]:
        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            if attempt == 1:
                step(environ["db.conn"])
                locked(environ["db.conn"], bank)
            transfers(environ["db.conn"])
            return site.page(start)

        site = Site(bank, act)
        site.tried()
        return site.attempts

    @pytest.mark.parametrize(
        "step",
        [
            lambda conn: None,
            lambda conn: conn.execute(TAKE),
            lambda conn: (conn.execute(TAKE), conn.rollback()),
            lambda conn: (conn.execute("SAVEPOINT s"), conn.execute(TAKE), conn.execute("RELEASE s")),
            lambda conn: conn.execute("CREATE TABLE more (n INT)"),
        ],
    )
    def test_undone(self, bank: SQLiteBank, step: Callable[[Any], object]) -> None:
        """R14: the lock of somebody else."""
        assert self.repeated(bank, step) == [1, 2]
        assert bank.state == AFTER

    def test_an_old_snapshot(self, bank: SQLiteBank) -> None:
        """R14: SQLITE_BUSY_SNAPSHOT comes at once, however long the time limit: only a new transaction helps."""
        bank.rows("PRAGMA journal_mode = WAL")

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            conn = environ["db.conn"]
            run(conn, "BEGIN")
            run(conn, "SELECT balance FROM account")
            if attempt == 1:
                bank.rows("UPDATE account SET balance = balance + 1 WHERE id = 2")
            transfers(conn)
            return site.page(start)

        site = Site(bank, act)
        assert (site.tried(), site.attempts) == (200, [1, 2])
        assert bank.state == (90, 111, 1)

    def test_a_lock_at_commit(self, bank: SQLiteBank, monkeypatch: pytest.MonkeyPatch) -> None:
        """R14: a reader who is in the way of the COMMIT."""
        reader = sqlite3.connect(bank.url.removeprefix("sqlite:///").partition("?")[0], isolation_level=None)

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            transfers(environ["db.conn"])
            if attempt == 1:
                reader.execute("BEGIN")
                reader.execute("SELECT * FROM account").fetchall()
            return site.page(start)

        site = Site(bank, act)
        with closing(reader):
            monkeypatch.setattr("wsgidb.wsgi.retry.time.sleep", lambda seconds: reader.rollback())
            assert (site.tried(), site.attempts) == (200, [1, 2])
        assert bank.state == AFTER

    @pytest.mark.parametrize(
        "step",
        [
            lambda conn: (conn.execute(TAKE), conn.commit()),
            lambda conn: (conn.execute(TAKE), conn.execute("COMMIT")),
            lambda conn: (conn.execute("BEGIN"), conn.execute("END")),
            lambda conn: conn.executescript("SELECT 1"),
            lambda conn: (autocommit(conn), conn.execute(TAKE)),
            lambda conn: (conn.execute(TAKE), autocommit(conn)),
            lambda conn: conn.execute("PRAGMA user_version = 7"),
            lambda conn: conn.execute("VACUUM"),
        ],
    )
    def test_committed(self, bank: SQLiteBank, step: Callable[[Any], object]) -> None:
        """R14: what may be permanent already."""
        assert self.repeated(bank, step) == [1]

    def test_a_statement_that_fails_half_way(self, bank: SQLiteBank) -> None:
        """R14: outside of a transaction, the rows before it stay."""

        def step(conn: Any) -> None:
            conn.isolation_level = None
            with pytest.raises(sqlite3.IntegrityError):
                conn.executemany("INSERT INTO account VALUES (?, 0)", [(3,), (1,)])

        assert self.repeated(bank, step) == [1]
        assert bank.rows("SELECT COUNT(*) FROM account") == [(3,)]

    def test_a_creator_cannot_tell(self, fakedb: FakeDB) -> None:
        """R14: it is refused at start-up, also for a Database that was made before."""
        with pytest.raises(ConfigError, match=r"^retry: needs one of wsgidb's own drivers"):
            DatabaseMiddleware(lambda environ, start: [], creator=fakedb.connect, transaction="request", retry=1)
        with Database(creator=fakedb.connect, transaction="request") as database:
            DatabaseMiddleware(lambda environ, start: [], database)
            with pytest.raises(ConfigError, match=r"^retry: "):
                DatabaseMiddleware(lambda environ, start: [], database, retry=1)


class TestOptions:
    """R14: who is repeated, and how often."""

    def test_off(self, bank: SQLiteBank) -> None:
        """R14: without the option nothing is repeated, and environ has no new key."""
        seen: list[Any] = []

        def app(environ: dict[str, Any], start: Start) -> Any:
            seen.append(environ.get("wsgidb.attempt"))
            locked(environ["db.conn"], bank)

        with Database(bank.url, transaction="request") as database, pytest.raises(sqlite3.OperationalError):
            get(DatabaseMiddleware(app, database))
        assert seen == [None]

    @pytest.mark.parametrize("retry", [1, 3])
    def test_so_many_times(self, bank: SQLiteBank, retry: int) -> None:
        """R14: then the client gets the ordinary answer: here the application's exception."""
        site = Site(bank, lambda environ, start, attempt: site.lose(environ), retry=retry)
        assert site.tried() is sqlite3.OperationalError
        assert site.attempts == list(range(1, retry + 2))
        assert site.retries == retry

    @pytest.mark.parametrize(
        ("method", "attempts"),
        [("GET", 3), ("HEAD", 3), ("PUT", 3), ("DELETE", 3), ("POST", 1), ("PATCH", 1), ("OPTIONS", 1)],
    )
    def test_methods(self, bank: SQLiteBank, method: str, attempts: int) -> None:
        """R14: those that may be repeated by what HTTP says of them."""
        site = Site(bank, lambda environ, start, attempt: site.lose(environ))
        with pytest.raises(sqlite3.OperationalError):
            site.call(method)
        assert site.attempts == list(range(1, attempts + 1))

    def test_retry_if(self, bank: SQLiteBank) -> None:
        """R14: it decides in place of the method, with environ as it was, once."""
        asked: list[str] = []

        def retry_if(environ: dict[str, Any]) -> bool:
            asked.append(environ["PATH_INFO"])
            return bool(environ["PATH_INFO"] == "/order")

        site = Site(bank, lambda environ, start, attempt: site.lose(environ), retry_if=retry_if)
        for path, method in (("/order", "POST"), ("/", "GET")):
            with pytest.raises(sqlite3.OperationalError):
                Call(site.middleware, path, REQUEST_METHOD=method)
        assert site.attempts == [1, 2, 3, 1]
        assert asked == ["/order", "/"]

    def test_with_an_existing_database(self, bank: SQLiteBank) -> None:
        """R14: the option is the middleware's."""
        attempts: list[int] = []

        def app(environ: dict[str, Any], start: Start) -> Any:
            attempts.append(environ["wsgidb.attempt"])
            locked(environ["db.conn"], bank)

        with Database(bank.url, transaction="request") as database, pytest.raises(sqlite3.OperationalError):
            get(DatabaseMiddleware(app, database, retry=1, retry_if=lambda environ: True))
        assert attempts == [1, 2]

    @pytest.mark.parametrize(
        ("options", "text"),
        [
            ({"retry": 1}, "^retry: needs transaction=request, got manual"),
            ({"retry": 1, "transaction": "autocommit"}, "^retry: needs transaction=request, got autocommit"),
            ({"retry_if": bool, "transaction": "request"}, "^retry_if: needs retry"),
            ({"retry": -1, "transaction": "request"}, "^retry: takes"),
        ],
    )
    def test_agreement(self, options: dict[str, Any], text: str) -> None:
        """R14: mistakes are found at start-up."""
        with pytest.raises(ConfigError, match=text):
            DatabaseMiddleware(lambda environ, start: [], "sqlite:///never", **options)

    def test_a_sandbox(self, bank: SQLiteBank) -> None:
        """R14: in a sandbox nothing is repeated, as all is one transaction; the options are taken as in production."""
        attempts: list[int] = []

        def app(environ: dict[str, Any], start: Start) -> Any:
            attempts.append(environ["wsgidb.attempt"])
            raise sqlite3.OperationalError("database is locked")

        with SandboxDatabase(bank.url, transaction="request", retry=2) as database, pytest.raises(sqlite3.Error):
            get(DatabaseMiddleware(app, database))
        assert attempts == [1]


class TestTime:
    """R14: when the next attempt begins."""

    def test_no_time_is_left(self, bank: SQLiteBank, clock: Clock) -> None:
        """R14: an attempt begins within acquire_timeout of the first one, or not at all."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            clock.advance(2)
            site.lose(environ)

        site = Site(bank, act, retry=9, clock=clock, acquire_timeout=5)
        assert site.tried() is sqlite3.OperationalError
        assert site.attempts == [1, 2, 3]

    def test_pauses(self, bank: SQLiteBank, pauses: list[float]) -> None:
        """R14: they grow, and no two are alike."""
        site = Site(bank, lambda environ, start, attempt: site.lose(environ), retry=8)
        assert site.tried() is sqlite3.OperationalError
        most = [0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0]
        assert len(pauses) == len(most)
        assert all(limit / 2 <= pause <= limit for pause, limit in zip(pauses, most, strict=True))
        assert len(set(pauses)) == len(pauses)

    def test_a_pause_holds_no_connection(self, bank: SQLiteBank, monkeypatch: pytest.MonkeyPatch) -> None:
        """R14: others may have it meanwhile."""
        leased: list[int] = []
        site = Site(bank, lambda environ, start, attempt: site.lose(environ))
        note = lambda seconds: leased.append(site.database.stats().leased)  # noqa: E731
        monkeypatch.setattr("wsgidb.wsgi.retry.time.sleep", note)
        assert site.tried() is sqlite3.OperationalError
        assert leased == [0, 0]

    def test_the_deadline(self, bank: SQLiteBank, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        """R14: it is that of the first attempt for all of them."""
        site = Site(bank, lambda environ, start, attempt: site.lose(environ), clock=clock, acquire_timeout=5)
        until, deadlines, lease = clock() + 5, [], site.database.lease

        def noting(request: Any, deadline: float | None = None) -> Any:
            deadlines.append(deadline)
            clock.advance(1)
            return lease(request)

        monkeypatch.setattr(site.database, "lease", noting)
        site.middleware = DatabaseMiddleware(site.app, site.database)
        assert site.tried() is sqlite3.OperationalError
        assert deadlines == [None, until, until]

    def test_the_next_connection(self, bank: SQLiteBank, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
        """R14: acquiring it is over at the same time; the client gets a 503, and the application is not called."""
        held: list[Any] = []

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            site.lose(environ)

        def pause(seconds: float) -> None:
            held.append(site.database.lease())
            clock.advance(5)

        site = Site(bank, act, clock=clock, acquire_timeout=5)
        monkeypatch.setattr("wsgidb.wsgi.retry.time.sleep", pause)
        assert site.tried() == 503
        assert site.attempts == [1]
        settle(held.pop(), success=False)


class TestNothingWasSent:
    """R14: a client sees one response."""

    def test_write(self, bank: SQLiteBank) -> None:
        """R14: once write() has sent something, it is too late; empty strings are nothing."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            write = start("200 OK", [("Content-Type", "text/plain")])
            write(b"" if attempt == 1 else b"sent")
            site.lose(environ)

        site = Site(bank, act)
        assert site.tried() is sqlite3.OperationalError
        assert site.attempts == [1, 2]

    def test_a_stream(self, bank: SQLiteBank) -> None:
        """R14: an error before its first chunk can be repeated, one after it cannot."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            start("200 OK", [("Content-Type", "text/plain")])
            if attempt == 1:
                site.lose(environ)
            yield b"one"
            site.lose(environ)

        site = Site(bank, act)
        assert site.tried() is sqlite3.OperationalError
        assert site.attempts == [1, 2]

    @pytest.mark.parametrize(("status", "attempts"), [("500 Oops", [1, 2]), ("200 OK", [1]), ("404 Not Found", [1])])
    def test_an_error_page_that_is_a_stream(self, bank: SQLiteBank, status: str, attempts: list[int]) -> None:
        """R14: it is not sent, and is closed; any other stream is sent as it comes."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            start(status if attempt == 1 else "200 OK", [("Content-Type", "text/plain")])
            if attempt == 1:
                with pytest.raises(sqlite3.OperationalError):
                    site.lose(environ)
            yield b"page"
            yield b"page"

        site = Site(bank, act)
        expected = 200 if attempts == [1, 2] else int(status[:3])
        assert (site.tried(), site.attempts, site.database.stats().leased) == (expected, attempts, 0)

    def test_a_commit_that_fails_in_a_stream(self, bank: SQLiteBank) -> None:
        """R14: nor can a commit behind the first chunk."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            start("200 OK", [("Content-Type", "text/plain")])
            yield b"one"
            run(environ["db.conn"], TAKE)
            bank.rows("PRAGMA user_version")  # keep the bank's own connection idle
            with pytest.raises(sqlite3.OperationalError):
                locked(environ["db.conn"], bank)
            run(environ["db.conn"], "INSERT INTO nowhere VALUES (1)")

        site = Site(bank, act)
        assert site.tried() is sqlite3.OperationalError
        assert site.attempts == [1]

    def test_the_body_of_an_attempt_is_closed(self, bank: SQLiteBank) -> None:
        """R14: PEP 3333 asks for it, and nobody else will do it; its chunks go nowhere."""
        closed: list[int] = []

        class Body(list[bytes]):
            def __init__(self, attempt: int) -> None:
                super().__init__([f"attempt {attempt}".encode()])
                self.attempt = attempt

            def close(self) -> None:
                closed.append(self.attempt)

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            start("500 Oops" if attempt == 1 else "200 OK", [("Content-Type", "text/plain"), ("Content-Length", "9")])
            if attempt == 1:
                with pytest.raises(sqlite3.OperationalError):
                    site.lose(environ)
            return Body(attempt)

        site = Site(bank, act)
        call = site.call()
        assert (call.started, call.read()) == ([("200 OK", call.started[0][1])], b"attempt 2")
        assert closed == [1, 2]

    def test_a_close_that_raises(self, bank: SQLiteBank) -> None:
        """R14: it changes nothing: the transaction was settled before."""

        class Body(list[bytes]):
            def close(self) -> None:
                raise RuntimeError("close")

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            start("500 Oops" if attempt == 1 else "200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
            if attempt == 1:
                with pytest.raises(sqlite3.OperationalError):
                    site.lose(environ)
                return Body([b"page"])
            return [b"done"]

        site = Site(bank, act)
        assert (site.tried(), site.attempts) == (200, [1, 2])

    def test_a_server_that_refuses_the_head(self, bank: SQLiteBank) -> None:
        """R14: the work is committed by then, whatever error the handler has met before."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            with pytest.raises(sqlite3.OperationalError):
                site.lose(environ)
            transfers(environ["db.conn"])
            return site.page(start)

        def refuse(*args: Any) -> Any:
            raise AssertionError("a bad header")

        site = Site(bank, act)
        with pytest.raises(AssertionError, match="a bad header"):
            site.middleware({"REQUEST_METHOD": "GET"}, refuse)
        assert site.attempts == [1]
        assert bank.state == AFTER


class TestEnviron:
    """R14: each attempt finds environ as the first one did."""

    def test_it_is_restored(self, bank: SQLiteBank) -> None:
        """R14: the same dictionary, with what it had; what the application put into it is gone."""
        found: list[dict[str, Any]] = []
        shared = object()

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            found.append(dict(environ))
            environ["PATH_INFO"] = "/elsewhere"
            environ["app.cache"] = attempt
            del environ["QUERY_STRING"]
            conn = environ["db.conn"]
            if attempt == 1:
                environ["db.conn"] = None
                run(conn, TAKE)
                locked(conn, bank)
            return site.page(start)

        site = Site(bank, act)
        call = site.call(shared=shared)
        first, second = found
        assert first.pop("db.conn") is not second.pop("db.conn")
        assert (first.pop("wsgidb.attempt"), second.pop("wsgidb.attempt")) == (1, 2)
        assert first == second
        assert second["shared"] is shared
        assert call.environ["app.cache"] == 2

    def test_a_frameworks_request_is_made_anew(self, bank: SQLiteBank) -> None:
        """R14: Werkzeug keeps its Request in environ, with the form that was read."""
        forms: list[dict[str, str]] = []

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            cached = environ.get("werkzeug.request")
            assert cached is None
            forms.append(Request(environ).form.to_dict())
            if attempt == 1:
                site.lose(environ)
            return site.page(start)

        site = Site(bank, act)
        body = b"item=tea&n=2"
        site.call(
            "PUT",
            **{
                "CONTENT_TYPE": "application/x-www-form-urlencoded",
                "CONTENT_LENGTH": str(len(body)),
                "wsgi.input": io.BytesIO(body),
            },
        )
        assert forms == [{"item": "tea", "n": "2"}] * 2

    @pytest.mark.parametrize(("size", "attempts"), [(65_536, [1, 2]), (65_537, [1])])
    def test_a_body_that_is_too_large(self, bank: SQLiteBank, size: int, attempts: list[int]) -> None:
        """R14: what is not kept cannot be read again."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            assert len(environ["wsgi.input"].read(size)) == size
            if attempt == 1:
                site.lose(environ)
            return site.page(start)

        site = Site(bank, act)
        try:
            site.call("PUT", **{"CONTENT_LENGTH": str(size), "wsgi.input": io.BytesIO(b"x" * size)})
        except sqlite3.OperationalError:
            pass
        assert site.attempts == attempts

    def test_a_large_body_that_was_not_read(self, bank: SQLiteBank) -> None:
        """R14: there is nothing to be kept."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            if attempt == 1:
                site.lose(environ)
            return site.page(start, environ["wsgi.input"].read(100_000)[:9])

        site = Site(bank, act)
        call = site.call("PUT", **{"CONTENT_LENGTH": "100000", "wsgi.input": io.BytesIO(b"0123456789" * 10_000)})
        assert (site.attempts, call.read()) == ([1, 2], b"012345678")


class TestOthers:
    """R14: what else forbids it, or has nothing to do with it."""

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
    def test_what_is_no_exception(self, bank: SQLiteBank, error: type[BaseException]) -> None:
        """R14: somebody wants it to end."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            with pytest.raises(sqlite3.OperationalError):
                site.lose(environ)
            raise error

        site = Site(bank, act)
        with pytest.raises(error):
            site.request()
        assert site.attempts == [1]

    def test_an_exception_of_the_application(self, bank: SQLiteBank) -> None:
        """R14: the transaction could have been committed."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            transfers(environ["db.conn"])
            raise ValueError("of the application")

        site = Site(bank, act)
        assert (site.tried(), site.attempts) == (ValueError, [1])
        assert bank.state == BEFORE

    @pytest.mark.parametrize("uses", [True, False])
    @pytest.mark.parametrize("outer", [True, False])
    def test_another_database(self, bank: SQLiteBank, tmp_path: Path, outer: bool, uses: bool) -> None:
        """R14: what was done with another database is not undone; if it was not used, it does not matter."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            if uses:
                run(environ["other.conn"], "SELECT 1")
            if attempt == 1:
                site.lose(environ)
            return site.page(start)

        site = Site(bank, act)
        url = f"sqlite:///{tmp_path}/other.db"
        settings: dict[str, Any] = {"key": "other.conn", "acquire": "first-use"}
        if outer:
            app = DatabaseMiddleware(site.middleware, url, **settings)
        else:
            inner = DatabaseMiddleware(site.app, url, **settings)
            app = DatabaseMiddleware(inner, site.database)
        try:
            assert get(app).status_code == 200
        except sqlite3.OperationalError:
            pass
        assert site.attempts == ([1] if uses else [1, 2])

    def test_no_connection(self, bank: SQLiteBank) -> None:
        """R14: a request that gets none was not begun: the client gets a 503 as ever."""
        site = Site(bank, lambda environ, start, attempt: site.page(start), acquire_timeout=0.1)
        with site.database.connection():
            assert get(site.middleware).status_code == 503
        assert (site.attempts, site.retries) == ([], 0)

    def test_no_connection_at_the_first_use(self, bank: SQLiteBank) -> None:
        """R14: nor is a handler repeated that found none; it may also raise the error itself."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            run(environ["db.conn"], TAKE)

        site = Site(bank, act, acquire="first-use", acquire_timeout=0.1, on_unavailable="raise")
        with site.database.connection(), pytest.raises(DatabaseUnavailable):
            get(site.middleware)
        assert site.attempts == [1]

    @pytest.mark.parametrize("options", [{}, {"server_timing": True}])
    @pytest.mark.parametrize("acquire", ["request", "first-use"])
    def test_in_all_ways_of_acquiring(self, bank: SQLiteBank, acquire: str, options: dict[str, Any]) -> None:
        """R14: the record begins with the lease, or with its first use."""

        def act(environ: dict[str, Any], start: Start, attempt: int) -> Any:
            if attempt == 1:
                site.lose(environ)
            transfers(environ["db.conn"])
            return site.page(start)

        site = Site(bank, act, acquire=acquire, **options)
        call = site.call()
        assert (site.attempts, call.status) == ([1, 2], "200 OK")
        assert ("Server-Timing" in call.headers) is bool(options)
        assert bank.state == AFTER

    def test_a_lease_of_an_outer_middleware(self, bank: SQLiteBank) -> None:
        """R14: the request is the outer one's, and is repeated by it."""
        site = Site(bank, lambda environ, start, attempt: site.lose(environ))
        assert issubclass(_status(DatabaseMiddleware(site.middleware, site.database)), sqlite3.OperationalError)
        assert site.attempts == [1, 2, 3]


def _status(app: Any) -> Any:
    try:
        return get(app).status_code
    except Exception as error:  # noqa: BLE001 - it is looked at
        return type(error)
