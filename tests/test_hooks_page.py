"""The recipe for tenants in docs/hooks.md works as it is written."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from strategies.kit import run
from support.postgresql import PostgreSQL
from support.wsgi import Call
from wsgidb import Database

pytestmark = pytest.mark.server
PAGE = (Path(__file__).parents[1] / "docs" / "hooks.md").read_text()
POLICY = re.findall(r"^```sql\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)[0]
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
LOCAL, SESSION = (block for block in BLOCKS if "set_config" in block)
URL = "postgresql://shopkeeper@127.0.0.1/shop"


@pytest.fixture
def url(postgresql: PostgreSQL) -> Iterator[str]:
    postgresql.execute("CREATE ROLE shopkeeper LOGIN")
    for statement in filter(str.strip, POLICY.split(";")):
        postgresql.execute(statement)
    postgresql.execute("INSERT INTO orders VALUES ('anna', 'tea'), ('bert', 'coffee')")
    yield postgresql.url("shopkeeper")
    postgresql.execute("DROP TABLE orders")
    postgresql.execute("DROP ROLE shopkeeper")


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    rows = [row[0] for row in run(environ["db.conn"], "SELECT item FROM orders")]
    if environ["PATH_INFO"] == "/fails":
        run(environ["db.conn"], "SELECT no_such_column")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [",".join(rows).encode()]


@pytest.mark.parametrize("transaction", ["request", "manual"])
def test_each_tenant_sees_its_rows(url: str, transaction: str) -> None:
    """Each request sees its tenant's rows, also after one that has failed; and outside of requests there are none."""
    names: dict[str, Any] = {"application": application}
    text = LOCAL.replace(f'"{URL}"', f'"{url}", pool_size=1').replace('"request"', f'"{transaction}"')
    if transaction == "manual":
        text = text.replace("def on_lease", "def other").replace("app =", SESSION + "\napp =")
    exec(text, names)
    app, database = names["app"], names["app"].database
    assert isinstance(database, Database)
    with database:
        for tenant, item in [("anna", b"tea"), ("bert", b"coffee"), ("anna", b"tea"), ("nobody", b"")]:
            assert Call(app, REMOTE_USER=tenant).read() == item
            with pytest.raises(Exception, match="no_such_column"):
                Call(app, "/fails", REMOTE_USER=tenant)
            with database.connection() as conn:
                assert run(conn, "SELECT item FROM orders") == []
        assert database.stats().connects == 1
