"""Which of SQLite's statements are to be in a transaction, by their words."""

from __future__ import annotations

import pytest

from wsgidb.drivers.sqlite.statements import BY_THEMSELVES, STANDING, writes

ONE = "WITH one(n) AS (SELECT 1)"


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", False),
        ("select 1", False),
        ("INSERT INTO t VALUES (1)", True),
        ("update t SET n = 1", True),
        ("\ufeff ;; INSERT INTO t VALUES (1)", True),
        ("-- SELECT\nDELETE FROM t", True),
        ("-- DELETE FROM t", False),
        ("/* SELECT; */ /**/ REPLACE INTO t VALUES (1)", True),
        ("/* INSERT", False),
        ("PRAGMA user_version", False),
        ("VACUUM INTO 'x'", False),
        ("EXPLAIN QUERY PLAN DELETE FROM t", False),
        ("", False),
        ("(", False),
        (f"{ONE} SELECT n FROM one", False),
        (f"{ONE} VALUES (1)", False),
        (f"{ONE} INSERT INTO t SELECT n FROM one", True),
        (f"{ONE} REPLACE INTO t SELECT n FROM one", True),
        (f"{ONE} UPDATE t SET n = 1", True),
        (f"{ONE}DELETE FROM t", True),
        (f"{ONE} SELECT replace(n, 1, 2) FROM one", False),
        ("with recursive one AS MATERIALIZED (select 1 UNION ALL (select 2)) select * from one", False),
        ('WITH "insert" AS (SELECT 1) SELECT * FROM "insert"', False),
        ("WITH [insert] AS (SELECT 1) SELECT 1", False),
        ("WITH `insert` AS (SELECT ')') SELECT 1", False),
        ("WITH one AS (SELECT 'it''s (' /* ) */ -- (\n) /* INSERT */ SELECT 1", False),
        ("WITH one AS (SELECT ')') DELETE FROM t", True),
        ("WITH", False),
    ],
)
def test_writes(sql: str, expected: bool) -> None:
    """Comments, strings, quoted names and brackets hide nothing and feign nothing."""
    assert writes(sql, BY_THEMSELVES) is expected
    assert writes(sql, STANDING) is expected


@pytest.mark.parametrize("sql", ["CREATE TABLE t (n)", "SAVEPOINT a", "drop table t", "ALTER TABLE t RENAME TO u"])
def test_what_stands_by_itself(sql: str) -> None:
    """With manual, as in sqlite3; with request it is the request's."""
    assert writes(sql, BY_THEMSELVES)
    assert not writes(sql, STANDING)
