"""The database queries, which all example applications share."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

CSV = Path(__file__).with_name("cities.csv")
HINT = "Name a city: /?city=London"


class CityExists(Exception):
    """A city of that name exists already."""


def parameter_mark(connection: Any) -> str:
    """How this connection's driver writes a parameter in SQL.

    PEP 249 lets each driver choose: sqlite3 uses ``?``, the drivers for MySQL and PostgreSQL use ``%s``. wsgidb does
    not change SQL, so an application that runs with both must know the style. It can tell from the connection, which is
    an instance of the driver's own class.
    """
    return "?" if isinstance(connection, sqlite3.Connection) else "%s"


def page_of(name: str) -> str:
    """The path of the page of the city with this name."""
    return f"/?{urlencode({'city': name})}"


def find_city(connection: Any, name: str) -> int | None:
    """The number of the city with exactly this name, or None."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"SELECT city_id FROM city WHERE city = {parameter_mark(connection)}", (name,))
        row = cursor.fetchone()
    return None if row is None else row[0]


def answer(connection: Any, name: str) -> tuple[str, int]:
    """The sentence that every example application answers with, and its HTTP status."""
    number = find_city(connection, name)
    return (f'City "{name}" not found', 404) if number is None else (f'City "{name}" is #{number}', 200)


def list_cities(connection: Any) -> Iterator[bytes]:
    """All cities as lines of text, a hundred at a time; each hundred is read when the one before it has been sent."""
    mark = parameter_mark(connection)
    last = 0
    with closing(connection.cursor()) as cursor:
        while True:
            cursor.execute(f"SELECT city_id, city FROM city WHERE city_id > {mark} ORDER BY city_id LIMIT 100", (last,))
            rows = cursor.fetchall()
            if not rows:
                return
            yield "".join(f"{number} {name}\n" for number, name in rows).encode()
            last = rows[-1][0]


def add_cities(connection: Any, names: Iterable[str]) -> None:
    """Add cities one by one, each under the next number. Raises CityExists, or ValueError for an empty name.

    It does not commit. Whether the cities that were added before an error are kept is up to the request."""
    mark = parameter_mark(connection)
    with closing(connection.cursor()) as cursor:
        for name in names:
            if not name:
                raise ValueError("a city has a name")
            if find_city(connection, name) is not None:
                raise CityExists(f'There is a city "{name}" already')
            cursor.execute("SELECT MAX(city_id) FROM city")
            (last,) = cursor.fetchone()
            cursor.execute(f"INSERT INTO city (city_id, city, country) VALUES ({mark}, {mark}, '')", (last + 1, name))
