"""on_connect and on_lease: the sentences of docs/troubleshooting.md and docs/logging.md, provoked."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drivers.cases import run
from support.quoted import shown
from support.wsgi import Call
from wsgidb import ConfigError, ConnectionReturned, Database, DatabaseMiddleware, DatabaseUnavailable, WsgiDBError
from wsgidb.lease.proxy import call

Environ = dict[str, Any]
Wrap = Callable[..., DatabaseMiddleware]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with Database(f"sqlite:///{tmp_path}/a.db", pool_size=1) as made:
        yield made


@pytest.fixture
def wrap(database: Database) -> Wrap:
    def application(environ: Environ, start_response: Any) -> list[bytes]:
        run(environ["db.conn"], "SELECT 1")
        start_response("200 OK", [])
        return []

    return lambda on_lease, **options: DatabaseMiddleware(application, database, on_lease=on_lease, **options)


def test_on_connect(tmp_path: Path) -> None:
    """What it raises is named, and so is its time limit."""
    now = [0.0]

    def fails(conn: Any) -> None:
        raise LookupError("no")

    def takes_long(conn: Any) -> None:
        now[0] += 60

    for hook, fragment in [(fails, "cannot connect: on_connect raised <error>"), (takes_long, "it took longer")]:
        with (
            Database(f"sqlite:///{tmp_path}/a.db", on_connect=hook, clock=lambda: now[0]) as made,
            pytest.raises(DatabaseUnavailable) as caught,
        ):
            made.lease()
        error: Any = caught.value
        shown(fragment, error.__cause__.__cause__ if hook is takes_long else error)


def test_an_engine_takes_no_on_connect(tmp_path: Path) -> None:
    """An existing Engine has an event of its own for that."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path}/a.db")
    with pytest.raises(ConfigError) as caught:
        Database(creator=engine, strategy="sqlalchemy", on_connect=print)
    shown("on_connect: the Engine makes its connections itself", caught.value)


def test_mistakes_in_on_lease(wrap: Wrap, database: Database) -> None:
    """What it returns, and what it uses."""
    with pytest.raises(WsgiDBError) as caught:
        Call(wrap(lambda conn, environ: 7))
    shown("on_lease takes a function", caught.value)
    with pytest.raises(ConnectionReturned) as refused:
        Call(wrap(lambda conn, environ: run(environ["db.conn"], "SELECT 1"), acquire="first-use"))
    shown("on_lease gets the connection as its argument", refused.value)


def test_a_thread_of_its_own(wrap: Wrap, database: Database) -> None:
    """It has returned, and a thread that it has started is in the middle of a call."""
    inside, go_on = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def stay() -> None:
        inside.set()
        go_on.wait(10)

    def hook(conn: Any, environ: Environ) -> None:
        threads.append(threading.Thread(target=call, args=(conn, stay)))
        threads[0].start()
        assert inside.wait(10)

    with pytest.raises(WsgiDBError) as caught:
        Call(wrap(hook))
    go_on.set()
    threads[0].join(10)
    shown("while a thread of its own was using the connection", caught.value)
    assert database.stats().discards == {"in the middle of a statement": 1}


def test_the_second_half(wrap: Wrap, database: Database, caplog: pytest.LogCaptureFixture) -> None:
    """It has yielded twice, or its generator has failed where the second half was not run."""

    def twice(conn: Any, environ: Environ) -> Iterator[None]:
        yield
        yield

    def fails(conn: Any, environ: Environ) -> Iterator[None]:
        try:
            yield
        finally:
            raise LookupError("no")

    caplog.set_level(logging.WARNING, "wsgidb")
    Call(wrap(twice))
    line = next(record.getMessage() for record in caplog.records if "on_lease failed" in record.getMessage())
    shown("on_lease failed at the end of", line, log=True)
    assert "on_lease has yielded more than once" in line
    assert database.stats().discards == {"on_lease failed": 1}

    caplog.clear()
    wrapped = wrap(fails)
    wrapped.app = lambda environ, start_response: environ["db.conn"].driver_connection.close() or [b""]
    Call(wrapped)
    (error,) = [record for record in caplog.records if "on_lease has failed" in record.getMessage()]
    assert error.levelname == "ERROR"
    shown("on_lease has failed at the end of a lease", error.getMessage(), log=True)
