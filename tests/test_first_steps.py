"""The first steps in docs/drivers.md lead from SQLite to another database: the page of Bottle is followed on each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from support.mariadb import MariaDB
from support.postgresql import PostgreSQL
from support.reader import Reader
from test_documents import DOCS, rows

pytestmark = [pytest.mark.slow, pytest.mark.server]
PAGE = (DOCS / "howto" / "bottle.md").read_text()
DRIVERS = DOCS / "drivers.md"
(COMMANDS,) = re.findall(r"^```sh\n(.*?)^```$", DRIVERS.read_text(), re.DOTALL | re.MULTILINE)
MYSQL, POSTGRESQL = 1, 2
"""The columns of the table, after that of SQLite."""


def moved(column: int) -> str:
    """The page of Bottle with what the table says about the database of this column."""
    text = PAGE
    table = {cells[0]: cells[1:] for cells in rows(DRIVERS, "## First steps")}
    for point in ("url", "key that numbers rows"):
        before, after = (table[point][place].strip("`") for place in (0, column))
        assert before in text
        text = text.replace(before, after)
    text = text.replace("VALUES (?)", f"VALUES ({table['its parameters'][column].strip('`')})")
    if column == POSTGRESQL:
        return text.replace('NOT NULL)")\n', 'NOT NULL)")\n    conn.commit()\n')
    text = re.sub(r"\b(conn|request\.environ\[\"db\.conn\"\])\.execute\(", r"execute(\1, ", text)
    execute = (
        "def execute(conn, *statement):\n    cursor = conn.cursor()\n    cursor.execute(*statement)\n    return cursor"
    )
    return re.sub(r"^(from wsgidb import .*)$", rf"\1\n\n\n{execute}\n", text, flags=re.MULTILINE)


@contextmanager
def made_on_mariadb(server: MariaDB) -> Iterator[None]:
    (statements,) = re.findall(r'^sudo mysql -e "(.*)"$', COMMANDS, re.MULTILINE)
    for statement in statements.split("; "):
        server.query(statement)
    try:
        yield
    finally:
        server.query("DROP DATABASE shop")
        server.query("DROP USER shop@'127.0.0.1'")


@contextmanager
def made_on_postgresql(server: PostgreSQL) -> Iterator[None]:
    (arguments,) = re.findall(r"^sudo -u postgres psql (.*)$", COMMANDS, re.MULTILINE)
    with closing(server.connect()) as conn:
        for statement in re.findall(r'-c "(.*?)"', arguments):
            conn.execute(statement)
        try:
            yield
        finally:
            conn.execute("DROP DATABASE shop WITH (FORCE)")
            conn.execute("DROP ROLE shop")


def test_from_sqlite_to_mariadb(tmp_path: Path, mariadb: MariaDB) -> None:
    """A page that uses SQLite can be followed on MariaDB, with the changes that the table lists."""
    with made_on_mariadb(mariadb), Reader(tmp_path, mariadb) as reader:
        reader.follow(moved(MYSQL))


def test_from_sqlite_to_postgresql(tmp_path: Path, postgresql: PostgreSQL) -> None:
    """So can it on PostgreSQL."""
    with made_on_postgresql(postgresql), Reader(tmp_path, None, postgresql) as reader:
        reader.follow(moved(POSTGRESQL))
