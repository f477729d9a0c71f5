"""R9, R5 and R10 as a client sees them: the raw bytes that it reads from the socket, on every server.

``pytest tests/transactions/test_servers.py -k no_success --update-docs`` writes what it found into
docs/transactions.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import wsgidb
from support.mariadb import MariaDB
from support.pages import Table
from support.proxy import TCPProxy
from support.rawhttp import Reply, request
from support.server_kinds import PLAIN
from support.servers import Server
from transactions.cells import (
    BODIES,
    COMMIT_FAILS,
    FAULTS,
    MAY_NOTICE_LEAVING,
    NOTICES_LEAVING,
    OUR_500,
    REFUSED,
    TEXT,
    Cell,
    Site,
)

TESTS = Path(__file__).parents[1]
TABLE = Table(
    TESTS.parent / "docs" / "transactions.md",
    "outcomes",
    ("body", "server", *FAULTS),
    ((body, server) for body in BODIES for server in PLAIN),
)


@pytest.fixture(scope="module")
def database(mariadb: MariaDB) -> Iterator[MariaDB]:
    mariadb.execute("CREATE TABLE note (text VARCHAR(100) PRIMARY KEY)")
    yield mariadb
    mariadb.execute("DROP TABLE note")


@pytest.fixture(scope="module", params=PLAIN)
def site(request: pytest.FixtureRequest, database: MariaDB, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One process for all cells of a server; it must end well."""
    log = tmp_path_factory.mktemp("server") / "log"
    path = [str(TESTS), str(Path(wsgidb.__file__).parents[1])]
    with TCPProxy(database.port) as proxy:
        url = proxy.url_from(database.url())
        with Server(request.param, "transactions.app:application", log, path, TEST_URL=url) as server:
            yield Site(server, proxy, database)


def judge(cell: Cell) -> None:
    """The laws, one cell at a time."""
    body, fault, reply = cell.body, cell.fault, cell.reply
    assert cell.other_discards() == 0
    assert cell.failed_commits() == (fault in COMMIT_FAILS and fault != REFUSED)
    assert sum(each["idle"] for each in cell.after) == sum(each["open"] for each in cell.after)
    if reply is None:
        if body.held:
            assert cell.row, "committed before the client could have left"
        elif cell.server not in MAY_NOTICE_LEAVING:
            assert cell.row is (cell.server not in NOTICES_LEAVING)
        return
    assert reply.excess == b"", "nothing comes behind the response's end"
    assert cell.row is (fault == "none"), "a row is there if and only if all went well"
    if fault in ("none", "veto"):
        assert (reply.status, reply.complete, reply.body) == (200, True, TEXT)
    elif fault == "404":
        assert (reply.status, reply.complete, reply.body) == (404, True, TEXT)
    elif fault in COMMIT_FAILS and body.held:
        assert (reply.status, reply.complete, reply.body) == (500, True, OUR_500)
    elif body.held or fault == "raises before" or (fault == "raises within" and body.kind == "one"):
        assert reply.status in (500, None), "the server's own answer, or that it hung up"
    else:
        assert (reply.status, cell.seen) == (200, cell.broken_off)
        assert TEXT.startswith(reply.body)
        assert reply.body != TEXT or not body.length


@pytest.mark.server
@pytest.mark.slow
def test_no_success_for_what_was_not_committed(site: Site, pytestconfig: pytest.Config) -> None:
    """R9, R10: over all bodies and faults. The table in the docs is what was found; else use --update-docs."""
    name = site.server.name
    found = {}
    for label, body in BODIES.items():
        cells = [site.cell(body, fault) for fault in FAULTS]
        for cell in filter(None, cells):
            try:
                judge(cell)
            except AssertionError as error:
                pytest.fail(f"{name}, {label}, {cell.fault}: {cell}: {error}\n{cell.reply}\n{site.server.said[-3000:]}")
        found[label, name] = (label, name, *(shown(cell) for cell in cells))

    held = [body.kind for body in BODIES.values() if body.held]
    said = site.server.said
    assert [
        kind for kind in held if said.count(f"GET /{kind}: commit failed, answered with 500") != len(COMMIT_FAILS)
    ] == []

    if pytestconfig.getoption("update_docs"):
        TABLE.update(found)
    assert {key: row for key, row in TABLE.rows.items() if key[1] == name} == found


def shown(cell: Cell | None) -> str:
    """As the table has it. What a server does one time or another is no more exact than that."""
    if cell is None:
        return "·"
    if cell.reply is None and not cell.body.held and cell.server in MAY_NOTICE_LEAVING:
        return "left ✔ or ✘"
    return str(cell)


def test_the_table_has_every_body_and_server() -> None:
    """R9: in order, and nothing else; no success without a commit, but where R9 says that it cannot be told."""
    rows = TABLE.rows
    assert list(rows) == TABLE.keys
    commits = [2 + list(FAULTS).index(fault) for fault in COMMIT_FAILS]
    seen = {key: {row[column] for column in commits} for key, row in rows.items()}
    assert set.union(*seen.values()) == {"500 ✘", "cut ✘", "200? ✘"}
    untold = {(body, server) for (body, server), cells in seen.items() if "200? ✘" in cells}
    assert untold == {
        (label, server)
        for label, body in BODIES.items()
        if not body.held and not body.length
        for server in ("uWSGI", "wsgiref")
    }


def without_date(reply: Reply) -> bytes:
    """All the bytes, but for the hour."""
    lines = reply.raw.split(b"\r\n")
    return b"\r\n".join(line for line in lines if not line.lower().startswith(b"date:"))


@pytest.mark.server
@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_byte_is_as_without_the_middleware(site: Site, method: str) -> None:
    """R5, R3: status, headers, framing and body of each kind; HEAD, 204 and 304 among them. And all is committed."""
    for kind in [*(body.kind for body in BODIES.values()), "204", "304"]:
        note = f"{site.server.name} {kind} {method}"
        target = f"/{kind}?note={note.replace(' ', '+')}"
        bare = request(site.server.port, f"/bare{target}", method)
        wrapped = request(site.server.port, target, method)

        assert bare.status == (int(kind) if kind.isdecimal() else 200)
        assert without_date(wrapped) == without_date(bare), kind
        site.at_rest()
        assert site.has(note), kind


@pytest.mark.server
@pytest.mark.slow
def test_a_head_that_was_replaced_is_the_only_one(site: Site) -> None:
    """R5: by exc_info, before anything was sent: on every server, though some of them cannot do that themselves."""
    note = f"{site.server.name} replaced"
    reply = request(site.server.port, f"/replaced?note={note.replace(' ', '+')}")

    assert (reply.status, reply.complete, reply.body) == (503, True, TEXT)
    assert reply.header("Content-Type") == "text/plain"
    assert reply.raw.count(b"HTTP/1.") == 1
    site.at_rest()
    assert not site.has(note)
