"""Two databases in one process: two prefixes in the environment, two keys, and one middleware inside the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest
from werkzeug.test import Client

from support.client import connect, value
from support.mariadb import MariaDB
from wsgidb import ConfigError, Database, DatabaseMiddleware, get_connection

pytestmark = pytest.mark.server


@pytest.fixture
def both(mariadb: MariaDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Database, Database]]:
    """The shop on MariaDB (WSGIDB_…) and the audit on SQLite (AUDIT_DB_…), each with one table."""
    mariadb.execute("CREATE TABLE orders (n INT)")
    for name, text in {
        "WSGIDB_URL": mariadb.url(),
        "WSGIDB_KEY": "shop.conn",
        "WSGIDB_POOL_SIZE": "3",
        "AUDIT_DB_URL": f"sqlite:///{tmp_path}/audit.db",
        "AUDIT_DB_KEY": "audit.conn",
        "AUDIT_DB_TRANSACTION": "request",
        "AUDIT_DB_STRATEGY": "thread-local",
    }.items():
        monkeypatch.setenv(name, text)
    with ExitStack() as stack:
        shop = stack.enter_context(Database.from_env())
        audit = stack.enter_context(Database.from_env(prefix="AUDIT_DB_"))
        with audit.connection() as conn:
            conn.execute("CREATE TABLE trail (n INT)")
        yield shop, audit
    mariadb.execute("DROP TABLE orders")


def handler(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Write to both databases and commit the shop's; wsgidb commits the audit's. With ?fail, raise before that."""
    shop, audit = get_connection(environ, "shop.conn"), get_connection(environ, key="audit.conn")
    with closing(shop.cursor()) as cursor:
        cursor.execute("INSERT INTO orders VALUES (%s)", (1,))
    audit.execute("INSERT INTO trail VALUES (?)", (1,))
    if environ["QUERY_STRING"] == "fail":
        raise ZeroDivisionError
    shop.commit()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
    return [b"ok"]


def rows(database: Database, table: str) -> int:
    with database.connection() as conn, closing(conn.cursor()) as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {table}")
        return int(cursor.fetchone()[0])


def test_each_prefix_has_its_own_settings(both: tuple[Database, Database]) -> None:
    """The two databases share no setting."""
    shop, audit = (database.settings for database in both)
    assert (shop.key, shop.transaction, shop.strategy, shop.pool_size) == ("shop.conn", "manual", "pooled", 3)
    assert (audit.key, audit.transaction, audit.strategy, audit.pool_size) == (
        "audit.conn", "request", "thread-local", 10,
    )  # fmt: skip


@pytest.mark.parametrize("outer", [0, 1])
def test_a_request_has_both_connections_and_each_ends_by_its_own_rules(
    both: tuple[Database, Database], outer: int
) -> None:
    """R7: in either order, the handler commits the shop's writes, and the middleware commits the audit's."""
    inner = DatabaseMiddleware(handler, both[1 - outer])
    client = Client(validator(DatabaseMiddleware(inner, both[outer])))
    assert client.get("/", buffered=True).status_code == 200
    with pytest.raises(ZeroDivisionError):
        client.get("/?fail", buffered=True)
    assert (rows(both[0], "orders"), rows(both[1], "trail")) == (1, 1)
    assert [database.stats().leased for database in both] == [0, 0]


def test_each_commits_what_was_done_on_its_own(both: tuple[Database, Database], mariadb: MariaDB) -> None:
    """Another client sees both commits after the response."""
    app = DatabaseMiddleware(DatabaseMiddleware(handler, both[1]), both[0])
    assert Client(app).get("/").text == "ok"
    with closing(connect(mariadb.url())) as other:
        assert value(other, "SELECT COUNT(*) FROM orders") == 1
    assert rows(both[1], "trail") == 1


def test_an_inner_commit_that_fails_rolls_the_outer_one_back(both: tuple[Database, Database], mariadb: MariaDB) -> None:
    """The inner middleware ends first. Its failed commit is a 500, because of which the outer one rolls back."""
    audit = both[1]
    with audit.connection() as conn:
        conn.execute("CREATE TABLE known (n INT PRIMARY KEY)")
        conn.execute("CREATE TABLE doomed (n INT REFERENCES known (n) DEFERRABLE INITIALLY DEFERRED)")

    def handler(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        with closing(get_connection(environ, "db.shop").cursor()) as cursor:
            cursor.execute("INSERT INTO orders VALUES (1)")
        get_connection(environ, "audit.conn").execute("INSERT INTO doomed VALUES (-1)")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "2")])
        return [b"ok"]

    with Database(mariadb.url(), transaction="request", key="db.shop") as outer:
        app = DatabaseMiddleware(DatabaseMiddleware(handler, audit), outer)
        assert Client(app).get("/").status_code == 500
        assert rows(outer, "orders") == 0


def test_one_key_for_two_databases_is_refused(both: tuple[Database, Database]) -> None:
    """R7: one key for both is refused, because the inner middleware would hide the outer one's connection."""
    app = DatabaseMiddleware(DatabaseMiddleware(handler, both[1], key="shop.conn"), both[0])
    with pytest.raises(ConfigError, match=r"'shop\.conn' holds a connection of another Database"):
        Client(app).get("/")


def test_a_key_that_nobody_filled_is_named() -> None:
    """get_connection names the key if there is no connection."""
    with pytest.raises(ConfigError, match=r"environ has no 'shop\.conn'"):
        get_connection({}, "shop.conn")
