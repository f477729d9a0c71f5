"""What a type checker knows about wsgidb in an application, and what it refuses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import wsgidb
from wsgidb import Connection, Database

SAMPLES = Path(__file__).parent / "samples"
ERROR = re.compile(r"^(.*):(\d+): error: .*\[([\w-]+)\]$")
WSGIREF = """
from wsgiref.simple_server import demo_app, make_server
from wsgiref.types import WSGIApplication

from wsgidb import DatabaseMiddleware

inner: WSGIApplication = demo_app
outer: WSGIApplication = DatabaseMiddleware(inner, "sqlite:///file.db")
make_server("127.0.0.1", 0, outer)
"""


def mypy(directory: Path, *arguments: str) -> list[str]:
    """The lines that `mypy --strict` prints, with the wsgidb that the tests import."""
    home = Path(wsgidb.__file__).parents[1]
    path = {} if home.name in ("site-packages", "dist-packages") else {"MYPYPATH": str(home)}
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--config-file=", *arguments]
    done = subprocess.run(
        command, cwd=directory, env={**os.environ, **path}, capture_output=True, text=True, timeout=150
    )
    assert not done.stderr, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_what_users_write_passes_and_what_is_wrong_is_refused_line_by_line(tmp_path: Path) -> None:
    """mypy finds no error in right.py, whose assert_type calls hold, and in wrong.py exactly the announced ones."""
    wrong = (SAMPLES / "wrong.py").read_text().splitlines()
    announced = {
        (number, line.rpartition("# error: ")[2]) for number, line in enumerate(wrong, 1) if "# error: " in line
    }
    assert len(announced) > 10
    said = [line for line in mypy(tmp_path, str(SAMPLES / "right.py"), str(SAMPLES / "wrong.py")) if "error:" in line]
    found = [match.groups() for line in said if (match := ERROR.match(line))]
    assert len(said) == len(found), said
    assert [line for line, (file, _, _) in zip(said, found, strict=True) if not file.endswith("wrong.py")] == []
    assert {(int(number), code) for _, number, code in found} == announced


@pytest.mark.slow
def test_the_standard_librarys_types_of_wsgi_fit(tmp_path: Path) -> None:
    """The middleware wraps a wsgiref.types.WSGIApplication (Python 3.11), and is one itself."""
    (tmp_path / "stdlib.py").write_text(WSGIREF)
    assert mypy(tmp_path, "--python-version=3.13", "stdlib.py") == []


def test_types_are_shipped() -> None:
    """Without py.typed a type checker treats everything as Any."""
    assert (Path(wsgidb.__file__).parent / "py.typed").exists()
    assert {"Connection", "Cursor", "get_connection"} <= set(wsgidb.__all__)


def test_a_lease_has_what_its_protocol_promises(tmp_path: Path) -> None:
    """A lease has every attribute that the protocol, which only type checkers read, promises."""
    promised = {name for name in vars(Connection) if not name.startswith("_")}
    assert promised >= {"cursor", "commit", "rollback", "close", "driver_connection"}
    with Database(f"sqlite:///{tmp_path}/file.db") as database, database.connection() as conn:
        assert [name for name in promised if not hasattr(conn, name)] == []
        with conn as same:
            assert same is conn
