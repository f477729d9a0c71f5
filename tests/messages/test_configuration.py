"""The mistakes in a configuration of docs/troubleshooting.md: each is made, and the error is the page's."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine

from support.fakedb import FakeDB
from support.quoted import shown
from support.wsgi import Call, environment
from wsgidb import ConfigError, Database, DatabaseMiddleware, WsgiDBError, get_connection
from wsgidb.cli.commands import main
from wsgidb.drivers import Driver
from wsgidb.drivers.generic import Generic
from wsgidb.strategies import Store
from wsgidb.testing import SandboxDatabase

MYSQL = "mysql://app@db.invalid/shop"
CLIENT = "mysql+mysqldb://app@db.invalid/shop"
POSTGRESQL = "postgresql://app@db.invalid/shop"
SQLITE = "sqlite:////tmp/never-opened.sqlite3"


class NotADriver:
    pass


class Twice(Store):
    """A strategy that leases whatever it is told to."""

    def take(self) -> Any:
        return "a connection"

    def put(self, slot: Any) -> None:
        pass

    def close(self) -> list[Any]:
        return []


class Half(Driver):
    name = "half"


class Absent(Generic):
    name = "absent"


class Nothing(Generic):
    name = "nothing"

    def connect(self, deadline: float) -> Any:
        return None


def use(database: Database) -> None:
    with database, database.connection():
        pass


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b""]


def twice() -> None:
    inner = DatabaseMiddleware(app, creator=FakeDB().connect)
    Call(DatabaseMiddleware(inner, creator=FakeDB().connect))


def command_line() -> None:
    from wsgidb.cli.check import settings_of

    settings_of(SQLITE, ["pool_size"])


def five() -> Any:
    """No dictionary."""
    return 5


def options(url: str, **given: Any) -> Callable[[], object]:
    return lambda: Database(url, **given)


def creator(**given: Any) -> Callable[[], object]:
    return lambda: Database(creator=FakeDB().connect, **given)


def engine(url: str = "sqlite://", **given: Any) -> Callable[[], object]:
    return lambda: use(Database(creator=create_engine(url), **{"strategy": "sqlalchemy", **given}))


CASES: dict[str, Callable[[], object]] = {
    "unknown option '<name>' (did you mean": options(SQLITE, pol_size=5),
    "unknown option '<name>': <what": options(SQLITE, pool_recycle=5),
    "unknown option '<name>'; known": options(SQLITE, xyzzy=5),
    "<option>: takes <what it takes>, got": options(SQLITE, pool_size="many"),
    "no url and no Database was given": Database.from_env,
    "url: is missing": lambda: Database(None),
    "url and creator: give only one of them": lambda: Database(MYSQL, creator=FakeDB().connect),
    "url: given twice": lambda: Database(MYSQL, url=MYSQL),
    "database: takes a Database": lambda: setattr(DatabaseMiddleware(app, SQLITE), "database", SQLITE[:3]),
    "transaction: this application needs": lambda: setattr(
        DatabaseMiddleware(app, SQLITE), "database", Database(SQLITE, transaction="request")
    ),
    "which was made before": lambda: DatabaseMiddleware(app, Database(SQLITE), pool_size=5),
    "key: takes an environ key": options(SQLITE, key="db"),
    "name: takes a short text": options(SQLITE, name=MYSQL),
    "commit_veto: needs": options(SQLITE, commit_veto=lambda environ, status, headers: True),
    "retry: needs transaction=request": options(SQLITE, retry=1),
    "retry: needs one of wsgidb's own drivers": lambda: DatabaseMiddleware(
        app, creator=FakeDB().connect, transaction="request", retry=1
    ),
    "retry_if: needs retry": options(SQLITE, retry_if=bool),
    "no way to set autocommit": lambda: use(Database(creator=FakeDB().connect, transaction="autocommit")),
    "cannot clear a session": options(SQLITE, reset="session"),
    "strategy_args: strategy <strategy> takes none": lambda: use(Database(SQLITE, strategy_args={"use_lifo": True})),
    "strategy_args: <name> cannot be given": lambda: use(
        Database(SQLITE, strategy="dbutils-pooled", strategy_args={"ping": 1})
    ),
    "strategy_args: this strategy does not take": lambda: use(
        Database(SQLITE, strategy="dbutils-pooled", strategy_args={"xyzzy": 1})
    ),
    "--option: takes NAME=VALUE": command_line,
    "url: is empty": options(""),
    "url: takes a string": lambda: Database(5),  # type: ignore[arg-type]
    "url: malformed": options("mysql//app@db.invalid/shop"),
    "url: an option is given twice": options(f"{MYSQL}?charset=utf8&charset=latin1"),
    "url: host <number> of <n> is malformed": options("mysql://app@db1:x,db2/shop"),
    "url: host <number> of <n> is empty": options("mysql://app@db1,,db2/shop"),
    "takes no list of hosts": options("sqlite://db1,db2/shop"),
    "two of the hosts are the same": options("mysql://app@db1,db2,db1:3306/shop"),
    "host: host <number> of <n> is empty": options(MYSQL, connect_args={"host": "db1,"}),
    "hostaddr: takes": options(POSTGRESQL, connect_args={"hostaddr": "127.0.0.1,127.0.0.2"}),
    "port: takes one port": options(MYSQL, connect_args={"port": "3306,3307"}),
    "port: takes whole numbers": options(MYSQL, connect_args={"port": "x"}),
    "unix_socket: cannot be given": options("mysql://app@db1,db2/shop?unix_socket=/run/s"),
    "target_session_attrs: takes": options(f"{MYSQL}?target_session_attrs=writable"),
    "load_balance_hosts: takes": options(POSTGRESQL, connect_args={"load_balance_hosts": "on"}),
    "url: unknown scheme '<scheme>' (did": options("postgres://app@db.invalid/shop"),
    "url: unknown scheme '<scheme>'; creator": options("oracle://app@db.invalid/shop"),
    "and its query no unix_socket": options("mysql:///shop"),
    "and its query no host=": options("postgresql:///shop"),
    "names no file": options("sqlite://"),
    "would be a new, empty database": options("sqlite:///:memory:"),
    "host: belongs before": options(f"{POSTGRESQL}?host=/run"),
    "is an option of wsgidb and not of": options(f"{MYSQL}?pool_size=5"),
    "has no such option (did": options(f"{MYSQL}?charst=utf8"),
    "has no such option; use": options(f"{MYSQL}?pool_recycle=5"),
    "in the url or connect_args; use wsgidb's": options(f"{MYSQL}?autocommit=1"),
    "wsgidb needs it for itself": options(f"{MYSQL}?defer_connect=1"),
    "<name>: belongs before": options(f"{MYSQL}?user=app"),
    "is no text; give it by connect_args": options(f"{MYSQL}?conv=x"),
    "cannot be given as text": options(f"{POSTGRESQL}?context=x"),
    "takes a callable that returns a dict": lambda: use(Database(creator=FakeDB().connect, connect_args=five)),
    "got '<text>' (did you mean '<name>'?)": options(f"{MYSQL}?charset=utf-8"),
    "cursorclass: <driver> has no cursor class": options(f"{MYSQL}?cursorclass=Xyzzy"),
    "cursor_factory: psycopg has no": options(f"{POSTGRESQL}?cursor_factory=Xyzzy"),
    "row_factory: psycopg.rows has no": options(f"{POSTGRESQL}?row_factory=xyzzy"),
    "prepare_threshold: takes": options(f"{POSTGRESQL}?prepare_threshold=many"),
    "mysqlclient takes whole seconds": options(CLIENT, read_timeout=0.5),
    "ssl_ca: needs": options(MYSQL, ssl_ca="/no/such/file"),
    "ssl_cert, ssl_key: need TLS": options(MYSQL, ssl_mode="disabled", ssl_cert="/no/such/file"),
    "ssl_key: needs ssl_cert": options(MYSQL, ssl_key="/no/such/file"),
    "<option>: cannot be read": options(MYSQL, ssl_mode="verify_ca", ssl_ca="/no/such/file"),
    "<options>: cannot be used": options(MYSQL, ssl_mode="verify_ca", ssl_ca=__file__),
    "sharing an Engine's pool": engine(strategy="pooled"),
    "gives one connection to several users": engine(),
    "give it to create_engine()": engine("sqlite:////tmp/never-opened.sqlite3", init_sql="SELECT 1"),
    "which is no DB-API connection": lambda: use(Database(creator=dict)),
    "has no open() of its own": lambda: use(Database(SQLITE, driver=Absent)),
    "connect() returned None": lambda: use(Database(SQLITE, driver=Nothing)),
    "is not a subclass of": options(SQLITE, driver=NotADriver),
    "does not implement": options(SQLITE, driver=Half),
    "breaks the contract of a store": lambda: use(Database(SQLITE, strategy=Twice)),
    "holds a connection of another Database": twice,
    "environ has no '<key>'": lambda: get_connection(environment()),
    "cannot be given to a sandbox": lambda: SandboxDatabase(SQLITE, pool_size=5),  # type: ignore[call-arg]
    "a sandbox must replace commit()": lambda: use(SandboxDatabase(creator=lambda: sqlite3.connect(":memory:"))),
}


@pytest.mark.parametrize("fragment", CASES)
def test_a_mistake_gets_the_error_of_the_page(fragment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is told while connecting is the cause of the error for that."""
    monkeypatch.delenv("WSGIDB_URL", raising=False)
    with pytest.raises(WsgiDBError) as caught:
        CASES[fragment]()
    error = caught.value.__cause__ if str(caught.value).startswith("cannot connect: ") else caught.value
    shown(fragment, error)


