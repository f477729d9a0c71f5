"""The pieces of code in docs/ that stand alone are run, page by page. Other tests run those of the other pages: testing
your application, extending, migrating, hooks and frameworks."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.mariadb import MariaDB
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {"deployment": 3, "observing": 1, "probes": 3, "replicas": 1, "servers": 1, "transactions": 4}
"""How many pieces of Python each page has."""


def pieces(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / f"{page}.md").read_text(), re.DOTALL | re.MULTILINE)


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


@pytest.fixture
def names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the pages take for granted, in an empty directory; signals are handled as before at the end."""
    monkeypatch.chdir(tmp_path)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGUSR1)}
    with Database("sqlite:///shop.db") as database:
        yield {
            "__name__": __name__,
            "DatabaseMiddleware": DatabaseMiddleware,
            "app": DatabaseMiddleware(hello, database),
            "database": database,
        }
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("page", PAGES)
def test_the_pieces_of_a_page_run_in_their_order(page: str, names: dict[str, Any], tmp_path: Path) -> None:
    """Each runs after those above it. None of them needs its server, as no connection is opened before it is needed."""
    found = pieces(page)
    assert len(found) == PAGES[page]
    if page == "observing":
        pytest.importorskip("prometheus_client")
    for piece in found:
        exec(piece.replace('board="/run/shop"', f"board={str(tmp_path / 'board')!r}"), names)
    if page == "probes":
        for path, text in {"/": b"42", "/livez": b'{"ali', "/readyz": b'{"rea'}.items():
            call = Call(names["application"], PATH_INFO=path)
            assert (call.status, call.read().strip()[:5]) == ("200 OK", text), path
        client = names["app"].test_client()
        assert [client.get(path).status_code for path in ("/livez", "/readyz", "/")] == [200, 200, 404]
        names["database"].close()
        assert Call(names["application"], PATH_INFO="/readyz").status == "503 Service Unavailable"
        assert Call(names["application"], PATH_INFO="/livez").status == "200 OK"
    if page == "observing":
        from prometheus_client import REGISTRY

        collector = next(each for each in REGISTRY._collector_to_names if "wsgidb" in type(each).__module__)
        REGISTRY.unregister(collector)


@pytest.mark.server
def test_the_purchase_is_committed(names: dict[str, Any], mariadb: MariaDB) -> None:
    """The first piece of the page about transactions stores its row, without a commit of its own."""
    mariadb.execute("CREATE TABLE purchase (item TEXT) ENGINE=InnoDB")
    try:
        exec(pieces("transactions")[0].replace("mysql+pymysql://guest@127.0.0.1/shop", mariadb.url()), names)
        with names["app"].database:
            call = Call(names["app"])
            assert (call.status, call.read()) == ("303 See Other", b"")
        assert mariadb.query("SELECT item FROM purchase") == [("tea",)]
    finally:
        mariadb.execute("DROP TABLE purchase")
