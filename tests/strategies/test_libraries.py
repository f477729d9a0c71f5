"""DBUtils' and SQLAlchemy's pools as strategies: what wsgidb takes from the libraries, and what it takes away."""

from __future__ import annotations

import inspect
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pymysql
import pytest
from dbutils.persistent_db import PersistentDB
from dbutils.pooled_db import PooledDB
from sqlalchemy.pool import Pool, QueuePool

import wsgidb
from strategies.conftest import MakeDatabase
from strategies.kit import BEFORE, STRATEGIES, MariaDBBank, get, run
from support.fakedb import FakeDB
from wsgidb import ConfigError, DatabaseMiddleware, PoolTimeout
from wsgidb.strategies import dbutils, sqlalchemy

TAKE = "UPDATE account SET balance = balance - 10 WHERE id = 1"
GIVE = "UPDATE account SET balance = balance + 10 WHERE id = 2"
DBUTILS = {"dbutils-persistent": PersistentDB, "dbutils-pooled": PooledDB}
LIBRARIES = (*DBUTILS, "sqlalchemy")
REFUSED = [(name, *item) for name in DBUTILS for item in dbutils.REFUSED.items()]
REFUSED += [("sqlalchemy", *item) for item in sqlalchemy.REFUSED.items()]


def transfer(kill: Callable[[], object]) -> Callable[[Any], None]:
    """A handler whose connection ends in the middle of its transaction."""

    def handler(conn: Any) -> None:
        run(conn, TAKE)
        kill()
        run(conn, GIVE)
        conn.commit()

    return handler


@pytest.mark.server
class TestFailover:
    """The same handler on the bare library and through wsgidb, side by side."""

    @pytest.mark.parametrize("library", DBUTILS.values(), ids=DBUTILS)
    def test_bare(self, wired: MariaDBBank, library: Any) -> None:
        """With its defaults the library reconnects in the middle of the transaction and goes on: half of it is
        committed, and nobody is told."""
        parts = urlsplit(wired.url)
        login = {"host": parts.hostname, "port": parts.port, "user": parts.username, "database": "test"}
        pool = library(pymysql, **login, ssl_disabled=True)
        with closing(pool.connection()) as conn:
            transfer(lambda: wired.server.kill_connections("guest"))(conn)
        assert wired.state == (100, 110, 0)

    @pytest.mark.parametrize("strategy", DBUTILS)
    def test_through_wsgidb(self, wired: MariaDBBank, make: MakeDatabase, strategy: str) -> None:
        """C1: the handler gets its error, nothing is committed, and the next request works."""
        kills: list[Callable[[], object]] = [lambda: None, lambda: wired.server.kill_connections("guest")]

        def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
            transfer(kills.pop())(environ["db.conn"])
            start_response("200 OK", [("Content-Type", "text/plain")])
            return [b""]

        wrapped = DatabaseMiddleware(app, make(wired.url, strategy=strategy))
        with pytest.raises(pymysql.OperationalError, match="Lost connection"):
            get(wrapped)
        assert wired.state == BEFORE
        assert get(wrapped).status_code == 200
        assert wired.state == (90, 110, 0)

    @pytest.mark.parametrize("strategy", DBUTILS)
    def test_an_error_is_not_repeated(self, wired: MariaDBBank, make: MakeDatabase, strategy: str) -> None:
        """C1: PyMySQL's OperationalError is often no lost connection; DBUtils would connect anew and try again."""
        database = make(wired.url, strategy=strategy)
        with database.connection() as conn:
            with wired.proxy.counting() as commands, pytest.raises(pymysql.OperationalError, match="Unknown column"):
                run(conn, "SELECT nonsense FROM account")
            assert commands == ["QUERY SELECT nonsense FROM account"]
        assert database.stats().connects == 1


@pytest.mark.parametrize("strategy", ["dbutils-pooled", "sqlalchemy"])
def test_waiting_ends(fake: MakeDatabase, strategy: str) -> None:
    """S3: DBUtils waits without an end, SQLAlchemy for 30 s; here acquire_timeout holds."""
    database = fake(strategy=strategy, pool_size=1, acquire_timeout=0.01)
    with database.connection():
        with pytest.raises(PoolTimeout, match="1 of 1 connections are leased"), database.connection():
            pass
        assert database.stats().timeouts == 1