def message(make: Callable[[], object]) -> str:
    with pytest.raises(ConfigError) as caught:
        make()
    return str(caught.value)


def test_messages_whose_text_is_a_part_of_another_one() -> None:
    """These cannot be told from others by a part of theirs."""
    lines = {
        "<option>: takes <what it takes>": options(MYSQL, connect_args=5),
        "<name>: <driver> has no such option": options(SQLITE, read_timeout=5),
        "charset: takes a character set of MySQL, such as utf8mb4, got '<text>'": options(f"{MYSQL}?charset=xyzzy"),
    }
    for line, make in lines.items():
        shown(line, message(make), whole=True)


@pytest.mark.parametrize(
    ("fragment", "module"),
    [("pip install 'wsgidb[<extra>]'", None), ("which is installed (<file>)", "raise ImportError('no libmariadb')")],
)
def test_packages(fragment: str, module: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A driver's package that is missing, or broken."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "MySQLdb" or "mysqlclient" in name]:
        monkeypatch.delitem(sys.modules, name)
    if module is None:
        monkeypatch.setattr(sys, "path", [])
    else:
        (tmp_path / "MySQLdb.py").write_text(module)
        monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("wsgidb.drivers.__path__", [str(Path(sys.modules["wsgidb.drivers"].__file__ or "").parent)])
    shown(fragment, message(options(CLIENT)))


def test_the_command_line_shows_the_same_text(capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake in an option is the error of the page, without a traceback."""
    assert main(["check", SQLITE, "--option", "pol_size=5"]) == 2
    shown("unknown option '<name>' (did you mean", capsys.readouterr().err.removeprefix("wsgidb: ").strip())
