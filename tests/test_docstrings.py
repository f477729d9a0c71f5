"""The docstrings of public names: each is there, and the examples in them do what they say."""

from __future__ import annotations

import doctest
import inspect
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import wsgidb
from wsgidb import Database, DatabaseMiddleware, get_connection, paste, pytest_plugin
from wsgidb import health as health_checks
from wsgidb.health import health, readiness
from wsgidb.prometheus import Collector
from wsgidb.status import StatusApp, from_this_machine
from wsgidb.testing import SandboxDatabase

PUBLIC = {
    **{name: getattr(wsgidb, name) for name in wsgidb.__all__},
    "SandboxDatabase": SandboxDatabase,
    **{name: getattr(health_checks, name) for name in health_checks.__all__},
    "Collector": Collector,
    "StatusApp": StatusApp,
    "from_this_machine": from_this_machine,
    "filter_factory": paste.filter_factory,
    "filter_app_factory": paste.filter_app_factory,
}
SHOWN = [Database, DatabaseMiddleware, SandboxDatabase, get_connection, health, readiness, Collector, StatusApp]
"""What users call, so that a docstring has an example."""


def methods(kind: Any) -> Iterator[tuple[str, Any]]:
    """The public methods that a class defines itself, and its ``__init__``."""
    for name, value in vars(kind).items():
        if name == "__init__" or not name.startswith("_"):
            found = inspect.unwrap(getattr(value, "__func__", getattr(value, "fget", value)))
            if inspect.isfunction(found):
                yield f"{kind.__name__}.{name}", found


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_has_a_docstring_in_sentences(name: str) -> None:
    """Each begins with a capital letter and ends with a period or an example; an editor shows one alone."""
    found = [(name, PUBLIC[name])]
    if name not in ("Connection", "Cursor"):  # their methods are PEP 249's
        found += methods(PUBLIC[name]) if inspect.isclass(PUBLIC[name]) else []
    for shown, value in found:
        text = inspect.getdoc(value) or ""
        prose = text.partition("\n>>> ")[0].strip()
        assert prose[:1].isupper() or prose.startswith("`"), shown
        assert prose.endswith("."), shown


def examples(kind: Any) -> list[doctest.DocTest]:
    names = {**PUBLIC, "application": lambda environ, start_response: []}
    finder = doctest.DocTestFinder(exclude_empty=False)
    return [one for one in finder.find(kind, kind.__name__, globs=names) if one.examples]


@pytest.mark.parametrize("kind", SHOWN)
def test_the_examples_in_docstrings_run(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each example is run in an empty directory, and prints what it shows."""
    monkeypatch.setattr(os, "environ", dict(os.environ))  # one of them sets variables
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    found = examples(kind)
    assert kind.__name__ in {test.name for test in found}
    for test in found:
        directory = tmp_path / test.name
        directory.mkdir()
        monkeypatch.chdir(directory)
        assert runner.run(test).failed == 0, capsys.readouterr().out


def test_the_fixture_of_the_plugin_has_a_docstring() -> None:
    """``pytest --fixtures`` shows it."""
    assert "wsgidb.testing.SandboxDatabase" in (inspect.getdoc(pytest_plugin.wsgidb_sandbox) or "")
