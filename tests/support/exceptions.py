"""The guarantees that a driver makes impossible, each with its reason; docs/compatibility.md has the same table."""

from __future__ import annotations

import pytest

EXCEPTIONS = {
    ("mysqlclient", "C3"): "a `completion_type` of CHAIN that is set for the whole server cannot be seen",
    ("mysqlclient", "C4"): "a statement whose words do not tell its effect costs a ROLLBACK, even with autocommit",
    ("mysqlclient", "C5"): "connecting takes whole seconds, at least one for each of its steps; COM_CHANGE_USER, and"
    " the rest of a reply that has begun, are limited by `read_timeout` only",
}


def expect_failures(items: list[pytest.Item]) -> None:
    """Mark each test that has the mark ``impossible(driver, guarantee)`` as one that must fail with that driver."""
    for item in items:
        name = getattr(getattr(item, "callspec", None), "id", "")
        for mark in item.iter_markers("impossible"):
            driver, guarantee = mark.args
            if driver in name.split("-"):
                reason = f"{guarantee}: {EXCEPTIONS[driver, guarantee]}"
                item.add_marker(pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason))
