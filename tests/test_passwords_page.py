"""What docs/passwords.md shows, on a real server whose passwords change."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from support.mariadb import MariaDB
from wsgidb import Database, DatabaseUnavailable

pytestmark = pytest.mark.server
PAGE = (Path(__file__).parents[1] / "docs" / "passwords.md").read_text()
FILE, IAM, VAULT = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
(SQL,) = re.findall(r"^```sql\n(.*?);\n```$", PAGE, re.DOTALL | re.MULTILINE)
TWO, ONE = SQL.split(";\n")


THEIRS = {
    "url": r'(?<=")mysql\+pymysql://[^"{]*(?=")',
    "path": r'(?<=Path\(")[^"]*(?=")',
    "ca": r"/etc/ssl/\S*pem",
    "host": r"shop\.abc123[\w.-]*",
    "port": r"\b3306\b",
}
"""What only the page's own machine has."""


def replaced(code: str, **ours: str) -> str:
    """The code with what a machine of the tests has; each must be in it once."""
    for name, value in ours.items():
        code, count = re.subn(THEIRS[name], value.replace("\\", r"\\"), code)
        assert count == 1, name
    return code


def run(code: str) -> Database:
    names: dict[str, Any] = {}
    exec(code, names)
    database = names["database"]
    assert isinstance(database, Database)
    return database


def whoami(database: Database) -> str:
    with database.connection() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT CURRENT_USER()")
        return str(cursor.fetchone()[0])


@pytest.fixture
def shop(mariadb: MariaDB) -> Iterator[MariaDB]:
    """A server on which the user "shop" has the password "old"."""
    mariadb.execute("CREATE USER shop IDENTIFIED BY 'old'")
    mariadb.execute("GRANT ALL ON test.* TO shop")
    yield mariadb
    mariadb.execute("DROP USER shop")


def test_a_password_in_a_file(shop: MariaDB, tmp_path: Path) -> None:
    """The steps of the page: the server takes both passwords, the file changes, the pool is drained, and the old
    password is no good any more. No login is refused on the way."""
    file = tmp_path / "password"
    file.write_text("old\n")
    with run(replaced(FILE, url=shop.url("shop", password=""), path=str(file))) as database:
        assert database.warm(3) == 3
        shop.execute(TWO)
        assert database.warm(4) == 4
        file.write_text("new\n")
        assert database.drain(over=0) == 4
        assert whoami(database) == "shop@%"
        shop.execute(ONE)
        assert database.warm(4) == 4
        stats = database.stats()
        assert (stats.connect_failures, stats.retirements) == (0, {"drained": 4})


def test_both_passwords_are_taken(shop: MariaDB) -> None:
    """MariaDB's statement, as it is on the page, lets the user in with either; the last one only with the new one."""
    allowed = []
    for statement in (TWO, ONE):
        shop.execute(statement)
        for password in ("old", "new"):
            with Database(shop.url("shop", password=password)) as database:
                try:
                    allowed.append(whoami(database))
                except DatabaseUnavailable as error:
                    allowed += re.findall(r"\b1045\b", str(error))[:1]
    assert allowed == ["shop@%", "shop@%", "1045", "shop@%"]


def test_tokens_of_iam(tls_mariadb: MariaDB, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection logs in with a token of its own, which is made for this host, port and user; what is open stays
    when its token has expired."""
    made: list[dict[str, Any]] = []

    def generate_db_auth_token(**given: Any) -> str:
        """The server takes the latest token only, as if all earlier ones had expired."""
        made.append(given)
        tls_mariadb.execute(f"ALTER USER shop IDENTIFIED BY 'token {len(made)}'")
        return f"token {len(made)}"

    boto3 = ModuleType("boto3")
    client = SimpleNamespace(generate_db_auth_token=generate_db_auth_token)
    clients = {"rds": client}
    boto3.client = lambda service, *, region_name: clients[service]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "boto3", boto3)
    tls_mariadb.execute("CREATE USER shop REQUIRE SSL")
    tls_mariadb.execute("GRANT ALL ON test.* TO shop")
    try:
        code = replaced(IAM, host="127.0.0.1", port=str(tls_mariadb.port), ca=str(tls_mariadb.ca))
        with run(code.replace("/shop", "/test", 1)) as database:
            assert database.settings.ssl_mode == "verify_identity"
            assert database.warm(3) == 3
            assert [whoami(database) for _ in range(3)] == ["shop@%"] * 3
            assert (database.stats().connects, database.stats().connect_failures) == (3, 0)
        assert made == [{"DBHostname": "127.0.0.1", "Port": tls_mariadb.port, "DBUsername": "shop"}] * 3
    finally:
        tls_mariadb.execute("DROP USER shop")


def test_users_that_exist_for_a_time(mariadb: MariaDB, tmp_path: Path) -> None:
    """The next connection logs in as the next user."""
    file = tmp_path / "lease.json"
    url = mariadb.url("guest").replace("guest@", "")
    with run(replaced(VAULT, url=url, path=str(file))) as database:
        for user in ("first", "second"):
            mariadb.execute(f"CREATE USER v_{user} IDENTIFIED BY 'secret of {user}'")
            mariadb.execute(f"GRANT ALL ON test.* TO v_{user}")
            try:
                file.write_text(json.dumps({"username": f"v_{user}", "password": f"secret of {user}"}))
                database.trim()
                assert whoami(database) == f"v_{user}@%"
            finally:
                mariadb.execute(f"DROP USER v_{user}")
