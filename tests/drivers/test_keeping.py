"""R14: what statements make permanent, by their words."""

from __future__ import annotations

import pytest

from wsgidb.drivers.mysql.keeping import keeps
from wsgidb.drivers.outcome import ANYTHING, EARLIER, ENDS, NOTHING, Keeps, Outcome
from wsgidb.drivers.psycopg.statements import keeps as postgresql_keeps

MYSQL = {
    NOTHING: (
        "SELECT 1",
        " insert into t values (1)",
        "REPLACE t VALUES ('COMMIT')",
        "WITH c AS (SELECT 1) SELECT * FROM c",
        "/* by: shop */ -- page 1\n# or 2\nUPDATE t SET n = 1",
        "DELETE FROM t;",
        "SELECT 'a; b', \"c; d\", `e; f`",
        "SELECT 'it\\'s; all'",
        "SELECT 'it''s; all'",
        "SELECT 1 -- an end",
        "SET @n = 1",
        "SET NAMES utf8mb4",
        "SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SAVEPOINT s",
        "RELEASE SAVEPOINT s",
        "SHOW WARNINGS",
        "DO SLEEP(0)",
        bytearray(b"EXPLAIN SELECT 1"),
    ),
    ENDS: ("ROLLBACK", "rollback to savepoint s", "ROLLBACK WORK;"),
    EARLIER: ("COMMIT", "commit and chain", "BEGIN", "begin work", "START TRANSACTION READ ONLY", "START  TRANSACTION"),
    ANYTHING: (
        "",
        "/*! COMMIT */",
        "/*M! COMMIT */",
        "(SELECT 1)",
        "CREATE TABLE t (n INT)",
        "CREATE TEMPORARY TABLE t (n INT)",
        "DROP TABLE t",
        "CALL p()",
        "EXECUTE s",
        "LOCK TABLES t READ",
        "BEGIN NOT ATOMIC COMMIT; END",
        "START SLAVE",
        "COMMITTED",
        "SET autocommit = 1",
        "SET @@AutoCommit = 1",
        "SET PASSWORD = ''",
        "SET DEFAULT ROLE r",
        "SET GLOBAL general_log = 1",
        "SET PERSIST general_log = 1",
        "SET STATEMENT max_statement_time = 1 FOR COMMIT",
        "SELECT 1; COMMIT",
        "SELECT 'a'; COMMIT",
        "SELECT 'a\\\\'; COMMIT; -- '",
        "SELECT 1 /* ' */; COMMIT -- '",
        "SELECT 1 -- '\n; COMMIT -- '",
        "SELECT 1 # '\n; COMMIT -- '",
    ),
}


@pytest.mark.parametrize(("sql", "expected"), [(sql, kind) for kind, texts in MYSQL.items() for sql in texts])
def test_mysql(sql: str | bytearray, expected: Keeps) -> None:
    """R14: the words of a statement tell, and in doubt it may have committed."""
    assert keeps(sql, untouched=False, escapes=True) is expected
    if isinstance(sql, str):
        assert keeps(sql.encode(), untouched=False, escapes=True) is expected


def test_the_end_of_nothing() -> None:
    """R14: a COMMIT or BEGIN before anything was done makes nothing permanent; DDL does."""
    assert [keeps(sql, untouched=True, escapes=True) for sql in ("COMMIT", "BEGIN", "DROP TABLE t")] == [
        *(ENDS, ENDS, ANYTHING)
    ]


def test_no_backslash_escapes() -> None:
    """R14: with that sql_mode, a backslash ends no string, nor does it keep one open."""
    assert keeps("SELECT 'a\\'; COMMIT; -- '", untouched=False, escapes=False) is ANYTHING
    assert keeps("SELECT 'a\\', ';'", untouched=False, escapes=False) is NOTHING


