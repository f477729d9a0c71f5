"""What the example applications share: the question that each of them answers."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import Any


def parameter_mark(connection: Any) -> str:
    """How this connection's driver writes a parameter in SQL.

    PEP 249 lets each driver choose: sqlite3 writes ``?``, those for MySQL and PostgreSQL ``%s``. wsgidb passes SQL
    on as it is, so an application that runs on both has to know. The connection that wsgidb hands out is an
    instance of the driver's own class; that is all one needs to ask.
    """
    return "?" if isinstance(connection, sqlite3.Connection) else "%s"


def find_city(connection: Any, name: str) -> int | None:
    """The number of the city with exactly this name, or None."""
    with closing(connection.cursor()) as cursor:
        cursor.execute(f"SELECT city_id FROM city WHERE city = {parameter_mark(connection)}", (name,))
        row = cursor.fetchone()
    return None if row is None else row[0]


def answer(connection: Any, name: str) -> str:
    """The sentence that every example application replies with."""
    number = find_city(connection, name)
    return f'City "{name}" not found' if number is None else f'City "{name}" is #{number}'
