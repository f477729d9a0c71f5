"""The applications of docs/streaming.md hold no connection while they stream."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support.wsgi import Call
from wsgidb import Database

PAGE = (Path(__file__).parents[1] / "docs" / "streaming.md").read_text()
REPORT, EVENTS, EXPORT = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three orders in the database that the page names."""
    monkeypatch.chdir(tmp_path)
    with Database("sqlite:///shop.db") as database:
        insert(database, "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
        insert(database, "INSERT INTO orders (item) VALUES ('tea'), ('milk'), ('sugar')")


@pytest.fixture
def names(stack: ExitStack) -> dict[str, Any]:
    return {"__name__": __name__}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as entered:
        yield entered


def insert(database: Database, statement: str) -> None:
    with database.connection() as conn:
        conn.execute(statement)
        conn.commit()


def listen(names: dict[str, Any], stack: ExitStack, **environ: Any) -> Call:
    """A client of the events, which leaves at the end of the test."""
    call = Call(names["app"], "/events", **environ)
    stack.callback(call.body.close)
    return call


def chunks(call: Call) -> list[bytes]:
    return [bytes(chunk) for chunk in call.body]


def test_read_first_then_stream(names: dict[str, Any]) -> None:
    """The connection is back before the first row is sent."""
    exec(REPORT, names)
    with names["app"].wsgi_app.database as database:
        call = Call(names["app"], "/report")
        assert database.stats().leased == 0
        assert chunks(call) == [b"1,tea\n", b"2,milk\n", b"3,sugar\n"]


def test_a_stream_that_does_not_close_holds_its_connection(names: dict[str, Any]) -> None:
    """So the page's line with close() is what matters; and with transaction=request it does not release."""
    for code in (
        re.sub(r"    conn\.close\(\).*\n", "", REPORT),
        REPORT.replace("pool_size=2", 'pool_size=2, transaction="request"'),
    ):
        assert code != REPORT
        exec(code, names)
        with names["app"].wsgi_app.database as database:
            call = Call(names["app"], "/report")
            assert database.stats().leased == 1
            assert b"".join(chunks(call)) == b"1,tea\n2,milk\n3,sugar\n"
            assert database.stats().leased == 0


def test_server_sent_events(names: dict[str, Any], stack: ExitStack) -> None:
    """More clients listen than there are connections. Each gets each event, nobody holds a connection meanwhile, and
    a page is served. A client that comes back gets what it has missed."""
    exec(EVENTS.replace("PAUSE = 1.0", "PAUSE = 0"), names)
    database = stack.enter_context(names["database"])
    streams = [iter(listen(names, stack).body) for _ in range(5)]
    for expected in (b'id: 1\ndata: "tea"\n\n', b'id: 2\ndata: "milk"\n\n', b'id: 3\ndata: "sugar"\n\n'):
        for stream in streams:
            assert next(stream) == expected
            assert database.stats().leased == 0
    assert {next(stream) for stream in streams} == {b": still here\n\n"}
    insert(database, "INSERT INTO orders (item) VALUES ('coffee')")
    assert {next(stream) for stream in streams} == {b'id: 4\ndata: "coffee"\n\n'}
    assert Call(names["app"], "/").read() == b"4 orders\n"
    back = listen(names, stack, HTTP_LAST_EVENT_ID="3")
    assert next(iter(back.body)) == b'id: 4\ndata: "coffee"\n\n'
    assert back.headers["Content-Type"] == "text/event-stream; charset=utf-8"
    assert database.stats().connects == 1


def test_first_use_in_place_of_exclude(names: dict[str, Any], stack: ExitStack) -> None:
    """It does the same."""
    code = EVENTS.replace("PAUSE = 1.0", "PAUSE = 0").replace('exclude=["/events"]', 'acquire="first-use"')
    exec(code, names)
    database = stack.enter_context(names["database"])
    assert next(iter(listen(names, stack).body)) == b'id: 1\ndata: "tea"\n\n'
    assert database.stats().leased == 0
    assert Call(names["app"], "/").read() == b"3 orders\n"


def test_an_export_in_pieces(names: dict[str, Any]) -> None:
    """Every row is there once, and between the pieces no connection is held."""
    exec(EXPORT.replace("PIECE = 1000", "PIECE = 2"), names)
    with names["database"] as database:
        pieces = []
        for piece in Call(names["app"], "/export").body:
            assert database.stats().leased == 0
            pieces.append(piece)
        assert pieces == [b"1,tea\n2,milk\n", b"3,sugar\n"]
        assert database.stats().connects == 1
