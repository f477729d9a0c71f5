"""The recipes of docs/tenants.md, and the one of docs/hooks.md, work as they are written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strategies.kit import run
from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.wsgi import Call
from wsgidb import Database

DOCS = Path(__file__).parents[1] / "docs"
PAGE = (DOCS / "tenants.md").read_text()
(POLICY,) = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LOCAL, SESSION, SCHEMAS, DATABASES, SERVERS, FLASK = PYTHON.findall(PAGE)
POSTGRESQL = '"postgresql://shopkeeper@127.0.0.1/shop"'
TENANTS = [("anna", b"tea"), ("bert", b"coffee"), ("anna", b"tea")]


def given(code: str, url: str, theirs: str = POSTGRESQL) -> str:
    """The code with the url of a server of the tests, and with a single connection, which all tenants share."""
    assert code.count(theirs) == 1
    return code.replace(theirs, f'"{url}", pool_size=1')


def made(code: str) -> Any:
    names: dict[str, Any] = {"application": application, "__name__": __name__}
    exec(code, names)
    return names["app"]


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    rows = [row[0] for row in run(environ["db.conn"], "SELECT item FROM orders")]
    if environ["PATH_INFO"] == "/fails":
        run(environ["db.conn"], "SELECT no_such_column")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [",".join(rows).encode()]


@pytest.fixture
def shopkeeper(postgresql: PostgreSQL) -> Iterator[PostgreSQL]:
    postgresql.execute("CREATE ROLE shopkeeper LOGIN")
    yield postgresql
    postgresql.execute("DROP OWNED BY shopkeeper")
    postgresql.execute("DROP ROLE shopkeeper")


@pytest.fixture
def url(shopkeeper: PostgreSQL) -> Iterator[str]:
    """A table with the page's policy."""
    for statement in filter(str.strip, POLICY.split(";")):
        shopkeeper.execute(statement)
    shopkeeper.execute("INSERT INTO orders VALUES ('anna', 'tea'), ('bert', 'coffee')")
    yield shopkeeper.url("shopkeeper")
    shopkeeper.execute("DROP TABLE orders")


@pytest.mark.server
@pytest.mark.parametrize("transaction", ["request", "manual"])
def test_row_level_security(url: str, transaction: str) -> None:
    """Each request sees its tenant's rows, also after one that has failed; and outside of requests there are none."""
    text = given(LOCAL, url).replace('"request"', f'"{transaction}"')
    if transaction == "manual":
        text = text.replace("def on_lease", "def other").replace("app =", SESSION + "\napp =")
    app = made(text)
    database = app.database
    assert isinstance(database, Database)
    with database:
        for tenant, item in [*TENANTS, ("nobody", b"")]:
            assert Call(app, REMOTE_USER=tenant).read() == item
            with pytest.raises(Exception, match="no_such_column"):
                Call(app, "/fails", REMOTE_USER=tenant)
            with database.connection() as conn:
                assert run(conn, "SELECT item FROM orders") == []
        assert database.stats().connects == 1


@pytest.mark.server
def test_a_schema_for_each_tenant(shopkeeper: PostgreSQL) -> None:
    """Each request reads its own table, whatever characters the tenant's name has. Who has no schema gets an error."""
    names = {"anna": "tea", 'b"ert; --': "coffee"}
    quoted = {name: '"{}"'.format(name.replace('"', '""')) for name in names}
    try:
        for name, item in names.items():
            shopkeeper.execute(f"CREATE SCHEMA {quoted[name]} AUTHORIZATION shopkeeper")
            shopkeeper.execute(f"CREATE TABLE {quoted[name]}.orders AS SELECT '{item}' AS item")
            shopkeeper.execute(f"GRANT SELECT ON {quoted[name]}.orders TO shopkeeper")
        app = made(given(SCHEMAS, shopkeeper.url("shopkeeper")))
        with app.database as database:
            for name, item in [*names.items(), *names.items()]:
                assert Call(app, REMOTE_USER=name).read() == item.encode()
            for nobody in ("nobody", "public"):
                with pytest.raises(Exception, match='"orders" does not exist'):
                    Call(app, REMOTE_USER=nobody)
            with pytest.raises(Exception, match='"orders" does not exist'), database.connection() as conn:
                run(conn, "SELECT item FROM orders")
            assert database.stats().connects == 1
    finally:
        for name in quoted.values():
            shopkeeper.execute(f"DROP SCHEMA IF EXISTS {name} CASCADE")


