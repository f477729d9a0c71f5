"""Transfers between a few accounts that all requests fight for."""

from __future__ import annotations

import random
from contextlib import closing
from typing import Any

ACCOUNTS = 20


def transfer(conn: Any, number: int) -> None:
    """Move 1 from one account to another, and note it: all or nothing. The account with the lower number is locked
    first, so that transfers on one server wait for each other and are never deadlocked."""
    source, target = random.Random(number).sample(range(1, ACCOUNTS + 1), 2)
    moves = [
        f"UPDATE account SET balance = balance - 1 WHERE id = {source}",
        f"UPDATE account SET balance = balance + 1 WHERE id = {target}",
    ]
    if target < source:
        moves.reverse()
    with closing(conn.cursor()) as cursor:
        for sql in (*moves, f"INSERT INTO ledger VALUES ({number}, {source}, {target})"):
            cursor.execute(sql)


def noted(conn: Any, number: int) -> str:
    """How often a transfer is in the ledger."""
    with closing(conn.cursor()) as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM ledger WHERE number = {number}")
        return str(cursor.fetchone()[0])
