"""The pages in docs/howto, each followed from its first line to its last as a reader does it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.reader import BLOCK, Reader

HOWTO = Path(__file__).parents[1] / "docs" / "howto"
PAGES = {path.stem: path.read_text() for path in sorted(HOWTO.glob("*.md"))}
FOLLOWED = [page for page, text in PAGES.items() if BLOCK.search(text)]
pytestmark = [pytest.mark.slow, pytest.mark.server]


@contextmanager
def mariadb_shop(server: MariaDB) -> Iterator[None]:
    """The database that the pages take for granted."""
    for statement in ("CREATE DATABASE shop", "CREATE USER shop IDENTIFIED BY 'secret'", "GRANT ALL ON shop.* TO shop"):
        server.query(statement)
    try:
        yield
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
    mariadb = request.getfixturevalue("mariadb") if ":3306" in text else None
    postgresql = request.getfixturevalue("postgresql") if ":5432" in text else None
    with Reader(tmp_path, mariadb, postgresql) as reader:
        if mariadb is not None:
            reader.stack.enter_context(mariadb_shop(mariadb))
        if postgresql is not None:
            reader.stack.enter_context(postgresql_shop(postgresql))
        assert reader.follow(text)["console"]
