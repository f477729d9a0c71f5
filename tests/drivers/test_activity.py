"""R10, the record by itself: what it takes a statement for, and what it lets pass after a loss."""

from __future__ import annotations

import pytest

from wsgidb.drivers.activity import Activity, first_word
from wsgidb.errors import TransactionLost

HARMLESS = [
    "SELECT 1",
    "select 1 ; \n",
    "Insert INTO n VALUES (1)",
    "UPDATE n SET n = 1",
    "DELETE FROM n",
    "REPLACE INTO n VALUES (1)",
    "SHOW WARNINGS",
    "WITH m AS (SELECT 1) SELECT * FROM m",
    "ROLLBACK TO SAVEPOINT s",
]
COMMITTING = [
    "COMMIT",
    " commit ; ",
    "BEGIN",
    "SET autocommit = 1",
    "TRUNCATE TABLE n",
    "/* at last */ COMMIT",
    "SELECT 1; COMMIT",
    "ROLLBACK TO SAVEPOINT s; COMMIT",
    "",
    " ; ",
]
"""Or so it may be: what is not understood is told."""
ROLLBACKS = ["ROLLBACK", "rollback work;", "ROLLBACK AND CHAIN", " rollback ; "]
forms = pytest.mark.parametrize("form", [str, str.encode, lambda sql: bytearray(sql.encode())], ids=["str", "b", "ba"])


@pytest.fixture
def seen() -> Activity:
    return Activity()


@pytest.fixture
def lost(seen: Activity) -> Activity:
    """The record of a connection whose transaction the server ended, in the middle of some work."""
    seen.lost, seen.touched, seen.written, seen.unknown = "1213: deadlock", 3, 2, True
    return seen


@forms
@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("SELECT 1", "SELECT"),
        ("call p(1)", "CALL"),
        (" \n\tcommit ; ", "COMMIT"),
        ("/* not seen */ COMMIT", "/*"),
        ("  ", ""),
        ("", ""),
        (f"INSERT INTO n VALUES ({'1' * 200})", "INSERT"),
        pytest.param(f"{' ' * 94}COMMIT", "COMMIT", id="late"),
    ],
)
def test_first_word(form: type[str], sql: str, word: str) -> None:
    """In capitals, of text and bytes alike, if it is in the first 100 characters; nothing where there is none."""
    assert first_word(form(sql)) == word


def test_a_statement_need_not_be_ascii() -> None:
    """INSERT, whatever bytes are behind it."""
    assert first_word("insert 'Å'".encode("latin-1")) == "INSERT"


@forms
@pytest.mark.parametrize("sql", HARMLESS)
def test_what_commits_nothing_passes(lost: Activity, form: type[str], sql: str) -> None:
    """It passes, and makes no difference: a commit is still refused."""
    lost.refuse_after_loss(form(sql))
    with pytest.raises(TransactionLost, match="1213"):
        lost.refuse_after_loss("COMMIT")


@forms
@pytest.mark.parametrize("sql", COMMITTING)
def test_what_commits_is_refused(lost: Activity, form: type[str], sql: str) -> None:
    """TransactionLost with the server's reason, each time."""
    for _ in range(2):
        with pytest.raises(TransactionLost, match=r"^1213: deadlock [(]"):
            lost.refuse_after_loss(form(sql))


@forms
@pytest.mark.parametrize("sql", ROLLBACKS)
def test_a_rollback_ends_the_loss(lost: Activity, form: type[str], sql: str) -> None:
    """All is as new for the transaction that comes next: nothing lost, nothing done, nothing in doubt."""
    lost.refuse_after_loss(form(sql))
    assert (lost.lost, lost.touched, lost.written, lost.unknown) == (None, 0, 0, False)
    lost.refuse_after_loss("COMMIT")


@forms
@pytest.mark.parametrize("sql", [*HARMLESS, *COMMITTING])
def test_without_a_loss_everything_passes(seen: Activity, form: type[str], sql: str) -> None:
    """And what was done stays noted, until the server's reply says that the transaction is over."""
    seen.touched, seen.written = 3, 2
    seen.refuse_after_loss(form(sql))
    assert (seen.touched, seen.written) == (3, 2)


def test_a_new_connection_did_nothing(seen: Activity) -> None:
    """Nothing to wait for, to roll back, to reset or to count: so nothing is sent for its sake."""
    assert (seen.busy, seen.touched, seen.used, seen.unknown, seen.written) == (False, 0, False, False, 0)
    assert (seen.lost, seen.unfit, seen.statements, seen.seconds) == (None, None, 0, 0)


def test_a_command_ends_once(seen: Activity) -> None:
    """5 seconds up to the first end; a later one, of rows that were left, adds nothing."""
    seen.busy, seen.began = True, 2.0
    seen.ended(7.0)
    assert (seen.busy, seen.seconds) == (False, 5)
    seen.ended(20.0)
    assert seen.seconds == 5
    seen.busy, seen.began = True, 30.0
    seen.ended(30.5)
    assert seen.seconds == 5.5


def test_the_first_reason_against_a_connection_stays(seen: Activity) -> None:
    """Here "gone": neither an ordinary error behind it nor another reason makes it a different one."""
    seen.classify = lambda seen, error: str(error) or None
    seen.failed(ValueError())
    assert seen.unfit is None
    seen.failed(ValueError("gone"))
    assert seen.unfit == "gone"
    seen.failed(ValueError())
    seen.failed(ValueError("read only"))
    assert seen.unfit == "gone"


def test_an_error_is_nothing_to_a_driver_without_a_classification(seen: Activity) -> None:
    """The connection stays fit."""
    seen.failed(ValueError("gone"))
    assert seen.unfit is None