POSTGRESQL = {
    NOTHING: (
        "SELECT 1",
        "CREATE TABLE t (n INT)",
        "SELECT CASE WHEN true THEN 1 END",
        "INSERT INTO t VALUES (';')",
        "SELECT 1; SELECT 2",
        "CALL p()",
    ),
    ENDS: ("ROLLBACK", "abort"),
    EARLIER: ("COMMIT", "/* at last */ end", "PREPARE TRANSACTION 'x'", "; commit"),
    ANYTHING: ("SELECT 1; COMMIT", "ROLLBACK; INSERT INTO t VALUES (1)", "SELECT 1; ABORT; SELECT 2"),
}


@pytest.mark.parametrize(("sql", "expected"), [(sql, kind) for kind, texts in POSTGRESQL.items() for sql in texts])
def test_postgresql(sql: str, expected: Keeps) -> None:
    """R14: there a transaction ends by these words only. DDL can be rolled back, and procedures cannot commit in it."""
    assert postgresql_keeps(sql, None) is expected
    assert postgresql_keeps(sql.encode(), None) is expected


class Seen:
    """A connection's record, as far as an `Outcome` asks for it."""

    lease: object = None
    touched = 0


class Knowing:
    """A driver: a ValueError undoes, at COMMIT too; a TypeError proves nothing at COMMIT."""

    def undoes(self, error: BaseException) -> bool:
        return isinstance(error, (ValueError, TypeError))

    def undid_commit(self, error: BaseException) -> bool:
        return isinstance(error, ValueError)


class TestOutcome:
    """The record of one lease."""

    def make(self) -> tuple[Outcome, Seen]:
        seen = Seen()
        seen.lease = self
        return Outcome(seen, self, Knowing()), seen

    def test_an_error_undoes(self) -> None:
        """R14: the first one is the reason."""
        outcome, _ = self.make()
        outcome.sends(NOTHING)
        outcome.failed(KeyError())
        assert outcome.reason is None
        outcome.failed(ValueError("first"))
        outcome.failed(ValueError("second"))
        assert outcome.reason == "ValueError('first')"

    @pytest.mark.parametrize("keeps", [EARLIER, ANYTHING])
    def test_what_is_kept(self, keeps: Keeps) -> None:
        """R14: then nothing else counts."""
        outcome, _ = self.make()
        outcome.sends(keeps)
        outcome.sends(NOTHING)
        outcome.failed(ValueError())
        assert outcome.committed
        assert outcome.reason is None

    def test_a_refused_commit(self) -> None:
        """R14: it has committed nothing, unless an earlier one has."""
        outcome, _ = self.make()
        outcome.sends(EARLIER)
        outcome.failed(ValueError())
        assert outcome.reason is not None
        outcome.sends(ANYTHING)
        outcome.sends(EARLIER)
        outcome.failed(ValueError())
        assert outcome.reason is None

    @pytest.mark.parametrize("error", [TypeError(), KeyError()])
    def test_an_unclear_commit(self, error: Exception) -> None:
        """R14: only some errors prove that nothing was committed."""
        outcome, _ = self.make()
        outcome.sends(EARLIER)
        outcome.failed(error)
        assert outcome.reason is None

    def test_a_refused_statement_that_may_commit(self) -> None:
        """R14: DDL commits what was before it, even if it fails."""
        outcome, _ = self.make()
        outcome.sends(ANYTHING)
        outcome.failed(ValueError())
        assert outcome.reason is None

    def test_a_handler_that_starts_over(self) -> None:
        """R14: after a rollback, what it does next is another matter; a second rollback is none."""
        outcome, seen = self.make()
        seen.touched = 3
        outcome.failed(ValueError())
        outcome.sends(NOTHING)
        assert outcome.reason is not None
        seen.touched = 0
        outcome.sends(ENDS)
        assert outcome.reason is not None
        outcome.sends(NOTHING)
        assert outcome.reason is None

    def test_after_the_lease(self) -> None:
        """R14: what wsgidb or the next lease does leaves no trace."""
        outcome, seen = self.make()
        seen.lease = None
        outcome.sends(ANYTHING)
        outcome.stood_alone()
        outcome.failed(ValueError())
        assert not outcome.committed
        assert outcome.undone is None
        seen.lease = self
        outcome.failed(ValueError())
        seen.lease = object()
        outcome.sends(EARLIER)
        assert outcome.reason is not None
