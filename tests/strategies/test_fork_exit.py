"""S6: a forked child that just ends destroys nothing of its parent's."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from textwrap import indent

import pytest

import wsgidb

PACKAGE = str(Path(wsgidb.__file__).parents[1])


CODE = """
import gc, os, sys, warnings
warnings.simplefilter("ignore")
sys.path.insert(0, {package!r})
from wsgidb import Database
{setup}
def run(conn, sql):
    cursor = conn.cursor()
    cursor.execute(sql)
    return cursor
def child_ends():
    sys.stdout.flush()
    if (pid := os.fork()) == 0:
        {act}
        sys.exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
def main():
{body}
try:
    main()
except SystemExit:
    pass  # of the child: its traceback must not keep anything alive
"""
"""A program whose child ends while it has connections; then it goes on."""
SLOW = pytest.mark.slow
ENGINE = """
from sqlalchemy import create_engine
module = {{"MySQLdb": "mysqldb", "mysql.connector": "mysqlconnector"}}.get("{module}", "{module}")
engine = create_engine("{system}+" + module + "://", creator=create, pool_size=2)
database = Database(creator=engine, strategy="sqlalchemy")
"""
ACTS = {"does nothing": "pass", "collects": "gc.collect()", "closes": "database.close()"}
"""What the child does before it ends."""


def run(setup: str, body: str, act: str) -> None:
    code = CODE.format(package=PACKAGE, setup=setup, body=indent(body, "    "), act=ACTS[act])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("act", [name if name == "does nothing" else pytest.param(name, marks=SLOW) for name in ACTS])
class TestExit:
    """S6: a child that ends normally, as by sys.exit(), destroys all its objects, but no session of its parent's."""

    @pytest.mark.parametrize("mode", ["delete", "wal"])
    def test_sqlite(self, tmp_path: Path, act: str, mode: str) -> None:
        """SQLite would roll the parent's transaction back, and delete its journal: then the parent could not commit,
        and half of the transaction would be in the file."""
        path = tmp_path / "fork.db"
        with closing(sqlite3.connect(path)) as conn:
            conn.execute(f"PRAGMA journal_mode={mode}")
            conn.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, x TEXT)")
            conn.executemany("INSERT INTO t VALUES (?, ?)", [(number, "old" * 50) for number in range(3000)])
            conn.commit()
        run(
            f"database = Database('sqlite:///{path}')",
            """
with database.connection() as idle, database.connection() as conn:
    run(idle, "SELECT 1").fetchall()
    idle.close()
    run(conn, "PRAGMA cache_size = 10")  # so that the transaction is written to the file before it is committed
    cursor = run(conn, "UPDATE t SET x = replace(x, 'old', 'new')")
    child_ends()
    conn.commit()
""",
            act,
        )
        with closing(sqlite3.connect(path)) as conn:
            assert conn.execute("SELECT DISTINCT substr(x, 1, 3) FROM t").fetchall() == [("new",)]
            assert conn.execute("PRAGMA integrity_check").fetchall() == [("ok",)]

    def test_sqlite_statement_that_is_not_finished(self, tmp_path: Path, act: str) -> None:
        """A cursor that is collected ends its statement, and with it the parent's transaction where it autocommits."""
        path = tmp_path / "fork.db"
        with closing(sqlite3.connect(path)) as conn:
            conn.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
        run(
            f"database = Database('sqlite:///{path}', transaction='autocommit')",
            """
with database.connection() as conn:
    cursor = run(conn, "INSERT INTO t VALUES (1), (2), (3) RETURNING id")
    assert cursor.fetchone() == (1,)
    assert os.path.exists(database.settings.url.name + "-journal")
    child_ends()
    assert os.path.exists(database.settings.url.name + "-journal")
""",
            act,
        )

    @pytest.mark.server
    @pytest.mark.parametrize("module", ["MySQLdb", "pymysql", "mysql.connector", "psycopg"])
    @pytest.mark.parametrize("by", ["url", "creator", "Engine"])
    def test_servers(self, request: pytest.FixtureRequest, act: str, module: str, by: str) -> None:
        """Drivers in C say goodbye to the server, on the parent's socket: for leased connections, and for idle ones."""
        server = request.getfixturevalue("postgresql" if module == "psycopg" else "mariadb")
        schemes = {"MySQLdb": "mysqldb", "mysql.connector": "mysqlconnector"}
        if by == "url":
            system, _, rest = server.url().partition("://")
            setup = f"database = Database('{system.partition('+')[0]}+{schemes.get(module, module)}://{rest}')"
        else:
            where = {"host": "127.0.0.1", "port": server.port, "user": "guest"}
            where |= {"dbname": "test"} if module == "psycopg" else {"database": "test"}
            if module == "mysql.connector":
                where["buffered"] = True
            setup = f"import {module}\nmade = []\ndef create():\n    made.append(1)\n"
            setup += f"    return {module}.connect(**{where!r})\n"
            setup += "database = Database(creator=create)"
            if by == "Engine":
                setup += ENGINE.format(system="postgresql" if module == "psycopg" else "mysql", module=module)
        run(
            setup,
            """
with database.connection() as idle, database.connection() as conn:
    run(idle, "SELECT 1").fetchall()
    idle.close()
    run(conn, "CREATE TEMPORARY TABLE forked (x INT)")
    run(conn, "INSERT INTO forked VALUES (1)")
    child_ends()
    run(conn, "INSERT INTO forked VALUES (2)")
    assert len(run(conn, "SELECT * FROM forked").fetchall()) == 2
    conn.rollback()
child_ends()
with database.connection() as first, database.connection() as second:
    run(first, "SELECT 1").fetchall()
    run(second, "SELECT 1").fetchall()
stats = database.stats()
assert stats.discards == {}, stats
assert (len(made) if "made" in globals() else stats.connects) == 2
""",
            act,
        )
