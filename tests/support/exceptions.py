"""The laws that a driver makes impossible, each with its reason; docs/drivers.md has the same table."""

from __future__ import annotations

import pytest

EXCEPTIONS = {
    ("mysqlclient", "C3"): "a `completion_type` of CHAIN, set for the whole server, is not seen",
    ("mysqlclient", "C4"): "with autocommit, too, a statement whose words do not tell its effect costs a ROLLBACK",
    ("mysqlclient", "C5"): "connecting takes whole seconds, at least one, for each of its steps; COM_CHANGE_USER, and"
    " the rest of a reply that has begun, have `read_timeout` only",
}


def expect_failures(items: list[pytest.Item]) -> None:
    """Of a test that has the mark ``impossible(driver, law)``, what runs with that driver is to fail."""
    for item in items:
        name = getattr(getattr(item, "callspec", None), "id", "")
        for mark in item.iter_markers("impossible"):
            driver, law = mark.args
            if driver in name.split("-"):
                reason = f"{law}: {EXCEPTIONS[driver, law]}"
                item.add_marker(pytest.mark.xfail(strict=True, raises=AssertionError, reason=reason))
