"""A Database on the fake driver, for tests that are about the WSGI protocol alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from support.fakedb import FakeDB
from wsgidb import Database, DatabaseMiddleware


def said(fakedb: FakeDB) -> list[str]:
    """All calls of the driver in order, without close(), which only per-request calls."""
    return [name for _, name, _ in fakedb.calls if name != "close"]


@pytest.fixture
def database(fakedb: FakeDB, strategy: Any) -> Iterator[Database]:
    """A Database with each strategy, since the protocol must not depend on the strategy."""
    with Database(creator=fakedb.connect, strategy=strategy) as made:
        yield made


def wrapped(database: Database, body: Any, *headers: tuple[str, str], used: bool = True) -> DatabaseMiddleware:
    """An application that uses its connection and returns `body`, or what calling it returns."""

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        if used:
            environ["db.conn"].cursor().execute("UPDATE")
        start_response("200 OK", list(headers))
        return body(environ) if callable(body) and not isinstance(body, type) else body

    return DatabaseMiddleware(app, database)


def released(database: Database) -> bool:
    return database.stats().leased == 0
