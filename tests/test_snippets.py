"""The pieces of code in docs/ that stand alone are run, page by page, on the database that they name. test_blocks.py
tells where those of the other pages are run."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.mariadb import MariaDB
from support.pgbouncer import find_program
from support.postgresql import PostgreSQL
from support.replication import MariaDBReplication
from support.wsgi import Call
from wsgidb import Database, DatabaseMiddleware

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {"deployment": 3, "observing": 1, "probes": 3, "servers": 1}
"""How many pieces of Python each page has."""


AROUND = """
defaults
    mode http
    timeout connect 1s
    timeout client 9s
    timeout server 9s

frontend web
    bind 127.0.0.1:8080
    default_backend shop

"""
"""HAProxy checks a configuration only if it could listen somewhere. Nothing is bound for that."""


def pieces(page: str, kind: str = "python") -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", (DOCS / f"{page}.md").read_text(), re.DOTALL | re.MULTILINE)


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


def on(piece: str, server: MariaDB) -> str:
    """The piece, with the server of the test and a directory of its own."""
    return re.sub(r'"mysql\+pymysql://[^"]*"', repr(server.url()), piece).replace('"/run/shop"', '"board"')


def run(page: str, names: dict[str, Any], server: MariaDB | None = None) -> None:
    """Run the pieces of a page in their order, each after those above it."""
    found = pieces(page)
    assert len(found) == PAGES[page]
    for piece in found:
        exec(piece if server is None else on(piece, server), names)


def test_observing(names: dict[str, Any]) -> None:
    """The collector is registered, and exports the metrics of the Database."""
    registry = pytest.importorskip("prometheus_client").REGISTRY
    run("observing", names)
    collector = next(each for each in registry._collector_to_names if "wsgidb" in type(each).__module__)
    registry.unregister(collector)


def test_servers(names: dict[str, Any]) -> None:
    """SIGTERM ends the interpreter as sys.exit does."""
    run("servers", names)
    with pytest.raises(SystemExit):
        signal.raise_signal(signal.SIGTERM)


def test_probes(names: dict[str, Any]) -> None:
    """The probes answer beside the application, and readiness is over with the Database."""
    run("probes", names)
    for path, text in {"/": b"42", "/livez": b'{"ali', "/readyz": b'{"rea'}.items():
        call = Call(names["application"], PATH_INFO=path)
        assert (call.status, call.read().strip()[:5]) == ("200 OK", text), path
    client = names["app"].test_client()
    assert [client.get(path).status_code for path in ("/livez", "/readyz", "/")] == [200, 200, 404]
    names["database"].close()
    assert Call(names["application"], PATH_INFO="/readyz").status == "503 Service Unavailable"
    assert Call(names["application"], PATH_INFO="/livez").status == "200 OK"


@pytest.mark.server
def test_deployment(names: dict[str, Any], mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Database with a budget connects, and the signal drains. gunicorn runs its hook in servers/test_warm.py."""
    run("deployment", names, mariadb)
    with names["database"] as database:
        assert database.check() >= 0
        assert database.settings.host_connections == 40
        assert Path("board").is_dir()
    drained: list[str] = []
    monkeypatch.setattr(names["app"].database, "drain", lambda: drained.append("now"))
    signal.raise_signal(signal.SIGUSR1)
    assert drained == ["now"]


@pytest.mark.server
def test_transactions(names: dict[str, Any], mariadb: MariaDB) -> None:
    """A purchase is stored without a commit of its own, with retry too; and the two functions decide."""
    purchase, veto, retry, retry_if = (on(piece, mariadb) for piece in pieces("transactions"))
    mariadb.execute("CREATE TABLE purchase (item TEXT) ENGINE=InnoDB")
    try:
        for piece in (purchase, retry):
            exec(piece, names)
            with names["app"].database:
                call = Call(names["app"])
                assert (call.status, call.read()) == ("303 See Other", b"")
        assert mariadb.query("SELECT item FROM purchase") == [("tea",), ("tea",)]
    finally:
        mariadb.execute("DROP TABLE purchase")
    exec(veto + retry_if, names)
    assert names["commit_veto"]({}, "200 OK", [("X-Dry-Run", "yes")])
    assert names["retry_if"]({"REQUEST_METHOD": "POST", "PATH_INFO": "/purchase"})


@pytest.mark.server
def test_replicas(
    names: dict[str, Any], replicated_mariadb: MariaDBReplication, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GET is answered by the replicas in turn, and POST by the primary. Also by a replica that is slow for once."""
    monkeypatch.setattr("wsgidb.scale.replica.PROBE", 60.0)

    def port(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with environ["db.conn"].cursor() as cursor:
            cursor.execute("SELECT @@port")
            text = str(cursor.fetchone()[0]).encode()
        start_response("200 OK", [("Content-Length", str(len(text)))])
        return [text]

    (piece,) = pieces("replicas")
    servers = [replicated_mariadb.primary, *replicated_mariadb.replicas]
    for number, server in enumerate(servers, 1):
        piece = piece.replace(f'"mysql+pymysql://app:secret@db{number}/shop"', repr(server.url()))
    exec(piece, names := {**names, "app": port})
    with names["app"].database:
        found = [int(Call(names["app"], REQUEST_METHOD=method).read()) for method in ("POST", "GET", "GET")]
    assert found[0] == servers[0].port
    assert set(found[1:]) == {server.port for server in servers[1:]}


@pytest.mark.server
def test_hooks(postgresql: PostgreSQL) -> None:
    """The first piece registers a type, so that a value of it is a dict. test_tenants_page.py runs the other piece."""
    piece = pieces("hooks")[0]
    assert "hstore" in piece
    postgresql.execute("CREATE EXTENSION hstore")
    try:
        names: dict[str, Any] = {}
        exec(piece.replace("postgresql://shop@127.0.0.1/shop", postgresql.url()), names)
        with names["database"] as database, database.connection() as conn:
            assert conn.execute("SELECT 'tea=>1'::hstore").fetchone() == ({"tea": "1"},)
    finally:
        postgresql.execute("DROP EXTENSION hstore")


@pytest.mark.parametrize(("page", "count"), [("drivers", 3), ("scale", 4)])
def test_urls_are_accepted(page: str, count: int) -> None:
    """Each url that stands alone is one that a Database takes."""
    urls = [line for block in pieces(page, "text") for line in block.splitlines()]
    assert len(urls) == count
    for url in urls:
        Database(url).close()


def test_advise(tmp_path: Path) -> None:
    """The command that the page about observing shows prints what the page shows, and more below it."""
    (block,) = re.findall(
        r"^    \$ (python -m wsgidb advise.*)\n((?:    .*\n)+)", (DOCS / "observing.md").read_text(), re.M
    )
    command = [sys.executable, *block[0].split()[1:]]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    shown = [line.removeprefix("    ") for line in block[1].splitlines()]
    assert done.stdout.splitlines()[: len(shown)] == shown


@pytest.mark.slow
def test_haproxy_accepts_the_backend(tmp_path: Path) -> None:
    """HAProxy finds no fault in the lines of the page about probes, below the usual defaults."""
    (backend,) = pieces("probes", "haproxy")
    file = tmp_path / "haproxy.cfg"
    file.write_text(AROUND + backend)
    done = subprocess.run([find_program("haproxy"), "-c", "-f", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