@pytest.mark.server
def test_a_database_for_each_tenant(own_mariadb: MariaDB) -> None:
    """Each request is in its own database; a script that comes after it is in the empty one. Who has none gets an
    error before the application is called."""
    own_mariadb.execute("CREATE USER shopkeeper")
    for name, item in (("anna", "tea"), ("bert", "coffee"), ("nobody", "")):
        own_mariadb.execute(f"CREATE DATABASE shop_{name}")
        own_mariadb.execute(f"GRANT ALL ON shop_{name}.* TO shopkeeper")
        if item:
            own_mariadb.execute(f"CREATE TABLE shop_{name}.orders SELECT '{item}' AS item")
    url = own_mariadb.url("shopkeeper", "shop_nobody")
    app = made(given(DATABASES, url, '"mysql+pymysql://shopkeeper@127.0.0.1/shop_nobody"'))
    with app.database as database:
        for tenant, expected in TENANTS:
            assert Call(app, REMOTE_USER=tenant).read() == expected
            with database.connection() as conn:
                assert run(conn, "SELECT DATABASE()") == [("shop_nobody",)]
            with pytest.raises(Exception, match="no_such_column"):
                Call(app, "/fails", REMOTE_USER=tenant)
            with database.connection() as conn:
                assert run(conn, "SELECT DATABASE()") == [("shop_nobody",)]
        with pytest.raises(KeyError, match="charles"):
            Call(app, REMOTE_USER="charles")
        assert database.stats().connects == 1


def test_a_server_for_each_tenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tenant has a pool of its own, with a name of its own."""
    monkeypatch.chdir(tmp_path)
    app = made(SERVERS)
    shops = app.__globals__["shops"]
    for tenant, expected in TENANTS[:2]:
        with shops[tenant].database.connection() as conn:
            run(conn, f"CREATE TABLE orders AS SELECT '{expected.decode()}' AS item")
            conn.commit()
    for tenant, expected in TENANTS:
        assert Call(app, REMOTE_USER=tenant).read() == expected
    assert [shop.database.name for shop in shops.values()] == ["anna", "bert"]
    assert [shop.database.stats().connects for shop in shops.values()] == [1, 1]
    for shop in shops.values():
        shop.database.close()


@pytest.mark.server
def test_where_the_framework_knows_the_tenant(url: str) -> None:
    """The session of Flask decides. A view without a tenant is an error, and shows no row."""
    app = made(given(FLASK, url))
    with app.wsgi_app.database as database:
        for tenant, expected in TENANTS:
            client = app.test_client()
            assert client.get("/orders").status_code == 500
            client.get(f"/login/{tenant}")
            assert client.get("/orders").data == expected
        assert database.stats().connects == 1


@pytest.mark.server
def test_who_makes_a_change(mariadb: MariaDB) -> None:
    """The recipe of docs/hooks.md sets a variable for the request, and nothing of it is left afterwards."""
    (code,) = (each for each in PYTHON.findall((DOCS / "hooks.md").read_text()) if "@who" in each)

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [str(run(environ["db.conn"], "SELECT @who")[0][0]).encode()]

    names: dict[str, Any] = {"application": application, "__name__": __name__}
    exec(given(code, mariadb.url(), '"mysql+pymysql://shop@127.0.0.1/shop"'), names)
    with names["app"].database as database:
        for who in ("anna", "bert"):
            assert Call(names["app"], REMOTE_USER=who).read() == who.encode()
            with database.connection() as conn:
                assert run(conn, "SELECT @who") == [(None,)]
        assert database.stats().connects == 1
