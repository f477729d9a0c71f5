"""The pages in docs/howto, each followed from its first line to its last as a reader does it."""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest
import requests

import wsgidb
from support import apache
from support.mariadb import MariaDB
from support.ports import bind
from support.postgresql import PostgreSQL
from support.reader import BLOCK, Reader
from support.waiting import until

HOWTO = Path(__file__).parents[1] / "docs" / "howto"
PAGES = {path.stem: path.read_text() for path in sorted(HOWTO.glob("*.md"))}
FOLLOWED = [page for page in PAGES if page != "mod_wsgi"]
pytestmark = [pytest.mark.slow, pytest.mark.server]


@contextmanager
def mariadb_shop(server: MariaDB, clean: bool = False) -> Iterator[None]:
    """The database that the pages take for granted. If `clean`, no session of it may have been aborted: that is for a
    program that has nothing to do any more when it is asked to end."""
    for statement in ("CREATE DATABASE shop", "CREATE USER shop IDENTIFIED BY 'secret'", "GRANT ALL ON shop.* TO shop"):
        server.query(statement)
    aborted = server.status("Aborted_clients")
    try:
        yield
        until(lambda: not server.processes("shop"), 30, "the sessions of the page to end")
        assert not clean or server.status("Aborted_clients") == aborted
    finally:
        server.query("DROP DATABASE shop")
        server.query("DROP USER shop")


@contextmanager
def postgresql_shop(server: PostgreSQL) -> Iterator[None]:
    with closing(server.connect()) as conn:
        conn.execute("CREATE ROLE shop LOGIN PASSWORD 'secret'")
        conn.execute("CREATE DATABASE shop OWNER shop")
        try:
            yield
        finally:
            conn.execute("DROP DATABASE shop WITH (FORCE)")
            conn.execute("DROP ROLE shop")


@pytest.mark.parametrize("page", FOLLOWED)
def test_a_page_can_be_followed(page: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Every file is saved and every command is run, in the page's order, and prints what the page shows."""
    text = PAGES[page]
    clean = page == "celery"  # other tests' clients must not be counted
    mariadb = request.getfixturevalue("own_mariadb" if clean else "mariadb") if "3306" in text else None
    postgresql = request.getfixturevalue("postgresql") if "5432" in text else None
    with ExitStack() as stack:
        if mariadb is not None:
            stack.enter_context(mariadb_shop(mariadb, clean))
        if postgresql is not None:
            stack.enter_context(postgresql_shop(postgresql))
        reader = stack.enter_context(Reader(tmp_path, mariadb, postgresql))
        if page == "uwsgi":
            # It brings its own Python. With a virtual environment of Debian's Python it would not find the modules of
            # the system, so it is told where the packages are.
            reader.changes["virtualenv = .venv\n"] = ""
            packages = [sysconfig.get_path("purelib"), str(Path(wsgidb.__file__).parents[1])]
            reader.environ["PYTHONPATH"] = os.pathsep.join(packages)
        assert reader.follow(text)["console"]


def test_apache_serves_what_its_page_shows(tmp_path: Path, mariadb: MariaDB) -> None:
    """Apache runs the page's files by the page's configuration, in the directory of a test and with Debian's Python."""
    blocks = dict(BLOCK.findall(PAGES["mod_wsgi"].replace("/srv/shop", "{directory}")))
    assert set(blocks) == {"sh", "python", "apache"}
    files = {
        block.partition("\n")[0].removeprefix("# "): block
        for block in re.findall(r"^```python\n(.*?)^```$", PAGES["mod_wsgi"], re.DOTALL | re.MULTILINE)
    }
    files = {name: block.replace("/srv/shop", "{directory}") for name, block in files.items()}
    (url,) = re.findall(r"^echo '(.*)' > url$", blocks["sh"], re.MULTILINE)
    files["url"] = url.replace("3306", str(mariadb.port))
    assert set(files) == {"shop.py", "wsgi.py", "url"}
    log = tmp_path / "log"
    with mariadb_shop(mariadb), closing(bind()) as reserved:
        port = reserved.getsockname()[1]
        application = blocks["apache"].replace("python-home={directory}/.venv ", "")
        site = apache.Shown(files, application, log, port)
        serving = subprocess.Popen(site.command)
        try:

            def answer() -> str:
                assert serving.poll() is None, log.read_text()
                try:
                    return requests.get(f"http://127.0.0.1:{port}/", timeout=30).text
                except requests.ConnectionError:
                    return ""

            assert until(answer, 30, "Apache to listen").startswith("shop@"), log.read_text()
        finally:
            serving.terminate()
            serving.wait(30)
            site.remove()
