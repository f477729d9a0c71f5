"""Create the table of cities and fill it from cities.csv. As a program, it uses the database of WSGIDB_URL.

    WSGIDB_URL=mysql+pymysql://user:password@127.0.0.1/test python examples/load_cities.py
"""

from __future__ import annotations

import csv
import sqlite3
import sys
from contextlib import closing
from typing import Any

from cities import CSV, parameter_mark
from wsgidb import Database
from wsgidb.errors import WsgiDBError


def read_cities() -> list[tuple[int, str, str]]:
    """The rows of cities.csv: number, name, country."""
    with CSV.open(encoding="utf-8", newline="") as file:
        return [(int(row["id"]), row["city"], row["country"]) for row in csv.DictReader(file)]


def text_type(connection: Any) -> str:
    """A column type for names that are equal only if they are the same text.

    With MySQL's usual collations, "Zürich" equals "ZURICH", and with the Danish ones "Århus" equals "Aarhus". Its _bin
    collations compare exactly, but most of them ignore trailing spaces; the one that does not is named differently in
    MariaDB and MySQL. SQLite and PostgreSQL compare text byte by byte unless told otherwise.
    """
    if isinstance(connection, sqlite3.Connection):
        return "TEXT"
    with closing(connection.cursor()) as cursor:
        cursor.execute("SELECT VERSION()")
        (version,) = cursor.fetchone()
    if version.startswith("PostgreSQL"):
        return "TEXT"
    collation = "utf8mb4_nopad_bin" if "MariaDB" in version else "utf8mb4_0900_bin"
    return f"VARCHAR(100) CHARACTER SET utf8mb4 COLLATE {collation}"


def load_cities(database: Database) -> int:
    """Create the table if it does not exist, fill it if it is empty, and return the number of rows added.

    A table that has rows is not changed, because it may be somebody's own. All rows are added in one transaction, so an
    interrupted load leaves an empty table, and the next one starts again.
    """
    with database.connection() as connection, closing(connection.cursor()) as cursor:
        text = text_type(connection)
        cursor.execute(
            "CREATE TABLE IF NOT EXISTS city"
            f" (city_id INTEGER PRIMARY KEY, city {text} NOT NULL UNIQUE, country {text} NOT NULL)"
        )
        cursor.execute("SELECT COUNT(*) FROM city")
        (present,) = cursor.fetchone()
        if present:
            return 0
        rows = read_cities()
        mark = parameter_mark(connection)
        cursor.executemany(f"INSERT INTO city (city_id, city, country) VALUES ({mark}, {mark}, {mark})", rows)
        connection.commit()
    return len(rows)


def main() -> None:
    try:
        with Database.from_env() as database:
            added = load_cities(database)
    except WsgiDBError as error:
        sys.exit(f"load_cities.py: {error}")
    print(f"{added} cities added" if added else "the table city has rows already; nothing added")


if __name__ == "__main__":
    main()