class TestArguments:
    def test_threadlocal(self, fake: MakeDatabase) -> None:
        """PersistentDB keeps its slots in what it is told to."""
        made: list[threading.local] = []

        class Local(threading.local):
            def __init__(self) -> None:
                made.append(self)

        database = fake(strategy="dbutils-persistent", strategy_args={"threadlocal": Local})
        with database.connection():
            assert len(made) == 1
            assert vars(made[0])

    def test_events(self, fake: MakeDatabase) -> None:
        """QueuePool calls the listeners that it is given. strategy_args may be a callable."""
        seen: list[str] = []

        def checked_out(*_: Any) -> None:
            seen.append("checkout")

        database = fake(strategy="sqlalchemy", strategy_args=lambda: {"events": [(checked_out, "checkout")]})
        with database.connection():
            assert seen == ["checkout"]

    @pytest.mark.parametrize(("strategy", "name", "reason"), REFUSED)
    def test_refused(self, fake: MakeDatabase, strategy: str, name: str, reason: str) -> None:
        """An argument that would break a guarantee is refused by name, with the reason."""
        with pytest.raises(ConfigError) as caught:
            fake(strategy=strategy, strategy_args={name: 1})
        assert caught.value.text == f"strategy_args: {name} cannot be given; {reason}"
        assert len(reason) > 8

    @pytest.mark.parametrize(
        ("strategy", "takes"),
        [
            ("dbutils-persistent", "threadlocal"),
            ("dbutils-pooled", "none"),
            ("sqlalchemy", "echo, events, logging_name, use_lifo"),
        ],
    )
    def test_unknown(self, fake: MakeDatabase, strategy: str, takes: str) -> None:
        """An argument that the library does not know either is an error that names those that are taken."""
        with pytest.raises(ConfigError) as caught:
            fake(strategy=strategy, strategy_args={"colour": "red"})
        assert caught.value.text == f"strategy_args: this strategy does not take 'colour'; it takes {takes}"

    @pytest.mark.parametrize("strategy", [name for name in STRATEGIES if name not in LIBRARIES])
    def test_no_library(self, fake: MakeDatabase, strategy: str) -> None:
        """wsgidb's own strategies take no strategy_args: their options are wsgidb's."""
        with pytest.raises(ConfigError, match=f"^strategy_args: strategy {strategy} takes none [(]"):
            fake(strategy=strategy, strategy_args={"use_lifo": True})

    @pytest.mark.parametrize(
        ("classes", "ours"),
        [
            ((PersistentDB,), {*dbutils.REFUSED, "threadlocal"}),
            ((PooledDB,), set(dbutils.REFUSED)),
            ((QueuePool, Pool), {*sqlalchemy.REFUSED, *sqlalchemy.ALLOWED}),
        ],
        ids=LIBRARIES,
    )
    def test_none_is_forgotten(self, classes: tuple[type, ...], ours: set[str]) -> None:
        """Every argument that the installed library has is either passed on or refused with a reason."""
        has = {name for cls in classes for name in inspect.signature(cls).parameters if not name.startswith("_")}
        assert has - {"args", "kwargs", "kw"} <= ours


@pytest.mark.parametrize(("strategy", "package", "extra"), [
    ("dbutils-persistent", "dbutils", "dbutils"),
    ("dbutils-pooled", "dbutils", "dbutils"),
    ("sqlalchemy", "sqlalchemy", "sqlalchemy"),
])  # fmt: skip
def test_missing_package(strategy: str, package: str, extra: str) -> None:
    """Without the library the error tells how to install it; the other strategies work."""
    code = f"""
import sys
class Missing:
    def find_spec(self, name, *_):
        if name == {package!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Missing())
from wsgidb import ConfigError, Database
Database("sqlite:///x.db", strategy="pooled").close()
try:
    Database("sqlite:///x.db", strategy={strategy!r})
except ConfigError as error:
    print(error.text)
"""
    where = str(Path(wsgidb.__file__).parents[1])
    told = subprocess.run([sys.executable, "-c", code], cwd=where, capture_output=True, text=True, timeout=30)
    expected = f"strategy: {strategy} needs the package {package}: pip install 'wsgidb[{extra}]'\n"
    assert (told.stdout, told.stderr) == (expected, "")


@pytest.mark.parametrize("strategy", LIBRARIES)
def test_the_library_does_nothing(fake: MakeDatabase, fakedb: FakeDB, strategy: str) -> None:
    """The library neither pings nor resets: what reaches the driver is what wsgidb sends by itself."""
    database = fake(strategy=strategy)
    for _ in range(3):
        with database.connection() as conn:
            run(conn, "SELECT 2")
    assert fakedb.statements() == ["SELECT 2"] * 3
    assert (fakedb.opened, fakedb.count("rollback"), fakedb.count("close")) == (1, 3, 0)
