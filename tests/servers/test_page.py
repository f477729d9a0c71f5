"""docs/compatibility.md agrees with the servers that the tests run; ``--update-docs`` writes its table."""

from __future__ import annotations

import pytest

from servers.page import CHECKS, ROWS, TABLE
from support.server_kinds import SERVERS


def test_the_table_is_that_of_the_tests(pytestconfig: pytest.Config) -> None:
    """The page has every server, in order, and what it cannot do with the reason."""
    if pytestconfig.getoption("update_docs"):
        TABLE.update(ROWS)
    assert list(TABLE.rows.items()) == list(ROWS.items())


@pytest.mark.parametrize("name", SERVERS)
def test_what_a_server_cannot_do_is_something_that_is_tested(name: str) -> None:
    """Each check that a server cannot pass exists, so that a misspelt one is noticed."""
    assert set(SERVERS[name].cannot) <= set(CHECKS)
    assert SERVERS[name].shown
