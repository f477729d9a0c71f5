"""docs/compatibility.md agrees with these tests and with the examples.

``pytest tests/frameworks/test_page.py --update-docs`` writes the tables.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import load_cities
from frameworks.kit import FRAMEWORKS, Framework
from support.pages import Row, Table

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
PAGE = ROOT / "docs" / "compatibility.md"
EXAMPLES = Path(load_cities.__file__).parent
WHERE = {
    "test_cities.py": "its test client; Waitress",
    "test_bodies.py": "WSGI itself",
    "test_sendfile.py": "gunicorn",
}


def row(framework: Framework) -> Row:
    example = "pyramid_app.py" if framework.name == "pyramid" else f"{framework.module}.py"
    return (
        f"[{framework.title}](howto/{framework.page}.md)",
        f"[{example}](../examples/{example})",
        versions(framework),
        f"`{framework.environ}`",
        "raised" if framework.raises else "its own 500",
        "complete" if framework.length else "streamed",
        "sendfile" if framework.wrapper else "read",
        framework.tested_by,
    )


def versions(framework: Framework) -> str:
    """The versions of the framework that tox installs."""
    if framework.package is None:
        return "·"
    lowest = re.search(rf"{framework.name}-lowest: {framework.package}==([\d.]+)\.\*", (ROOT / "tox.ini").read_text())
    return f"{lowest[1]} and newest" if lowest else "newest"


def checks() -> list[Row]:
    """The tests that run with every framework, as rows of the table."""
    found: list[Row] = []
    for name, where in WHERE.items():
        for node in ast.parse((HERE / name).read_text()).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                slow = any("slow" in ast.unparse(mark) for mark in node.decorator_list)
                words = node.name.removeprefix("test_").replace("_", " ")
                found.append((words, f"{where}, under strace; once only" if slow else where))
    return found


HEADS = {
    "frameworks": (
        *("framework", "example", "versions", "where the connection is", "a handler's exception", "a page"),
        *("a download", "test client"),
    ),
    "checks": ("check", "by"),
}


@pytest.mark.parametrize("name", HEADS)
def test_a_table_is_up_to_date(name: str, pytestconfig: pytest.Config) -> None:
    """The tables on the page are current. If this fails, use --update-docs; other tests prove the cells."""
    rows = [row(framework) for framework in FRAMEWORKS.values()] if name == "frameworks" else checks()
    table = Table(PAGE, name, HEADS[name], [(cells[0], cells[1]) for cells in rows])
    if pytestconfig.getoption("update_docs"):
        table.update({(cells[0], cells[1]): cells for cells in rows})
    assert list(table.rows.values()) == rows


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=lambda framework: framework.name)
def test_an_example_gets_its_connection_as_the_page_says(framework: Framework) -> None:
    """The example and the page about the framework get the connection as the table says."""
    assert framework.environ in (EXAMPLES / f"{framework.module}.py").read_text()
    assert framework.environ in (ROOT / "docs" / "howto" / f"{framework.page}.md").read_text()


def test_tox_has_an_environment_for_each_on_every_python() -> None:
    """tox tests each framework alone on every Python, and the oldest version that is allowed where it differs."""
    tox, groups = (ROOT / "tox.ini").read_text(), (ROOT / "pyproject.toml").read_text()
    names = ",".join(FRAMEWORKS)
    assert f"py{{310,311,312,313}}-{{{names}}}\n" in tox
    group = re.search(r"^frameworks = \[\n(.*?)^\]$", groups, re.DOTALL | re.MULTILINE)
    assert group is not None
    allowed = dict(re.findall(r'"([\w.]+)>=([\d.]+)"', group[1]))
    assert set(allowed) == {framework.package for framework in FRAMEWORKS.values() if framework.package}
    for package, lowest in re.findall(r"-lowest: (\w+)==([\d.]+)\.\*", tox.partition("[testenv:py")[2]):
        assert allowed[package] == lowest
