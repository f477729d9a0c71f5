"""docs/servers.md against the table of servers that the tests go by; ``--update-docs`` writes it."""

from __future__ import annotations

import pytest

from servers.page import CHECKS, ROWS, TABLE
from support.server_kinds import SERVERS


def test_the_table_is_that_of_the_tests(pytestconfig: pytest.Config) -> None:
    """Every server, in order, and what it cannot do with the reason."""
    if pytestconfig.getoption("update_docs"):
        TABLE.update(ROWS)
    assert list(TABLE.rows.items()) == list(ROWS.items())


@pytest.mark.parametrize("name", SERVERS)
def test_what_a_server_cannot_do_is_something_that_is_tested(name: str) -> None:
    """A misspelt exception would be none."""
    assert set(SERVERS[name].cannot) <= set(CHECKS)
    assert SERVERS[name].shown
